"""Frames that cannot be read, and black ones that carry labels: an error, or declared and counted as dropped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl

from calot.config.component import Component
from calot.data.cache import cache_folder, cached_file
from calot.data.digests import read_checked, with_digest
from calot.data.manifest import Manifest
from calot.data.sources import FrameSource, Pixels
from calot.errors import CalotError
from calot.progress import Advance

_BATCH = 256

T = TypeVar("T")


@dataclass(frozen=True)
class FrameRule(Component):
    """What happens to frames that are not as they should be. Neither is ever replaced by another frame.

    `drop_unreadable`: missing, truncated and unreadable frames leave the manifest (and leave a gap that no clip
    crosses); else they are an error that names them all. `drop_black`: clips whose labelled frame is black are neither
    trained on nor scored; else they are kept and counted. Black frames stay in other clips' windows. `mixed_sizes`:
    images may be of several sizes, each brought to the model's input by the same geometry; else they are an error.
    """

    drop_unreadable: bool = False
    drop_black: bool = False
    mixed_sizes: bool = False


def unreadable_frames(
    root: Path,
    manifest: Manifest,
    *,
    frames: FrameSource,
    workers: int = 2,
    advance: Advance,
    check: Callable[[], None] | None = None,
    cache: Path | None = None,
) -> list[str]:
    """Every frame of the manifest that is missing or does not decode in full, in the manifest's order.

    The answer is kept in `ROOT/.calot/readable/` (or below `cache`) under a name that covers each file's size and time.
    """
    images = manifest.table["image"].to_list()
    path = cache_folder(root, cache) / "readable" / f"{files_as_they_are(frames, images)}.json"
    if path.is_file():
        try:
            return [str(name) for name in read_checked(path)]
        except (OSError, ValueError, TypeError):  # damaged: searched again, and overwritten
            pass
    read = read_every(frames, images, each=lambda image: None, workers=workers, advance=advance, check=check)
    bad = [image for image, found in zip(images, read, strict=True) if isinstance(found, CalotError)]
    with cached_file(path) as new:
        new.write_text(with_digest(bad), encoding="utf-8")
    return bad


def read_every(
    frames: FrameSource,
    images: list[str],
    *,
    each: Callable[[Pixels], T],
    workers: int,
    advance: Advance,
    check: Callable[[], None] | None,
) -> Iterator[T | CalotError]:
    """What `each` makes of every frame, in order, or why it cannot be read; `check` is called now and then, and may
    raise."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for start in range(0, len(images), _BATCH):
            part = images[start : start + _BATCH]
            yield from frames.read(part, pool=pool, each=lambda _, image: each(image))
            advance(start + len(part), len(images))
            if check is not None:
                check()


def without_frames(manifest: Manifest, images: list[str]) -> Manifest:
    """The manifest without some frames: another manifest, with another hash."""
    table = manifest.table.filter(~pl.col("image").is_in(images))
    if table.is_empty():
        raise CalotError(
            f"{manifest.source}: none of its {len(manifest)} frames can be read. Put the images or videos there again."
        )
    return manifest.with_table(table)


def files_as_they_are(frames: FrameSource, images: list[str]) -> str:
    """A short digest of the decoder and of each frame's file by size and time, for the name of what is kept of them."""
    stated: list[tuple[str, int, int]] = []
    for image in images:
        try:
            stat = os.stat(frames.file(image))
            stated.append((image, stat.st_size, stat.st_mtime_ns))
        except OSError:
            stated.append((image, -1, -1))
    return hashlib.sha256(json.dumps([frames.decoder, stated]).encode()).hexdigest()[:24]
