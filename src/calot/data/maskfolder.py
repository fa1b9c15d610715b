"""Folders of masks, one grey PNG per frame named `<video>_<frame>.png`: found, matched to frames, and counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from calot.criteria import IGNORED
from calot.data.filenames import frame_of
from calot.data.manifest import Manifest
from calot.errors import CalotError
from calot.identity import hidden_file

#: Class ids of `semseg/` on disk -> training classes. Gallbladder (5) and tool (6) are background; the archive's one
#: stray 7 is ignored, as 255 is.
ENDOSCAPES_CODES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 0, 6: 0, 7: IGNORED, 255: IGNORED}

#: What can be seen on a mask, by the class ids of `semseg/`: for what looks at more than training does.
SEEN_CLASSES = {
    1: "cystic_plate",
    2: "hepatocystic_triangle",
    3: "cystic_artery",
    4: "cystic_duct",
    5: "gallbladder",
    6: "tool",
}

#: Endings of pictures that hold no class ids for sure, and are refused where masks should be.
PICTURES = (".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")

#: The study's tree is `<folder>/<split>/semantic/`, with other renderings of the same masks beside it.
_SEMANTIC = "semantic"


def with_synthetic(manifest: Manifest, *, root: Path, folder: Path) -> Manifest:
    """Give frames without a mask the one that a folder (absolute, or below `root`) holds for them.

    Raises CalotError, saying what is there, where no mask of it is about a frame.
    """
    place = folder if folder.is_absolute() else root / folder
    if not place.is_dir():
        raise CalotError(
            f"{place}: no such folder of synthetic masks. Leave it out, or give the folder of <video>_<frame>.png."
        )
    found = masks_below(place)
    if not found.keys() & set(zip(manifest.videos, manifest.frames.tolist(), strict=True)):
        some = ", ".join(path.relative_to(place).as_posix() for path in list(found.values())[:3]) or "it is empty"
        raise CalotError(
            f"{place}: none of its {len(found)} masks is of a frame of {manifest.source} (first {some}). "
            "Give the folder of this data set's own, named <video>_<frame>.png."
        )
    return manifest.with_table(with_masks(manifest.table, found, root=root, source="synthetic"))


def with_masks(table: pl.DataFrame, found: dict[tuple[str, int], Path], *, root: Path, source: str) -> pl.DataFrame:
    """Fill the columns `mask` and `mask_source` of frames that have none yet; columns that are not there are made."""
    absent = [pl.lit(None, dtype=pl.String).alias(n) for n in ("mask", "mask_source") if n not in table.columns]
    new = pl.DataFrame(
        {
            "video": [video for video, _ in found],
            "frame": [frame for _, frame in found],
            "new": [_shown(path, root=root) for path in found.values()],
        },
        schema={"video": pl.String, "frame": pl.Int64, "new": pl.String},
    )
    joined = table.with_columns(absent).join(new, on=["video", "frame"], how="left", maintain_order="left")
    fresh = pl.col("mask").is_null() & pl.col("new").is_not_null()
    filled = pl.when(fresh).then(pl.lit(source)).otherwise("mask_source")
    return joined.with_columns(mask=pl.coalesce("mask", "new"), mask_source=filled).drop("new")


def masks_below(folder: Path) -> dict[tuple[str, int], Path]:
    """(video, frame) -> mask, from the names of PNGs, whatever the capitals of their ending; others are left out.

    Where a folder of the tree is called `semantic`, only what lies in such folders counts. Raises CalotError for two
    masks of one frame, for pictures that are not PNG, and where no PNG is named so.
    """
    files = sorted(_files(folder))
    if any(_SEMANTIC in path.relative_to(folder).parts[:-1] for path in files):
        files = [path for path in files if _SEMANTIC in path.relative_to(folder).parts[:-1]]
    other = [path for path in files if path.suffix.lower() in PICTURES]
    if other:
        raise CalotError(
            f"{folder}: {len(other)} of {len(files)} files are pictures other than PNG, first {other[0].name}: they "
            "hold no class ids for sure. Write masks as grey PNGs, or take these out."
        )
    found: dict[tuple[str, int], Path] = {}
    for path in files:
        frame = frame_of(path.name) if path.suffix.lower() == ".png" else None
        if frame is None:
            continue
        if frame in found:
            raise CalotError(f"{path}: frame {frame[1]} of video {frame[0]} has a mask already, {found[frame]}.")
        found[frame] = path
    if not found and (pngs := [path for path in files if path.suffix.lower() == ".png"]):
        raise CalotError(
            f"{folder}: none of its {len(pngs)} PNGs is named <video>_<frame>.png, first "
            f"{pngs[0].relative_to(folder).as_posix()}: nobody can tell whose masks they are. Name them so, or take "
            "them out."
        )
    return found


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names if not hidden_file(name))


def _shown(path: Path, *, root: Path) -> str:
    """As a manifest has it: relative to the data set where it lies inside."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.resolve().as_posix()
