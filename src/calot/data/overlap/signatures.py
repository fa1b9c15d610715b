"""The hashes of a data set's sampled frames, video by video, kept beside it: a kill costs one video."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from calot.data.cache import cache_folder, cached_file
from calot.data.digests import read_checked, with_digest
from calot.data.frames import files_as_they_are
from calot.data.overlap.hashing import BITS, Hashes, picture_hash
from calot.data.readers import DataFolder
from calot.data.sources import FrameSource, Pixels
from calot.errors import CalotError
from calot.progress import Ui

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Signatures:
    """Of each video its split and the hashes of its frames `(n, BITS)`; black and flat frames have none."""

    of: dict[str, tuple[str, Hashes]]


def signatures_of(
    folder: DataFolder,
    *,
    videos: Mapping[str, str],
    ui: Ui,
    check: Callable[[], None] | None = None,
    cache: Path | None = None,
) -> Signatures:
    """Hash every sampled frame of some videos (id -> split), or take what is kept of them.

    Unreadable frames have no hash; `calot data verify` names them. `check` is called after each video and may raise.
    """
    place, table = cache_folder(folder.root, cache) / "overlap", folder.manifest.table
    of: dict[str, tuple[str, Hashes]] = {}
    title = f"looking at {folder.manifest.dataset} for operations that are elsewhere too"
    with ui.task(title) as advance, ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for done, (video, split) in enumerate(videos.items(), 1):
            images = table.filter(pl.col("video") == video)["image"].to_list()
            of[video] = split, _hashes(folder.frames, images, place=place, pool=pool)
            advance(done, len(videos))
            if check is not None:
                check()
    return Signatures(of=of)


def _hashes(frames: FrameSource, images: list[str], *, place: Path, pool: ThreadPoolExecutor) -> Hashes:
    path = place / f"{_name(frames, images)}.json"
    if path.is_file():
        try:
            return _unpacked(read_checked(path))
        except (OSError, ValueError, TypeError, KeyError):  # damaged: hashed again, and overwritten
            pass
    read = frames.read(images, pool=pool, each=_hashed)
    found = [bits for bits in read if bits is not None and not isinstance(bits, CalotError)]
    bits = np.stack(found) if found else np.zeros((0, BITS), dtype=np.uint8)
    kept = {"bits": np.packbits(bits, axis=1).tobytes().hex(), "frames": len(bits)}
    with suppress(CalotError), cached_file(path) as new:  # a folder that nobody may write to is hashed each time
        new.write_text(with_digest(kept), encoding="utf-8")
    return bits


def _hashed(_: str, picture: Pixels) -> Hashes | None:
    return picture_hash(picture)


def _unpacked(kept: dict[str, object]) -> Hashes:
    packed = np.frombuffer(bytes.fromhex(str(kept["bits"])), dtype=np.uint8)
    rows = packed.reshape(int(str(kept["frames"])), -1)
    return np.unpackbits(rows, axis=1)[:, :BITS] if len(rows) else np.zeros((0, BITS), dtype=np.uint8)


def _name(frames: FrameSource, images: list[str]) -> str:
    return hashlib.sha256(json.dumps([_FORMAT, BITS, files_as_they_are(frames, images)]).encode()).hexdigest()[:24]
