"""True masks: which clips have one, read at the decoder's size, their classes brought to the training classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from calot.config import fields
from calot.config.component import Component
from calot.data.cache import cache_folder, cached_file
from calot.data.clips import ClipTable
from calot.data.digests import file_digest, read_checked, spot_check, with_digest
from calot.data.geometry import Geometry
from calot.data.manifest import Manifest
from calot.data.maskfile import read_class_ids
from calot.data.maskfolder import ENDOSCAPES_CODES
from calot.data.pictures import picture_size
from calot.errors import CalotError, first_line
from calot.identity import user_path
from calot.types import IGNORED, Masks

#: Masks whose own files are looked at again on each opening.
CHECKED_FILES = 256


@dataclass(frozen=True)
class MaskSource(Component):
    """Where masks come from: the human ones of `semseg/`, and a folder of synthetic ones (`<video>_<frame>.png`).

    `synthetic` is a path, relative to the data folder or absolute; human masks win where both exist. `window` says
    which masks a clip has: those of every one of its frames, as in the study, or only the one nearest to its labelled
    frame.
    """

    synthetic: fields.Path | None = None
    window: Annotated[Literal["every", "nearest"], fields.Since("0.2.0", before="nearest")] = "every"

    @property
    def folder(self) -> Path | None:
        return None if self.synthetic is None else user_path(Path(self.synthetic))


def read_mask(
    path: Path,
    *,
    geometry: Geometry,
    size: int,
    frame_size: tuple[int, int] | None = None,
    codes: Mapping[int, int] = ENDOSCAPES_CODES,
) -> NDArray[np.uint8]:
    """One mask as training classes, `(size, size)`, seen through the same geometry as its frame.

    `codes` are class ids on disk -> training classes. Raises CalotError for an unreadable file, a class id that is none
    of them, channels that differ, or a size other than `frame_size` (height, width).
    """
    raw = read_class_ids(path)
    if frame_size is not None and raw.shape != frame_size:
        raise CalotError(
            f"{path}: the mask is {raw.shape[0]} x {raw.shape[1]}, its frame {frame_size[0]} x {frame_size[1]}. "
            "A mask has its frame's size: write it again."
        )
    unknown = sorted(set(np.unique(raw).tolist()) - set(codes))
    if unknown:
        raise CalotError(
            f"{path}: class ids {unknown} are unknown; have {', '.join(map(str, sorted(codes)))} (Endoscapes: "
            "0 background, 1 cystic plate, 2 triangle, 3 artery, 4 duct, 5 gallbladder, 6 tool, 255 ignored). Write "
            "the mask again."
        )
    table = np.full(256, IGNORED, dtype=np.uint8)
    table[list(codes)] = list(codes.values())
    return geometry.resize_mask(table[raw.astype(np.uint8)], size=size)


@dataclass(frozen=True, eq=False)
class ClipMasks:
    """For every clip of a table the masks of its frames, each mask once, the one nearest to the labelled frame first.

    Of two masks equally near the older comes first (it needs no look ahead). Cheap to pickle: workers reopen the file.
    """

    path: Path  # all masks of the split, `(masks, size, size)`
    labelled_place: int
    sources: tuple[str, ...] = field(repr=False)  # of each mask
    which: NDArray[np.int64] = field(repr=False)  # n m: each clip's masks, -1 where none
    place: NDArray[np.int64] = field(repr=False)  # n m: the clip's frame each belongs to; the labelled one where none
    real: NDArray[np.bool_] = field(repr=False)  # n: whether the clip holds a mask that is not synthetic

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_values"}

    @cached_property
    def _values(self) -> NDArray[np.uint8]:
        return np.asarray(np.load(self.path, mmap_mode="r"))

    def coverage(self) -> dict[str, float]:
        """Share of clips with a mask, by source, in all, and what it would be without synthetic masks."""
        kinds = [self.sources[i] if i >= 0 else None for i in self.which[:, 0].tolist()]
        shares = {kind: kinds.count(kind) / len(kinds) for kind in sorted(set(self.sources))}
        return shares | {"all": float((self.which[:, 0] >= 0).mean()), "without synthetic": float(self.real.mean())}

    def summary(self) -> dict[str, Any]:
        """For data.json: clips, masks by source, `coverage`, and a digest of the masks and of whose they are."""
        digest = hashlib.sha256()
        for part in (self._values, self.which, self.place):
            digest.update(np.ascontiguousarray(part).data)
        counts = {kind: self.sources.count(kind) for kind in sorted(set(self.sources))}
        return {
            "clips": len(self.which),
            "masks": counts,
            "coverage": self.coverage(),
            "digest": digest.hexdigest(),
        }

    def read(self, clips: NDArray[np.int64]) -> Masks:
        """The masks of some clips, in as many layers as the most of them have."""
        layers = max(1, int((self.which[clips] >= 0).sum(axis=1).max(initial=1)))
        which = self.which[clips, :layers]
        values = np.full((*which.shape, *self._values.shape[1:]), IGNORED, dtype=np.uint8)
        values[which >= 0] = self._values[which[which >= 0]]
        return Masks(
            values=torch.from_numpy(values),
            weight=torch.from_numpy((which >= 0).astype(np.float32)),
            place=torch.from_numpy(self.place[clips, :layers]),
            complete=torch.from_numpy(which[:, 0] >= 0),
        )


def open_masks(
    root: Path,
    table: ClipTable,
    manifest: Manifest,
    *,
    geometry: Geometry,
    size: int,
    labelled_place: int,
    nearest_only: bool = False,
    codes: Mapping[int, int] = ENDOSCAPES_CODES,
    cache: Path | None = None,
) -> ClipMasks:
    """Find each clip's masks, or only the one nearest to its labelled frame, and read all masks of the split, once.

    `manifest` is that of the table's split. They are kept in `ROOT/.calot/masks/` (or below `cache`) under a name that
    covers each file's path, size and time and the geometry.
    Raises CalotError naming the first mask that is unreadable, of another size than its frame, or of unknown classes.
    """
    rows = manifest.table.with_row_index("row").filter(pl.col("mask").is_not_null())
    names, images = rows["mask"].to_list(), rows["image"].to_list()
    stated = [(name, s.st_size, s.st_mtime_ns) for name in names for s in [(root / name).stat()]]
    what = json.dumps([1, repr(geometry), size, sorted(codes.items()), stated])
    path = cache_folder(root, cache) / "masks" / f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.npy"
    if not path.is_file() or not path.with_suffix(".json").is_file():
        with ThreadPoolExecutor() as pool:
            read = partial(_read_beside, root=root, geometry=geometry, size=size, codes=codes)
            masks = list(pool.map(read, names, images))
            files = list(pool.map(file_digest, [root / name for name in names]))
        stacked = np.stack(masks) if masks else np.zeros((0, size, size), dtype=np.uint8)
        with cached_file(path) as part, part.open("wb") as stream:
            np.save(stream, stacked)
        kept = {"sha256": _digest(stacked), "names": names, "files": files}
        with cached_file(path.with_suffix(".json")) as part:
            part.write_text(with_digest(kept), encoding="utf-8")
    _verify(path, root=root, count=CHECKED_FILES)
    mask_of_row = np.full(len(manifest), -1, dtype=np.int64)
    mask_of_row[rows["row"].to_numpy()] = np.arange(len(names))
    of_frame = mask_of_row[table.frames]
    which, place = _in_windows(of_frame, labelled_place=labelled_place, most=1 if nearest_only else None)
    sources = rows["mask_source"].to_list()
    real = np.array([source != "synthetic" for source in [*sources, "synthetic"]])  # the last for frames without one
    of_clip = np.asarray(real[of_frame].any(axis=1))
    return ClipMasks(path, labelled_place, tuple(sources), which, place, of_clip)


def _in_windows(
    of_frame: NDArray[np.int64], *, labelled_place: int, most: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each clip's masks `(n, m)` and their frames' places, nearest first, from its frames' masks `(n, t)`; -1 is none.

    A frame that is repeated to fill a clip has its mask once.
    """
    frames = of_frame.shape[1]
    order = np.argsort(np.abs(np.arange(frames) - labelled_place), kind="stable")
    found = of_frame[:, order]
    earlier = np.tri(frames, k=-1, dtype=np.bool_)
    again = ((found[:, :, None] == found[:, None, :]) & earlier).any(axis=2)
    new = (found >= 0) & ~again
    count = max(1, int(new.sum(axis=1).max(initial=1))) if most is None else most
    first = np.argsort(~new, axis=1, kind="stable")[:, :count]
    there = np.take_along_axis(new, first, axis=1)
    which = np.where(there, np.take_along_axis(found, first, axis=1), -1)
    return which, np.where(there, order[first], labelled_place).astype(np.int64)


def verify_masks(root: Path, *, cache: Path | None = None) -> int:
    """Hold every kept file of masks, and all files it was read from, to their digests; returns how many there are."""
    paths = sorted((cache_folder(root, cache) / "masks").glob("*.npy"))
    for path in paths:
        _verify(path, root=root, count=None)
    return len(paths)


def _verify(path: Path, *, root: Path, count: int | None) -> None:
    """The whole array, which is small, and the files it was read from or some of them."""
    remedy = f"Delete {path}: the masks are then read again."
    try:
        kept = read_checked(path.with_suffix(".json"))
        same = _digest(np.load(path, mmap_mode="r")) == kept["sha256"]
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        raise CalotError(f"{path}: damaged ({first_line(error)}). {remedy}") from error
    if not same:
        raise CalotError(f"{path}: damaged (its masks are not those that were read). {remedy}")
    files = [root / name for name in kept["names"]]
    spot_check(files, kept["files"], count=count, rng=np.random.default_rng(), remedy=remedy)


def _digest(masks: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(masks).data).hexdigest()


def _read_beside(
    name: str, image: str, *, root: Path, geometry: Geometry, size: int, codes: Mapping[int, int]
) -> NDArray[np.uint8]:
    try:
        frame_size = picture_size(root / image)
    except CalotError as error:
        raise CalotError(f"{error} (its mask {name} needs its size)") from error
    return read_mask(root / name, geometry=geometry, size=size, frame_size=frame_size, codes=codes)
