"""The frame store: a split's frames, decoded and resized once, read back by row from one memory-mapped file."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.data.cache import cache_folder
from calot.data.digests import read_checked, spot_check
from calot.data.geometry import Geometry
from calot.data.manifest import Manifest
from calot.data.sources import FrameSource, ImageFiles
from calot.data.store_build import FORMAT, PIXELS, RECORD, StoreBuild, files_of, listed
from calot.errors import CalotError
from calot.progress import Advance

#: What each opening checks: this many bytes of pixels and files, chosen afresh each time. `--verify`: all.
CHECKED_BYTES, CHECKED_FILES = 256 << 20, 256

_checked: set[tuple[str, int, int]] = set()  # stores that this process has looked at, as they were then


@dataclass(frozen=True)
class FrameStore:
    """uint8 frames `(n, 3, size, size)`; row i is row i of the split's manifest. Cheap to pickle: workers reopen it."""

    path: Path
    split: str
    shape: tuple[int, int, int, int]
    fingerprint: str
    black: tuple[int, ...] = field(repr=False)  # rows of near-black frames
    chunk_frames: int
    chunks: tuple[str, ...] = field(repr=False)  # SHA-256 of every `chunk_frames` frames
    sizes: tuple[tuple[int, int], ...] = field(repr=False)  # of each image, before it was resized: height, width
    sources: tuple[str, ...] = field(repr=False)  # a digest of each file that frames came from, in their order

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def digest(self) -> str:
        """One SHA-256 over the chunks' own: that of the pixels, wherever the store lies."""
        return hashlib.sha256("".join(self.chunks).encode()).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_pixels"}

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        return np.memmap(self.path / PIXELS, dtype=np.uint8, mode="r", shape=self.shape)

    def read(self, rows: NDArray[Any], *, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Copy rows of any shape out: `(*rows.shape, 3, size, size)`, into `out` if a buffer is given."""
        rows = np.asarray(rows)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"{self.path}: rows {rows.min()}..{rows.max()} asked for, there are 0..{len(self) - 1}")
        # Rows were checked: "clip" only spares numpy a second copy into `out`.
        return np.asarray(np.take(self._pixels, rows, axis=0, out=out, mode="clip"))

    def verify(self) -> None:
        """Hash every byte again. Raises CalotError naming the first rows that changed since they were written."""
        for number in range(len(self.chunks)):
            self._verify(number)

    def verify_some(self, *, rng: np.random.Generator) -> None:
        """The same for at most `CHECKED_BYTES`, in chunks chosen at random."""
        count = max(1, CHECKED_BYTES // (self.chunk_frames * int(np.prod(self.shape[1:]))))
        for number in rng.permutation(len(self.chunks))[:count].tolist():
            self._verify(number)

    def _verify(self, number: int) -> None:
        start = number * self.chunk_frames
        if hashlib.sha256(self._pixels[start : start + self.chunk_frames].tobytes()).hexdigest() != self.chunks[number]:
            last = min(start + self.chunk_frames, len(self)) - 1
            raise CalotError(
                f"{self.path / PIXELS}: rows {start}..{last} were damaged. Delete {self.path} and build again."
            )


def open_store(
    root: Path,
    manifest_rows: Manifest,
    *,
    geometry: Geometry,
    size: int,
    frames: FrameSource | None = None,
    cache: Path | None = None,
    workers: int = 1,
    progress: Advance | None = None,
    mixed_sizes: bool = False,
) -> FrameStore:
    """Open the store of one split, building it first where it is not there; a build that was killed resumes.

    `workers` are threads: decoding and resizing leave Python's lock. The folder's name covers the frames and their
    order, each file's size and time, the geometry, the size and the decoder, so a change to any builds another store.
    What is opened is checked in part against digests of its pixels and of its source files. Images of several sizes
    are refused unless `mixed_sizes` declares them.
    `frames` is where pixels are: image files below `root`, unless a reader says otherwise.
    `cache` is a folder in place of `ROOT/.calot`, which cannot be written where a data set is shared read-only.
    """
    if len(manifest_rows.splits) != 1:
        raise CalotError(f"A store holds one split, the manifest has {manifest_rows.splits}. Use manifest.split(name).")
    images = manifest_rows.table["image"].to_list()
    frames = frames or ImageFiles(root)
    fingerprint = _fingerprint(root, manifest_rows, frames=frames, geometry=geometry, size=size)
    home = _home(root, fingerprint=fingerprint, cache=cache)
    if not home.exists():
        build = StoreBuild(
            root=root,
            split=manifest_rows.splits[0],
            images=images,
            frames=frames,
            geometry=geometry,
            size=size,
            home=home,
            fingerprint=fingerprint,
        )
        build.run(workers=workers, progress=progress or _silent)
        _checked.add(_now(home))
    store = _checked_once(_open(home, fingerprint=fingerprint), files=files_of(images, frames=frames))
    if not mixed_sizes:
        require_one_size(store, root=root, images=images)
    return store


def find_store(
    root: Path,
    manifest_rows: Manifest,
    *,
    geometry: Geometry,
    size: int,
    frames: FrameSource | None = None,
    cache: Path | None = None,
) -> FrameStore | None:
    """Open the store of one split where it was built before; never builds."""
    images = manifest_rows.table["image"].to_list()
    frames = frames or ImageFiles(root)
    fingerprint = _fingerprint(root, manifest_rows, frames=frames, geometry=geometry, size=size)
    home = _home(root, fingerprint=fingerprint, cache=cache)
    if not home.exists():
        return None
    return _checked_once(_open(home, fingerprint=fingerprint), files=files_of(images, frames=frames))


def verify_store(store: FrameStore, *, manifest_rows: Manifest, frames: FrameSource) -> None:
    """Read every stored byte and every image's file again; raises CalotError naming the first that changed."""
    store.verify()
    _verify_files(store, files=files_of(manifest_rows.table["image"].to_list(), frames=frames), count=None)


def require_one_size(store: FrameStore, *, root: Path, images: Sequence[str]) -> None:
    """Refuse images of another size than most of their split, naming them: each size is resized differently."""
    usual, usual_count = Counter(store.sizes).most_common(1)[0]
    if usual_count == len(store):
        return
    odd = [f"{image} ({h} x {w})" for image, (h, w) in zip(images, store.sizes, strict=True) if (h, w) != usual]
    raise CalotError(
        f"{root}: {len(odd)} of {len(store)} images of {store.split} have another size than the set's {usual[0]} x "
        f"{usual[1]} (height x width): {listed(odd)}. Put the right ones there, or declare that sizes differ: "
        f"frames.mixed_sizes=True in training, --mixed-sizes for calot data store."
    )


def require_equal_sizes(stores: Iterable[FrameStore], *, root: Path) -> None:
    """Refuse splits whose images differ in size from each other."""
    usual = {store.split: Counter(store.sizes).most_common(1)[0][0] for store in stores}
    if len(set(usual.values())) > 1:
        said = ", ".join(f"{split} {height} x {width}" for split, (height, width) in usual.items())
        raise CalotError(
            f"{root}: the images of its splits have other sizes (height x width): {said}. Put the right ones there, or "
            "declare that sizes differ: frames.mixed_sizes=True."
        )


def _home(root: Path, *, fingerprint: str, cache: Path | None) -> Path:
    return cache_folder(root, cache) / "store" / fingerprint[:24]


def _silent(done: int, total: int) -> None:
    """Report nothing."""


def _fingerprint(root: Path, rows: Manifest, *, frames: FrameSource, geometry: Geometry, size: int) -> str:
    images = rows.table["image"].to_list()
    stated, missing = [], []
    for image in images:
        try:
            stat = os.stat(frames.file(image))
        except OSError:
            missing.append(image)
        else:
            stated.append((image, stat.st_size, stat.st_mtime_ns))
    if missing:
        shifted = _shifted(root, missing, step=rows.numbering.step)
        raise CalotError(
            f"{root}: {len(missing)} of {len(images)} frames are missing: {listed(missing)}.{shifted} Put them there: "
            f"unpack the archive again, or copy them again."
        )
    what = {"format": FORMAT, "geometry": repr(geometry), "size": size, "decoder": frames.decoder, "images": stated}
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _shifted(root: Path, missing: list[str], *, step: int) -> str:
    """Distinguish a folder whose numbers are off by one (0-based against 1-based) from one with gaps."""
    path = root / missing[0]
    before, mark, frame = path.stem.rpartition("_")
    if not frame.isdigit():
        return ""
    for other in (int(frame) - 1, int(frame) + 1, int(frame) // step, int(frame) // step + 1):
        beside = path.with_name(f"{before}{mark}{other}{path.suffix}")
        if beside.is_file():
            return f" There is {beside.name}: are frames numbered another way (0-based or 1-based, or by second)?"
    return ""


def _open(home: Path, *, fingerprint: str) -> FrameStore:
    try:
        record = read_checked(home / RECORD)
        shape = tuple(int(x) for x in record["shape"])
        store = FrameStore(
            path=home,
            split=record["split"],
            shape=(shape[0], shape[1], shape[2], shape[3]),
            fingerprint=record["fingerprint"],
            black=tuple(record["black"]),
            chunk_frames=record["chunk_frames"],
            chunks=tuple(record["chunks"]),
            sizes=tuple((height, width) for height, width in record["sizes"]),
            sources=tuple(record["sources"]),
        )
        found = (home / PIXELS).stat().st_size
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise CalotError(f"{home}: not a whole store ({error!r}). Delete the folder and build again.") from error
    if store.fingerprint != fingerprint:
        raise CalotError(f"{home}: a store of other frames is here. Delete the folder and build again.")
    if found != int(np.prod(store.shape)):
        raise CalotError(
            f"{home / PIXELS}: {found} bytes, need {int(np.prod(store.shape))}. Delete {home} and build again."
        )
    return store


def _checked_once(store: FrameStore, *, files: list[Path]) -> FrameStore:
    """Check a part of a store and of its source files, once in this process."""
    if _now(store.path) not in _checked:
        store.verify_some(rng=np.random.default_rng())
        _verify_files(store, files=files, count=CHECKED_FILES)
        _checked.add(_now(store.path))
    return store


def _now(home: Path) -> tuple[str, int, int]:
    stat = (home / PIXELS).stat()
    return str(home.resolve()), stat.st_mtime_ns, stat.st_ino


def _verify_files(store: FrameStore, *, files: list[Path], count: int | None) -> None:
    remedy = f"Copy the right one there; or, if it is right now, delete {store.path} and build again."
    spot_check(files, store.sources, count=count, rng=np.random.default_rng(), remedy=remedy)
