"""How much each frame differs from the one before it: one number per frame, found once and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calot.data.cache import cache_folder, cached_file
from calot.data.digests import read_checked, with_digest
from calot.data.frames import files_as_they_are, read_every
from calot.data.manifest import Manifest
from calot.data.sources import FrameSource
from calot.errors import CalotError
from calot.progress import Advance

#: Side of the grey thumbnails that are compared, in pixels.
SIDE = 32


def frame_change(
    root: Path,
    manifest: Manifest,
    *,
    frames: FrameSource,
    advance: Advance,
    workers: int = 2,
    check: Callable[[], None] | None = None,
    cache: Path | None = None,
) -> NDArray[np.float64]:
    """The mean absolute difference of each row's thumbnail (0 to 1) from that of the row before; 0 at a video's start.

    Kept in `ROOT/.calot/change/` (or below `cache`) under a name that covers each file's size and time. Raises
    CalotError naming the first frame that cannot be read.
    """
    images = manifest.table["image"].to_list()
    path = cache_folder(root, cache) / "change" / f"{files_as_they_are(frames, images)}-{SIDE}.json"
    if path.is_file():
        try:
            return np.asarray(read_checked(path), dtype=np.float64)
        except (OSError, ValueError, TypeError):  # damaged: found again, and overwritten
            pass
    found: list[float] = []
    last: NDArray[np.float32] | None = None
    for thumb in read_every(frames, images, each=grey_thumbnail, workers=workers, advance=advance, check=check):
        if isinstance(thumb, CalotError):
            raise thumb
        found.append(0.0 if last is None else float(np.abs(thumb - last).mean()))
        last = thumb
    videos = np.asarray(manifest.videos)
    change = np.asarray(found)
    change[np.flatnonzero(np.concatenate([[True], videos[1:] != videos[:-1]]))] = 0.0
    with cached_file(path) as new:
        new.write_text(with_digest(change.tolist()), encoding="utf-8")
    return change


def grey_thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A frame as a grey thumbnail of `SIDE` pixels, 0 to 1."""
    small = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255)
