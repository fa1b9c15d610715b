"""The frame store: a split's frames, decoded and resized once, read back by row from one memory-mapped file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.data.cache import ELSEWHERE, cache_folder
from calot.data.geometry import Geometry
from calot.data.manifest import Manifest
from calot.data.sources import FrameSource, ImageFiles
from calot.errors import CalotError
from calot.progress import Advance

FORMAT = 1
CHUNK = 128  # frames written and journalled together
BLACK_MEAN = 5.0  # grey levels: frames darker than this are reported, never replaced
PIXELS = "frames.raw"
RECORD = "store.json"
JOURNAL = "journal.jsonl"
SHOWN = 20


@dataclass(frozen=True)
class FrameStore:
    """uint8 frames `(n, 3, size, size)`; row i is row i of the split's manifest. Cheap to pickle: workers reopen it."""

    path: Path
    split: str
    shape: tuple[int, int, int, int]
    fingerprint: str
    black: tuple[int, ...] = field(repr=False)  # rows of near-black frames
    chunks: tuple[str, ...] = field(repr=False)  # SHA-256 of every CHUNK frames

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
        """Copy rows of any shape out: `(*rows.shape, 3, size, size)`, into `out` where a buffer is at hand."""
        rows = np.asarray(rows)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"{self.path}: rows {rows.min()}..{rows.max()} asked for, there are 0..{len(self) - 1}")
        # Rows were checked: "clip" only spares numpy a second copy into `out`.
        return np.asarray(np.take(self._pixels, rows, axis=0, out=out, mode="clip"))

    def verify(self) -> None:
        """Hash every byte again. Raises CalotError naming the first rows that changed since they were written."""
        for number, expected in enumerate(self.chunks):
            start = number * CHUNK
            if hashlib.sha256(self._pixels[start : start + CHUNK].tobytes()).hexdigest() != expected:
                last = min(start + CHUNK, len(self)) - 1
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
) -> FrameStore:
    """Open the store of one split, building it first where it is not there; a build that was killed resumes.

    `workers` are threads: decoding and resizing leave Python's lock. The folder's name covers the frames and their
    order, each file's size and time, the geometry, the size and the decoder, so a change to any builds another store.
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
        split = manifest_rows.splits[0]
        plan = _Plan(
            root=root,
            split=split,
            images=images,
            frames=frames,
            geometry=geometry,
            size=size,
            home=home,
            fingerprint=fingerprint,
        )
        plan.build(workers=workers, progress=progress or _silent)
    return _open(home)


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
    frames = frames or ImageFiles(root)
    fingerprint = _fingerprint(root, manifest_rows, frames=frames, geometry=geometry, size=size)
    home = _home(root, fingerprint=fingerprint, cache=cache)
    return _open(home) if home.exists() else None


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
            f"{root}: {len(missing)} of {len(images)} frames are missing: {_listed(missing)}.{shifted} Put them there: "
            f"unpack the archive again, or copy them anew."
        )
    what = {"format": FORMAT, "geometry": repr(geometry), "size": size, "decoder": frames.decoder, "images": stated}
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _shifted(root: Path, missing: list[str], *, step: int) -> str:
    """Tell a folder whose numbers are one off (0-based against 1-based) from one with holes."""
    path = root / missing[0]
    before, mark, frame = path.stem.rpartition("_")
    if not frame.isdigit():
        return ""
    for other in (int(frame) - 1, int(frame) + 1, int(frame) // step, int(frame) // step + 1):
        beside = path.with_name(f"{before}{mark}{other}{path.suffix}")
        if beside.is_file():
            return f" There is {beside.name}: are frames numbered another way (0-based or 1-based, or by second)?"
    return ""


def _open(home: Path) -> FrameStore:
    try:
        record = json.loads((home / RECORD).read_text(encoding="utf-8"))
        shape = tuple(int(x) for x in record["shape"])
        store = FrameStore(
            path=home,
            split=record["split"],
            shape=(shape[0], shape[1], shape[2], shape[3]),
            fingerprint=record["fingerprint"],
            black=tuple(record["black"]),
            chunks=tuple(record["chunks"]),
        )
        found = (home / PIXELS).stat().st_size
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise CalotError(f"{home}: not a whole store ({error!r}). Delete the folder and build again.") from error
    if found != int(np.prod(store.shape)):
        raise CalotError(
            f"{home / PIXELS}: {found} bytes, need {int(np.prod(store.shape))}. Delete {home} and build again."
        )
    return store


@dataclass(frozen=True)
class _Chunk:
    number: int
    sha256: str
    black: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What to build and where. The work folder stands beside the final one and is renamed to it when complete."""

    root: Path
    split: str
    images: list[str]
    frames: FrameSource
    geometry: Geometry
    size: int
    home: Path
    fingerprint: str

    @property
    def work(self) -> Path:
        return self.home.with_name(f"{self.home.name}.part")

    @property
    def frame_bytes(self) -> int:
        return 3 * self.size * self.size

    @property
    def count(self) -> int:
        return -(-len(self.images) // CHUNK)

    def span(self, number: int) -> range:
        return range(number * CHUNK, min((number + 1) * CHUNK, len(self.images)))

    def build(self, *, workers: int, progress: Advance) -> None:
        try:
            self._prepare()
            done = self._resume()
            bad = self._fill(done, workers=workers, progress=progress)
            if bad:
                shutil.rmtree(self.work)
                raise CalotError(
                    f"{self.root}: {len(bad)} of {len(self.images)} frames cannot be decoded: {_listed(bad)}. "
                    f"Unpack the archive again, or copy them anew."
                )
            self._finish(done)
        except OSError as error:
            if self.home.exists():  # another process finished the same store first
                shutil.rmtree(self.work, ignore_errors=True)
            else:
                raise CalotError(
                    f"{self.work}: cannot be written ({error}). Free disk space or give {ELSEWHERE}, then "
                    "run the same again: what is built is kept."
                ) from error

    def _prepare(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        needed = len(self.images) * self.frame_bytes
        pixels = self.work / PIXELS
        written = pixels.stat().st_blocks * 512 if pixels.is_file() and hasattr(os.stat_result, "st_blocks") else 0
        free = shutil.disk_usage(self.work).free
        if needed - written > free:
            raise CalotError(
                f"{self.work}: the store of {len(self.images)} frames needs {needed / 1e9:.2f} GB, "
                f"{free / 1e9:.2f} GB are free. Free some, give {ELSEWHERE}, or use a smaller size."
            )
        with pixels.open("ab") as file:
            file.truncate(needed)

    def _resume(self) -> dict[int, _Chunk]:
        """Chunks that an earlier build journalled and whose bytes still hash to what it wrote."""
        journal = self.work / JOURNAL
        done: dict[int, _Chunk] = {}
        if not journal.is_file():
            return done
        with (self.work / PIXELS).open("rb") as pixels:
            for line in journal.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    chunk = _Chunk(number=entry["number"], sha256=entry["sha256"], black=tuple(entry["black"]))
                except (ValueError, KeyError, TypeError):
                    continue  # the line that was being written when the build was killed
                pixels.seek(self.span(chunk.number).start * self.frame_bytes)
                if (
                    hashlib.sha256(pixels.read(len(self.span(chunk.number)) * self.frame_bytes)).hexdigest()
                    == chunk.sha256
                ):
                    done[chunk.number] = chunk
        return done

    def _fill(self, done: dict[int, _Chunk], *, workers: int, progress: Advance) -> list[str]:
        """Write what is missing into `done`; returns the images that cannot be decoded."""
        bad: list[str] = []
        seen = sum(len(self.span(number)) for number in done)
        progress(seen, len(self.images))
        with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
            for number in range(self.count):
                if number in done:
                    continue
                names = [self.images[row] for row in self.span(number)]
                frames = list(self.frames.read(names, pool=pool, each=self._square))
                bad.extend(name for name, frame in zip(names, frames, strict=True) if isinstance(frame, CalotError))
                if not bad:
                    pixels = np.stack([frame for frame in frames if not isinstance(frame, CalotError)])
                    done[number] = self._write(number, pixels=pixels)
                seen += len(frames)
                progress(seen, len(self.images))
        return bad

    def _square(self, name: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        try:
            return self.geometry(image, size=self.size).transpose(2, 0, 1)
        except CalotError as error:
            raise CalotError(f"{self.root / name}: {error}") from error

    def _write(self, number: int, *, pixels: NDArray[np.uint8]) -> _Chunk:
        span = self.span(number)
        dark = np.flatnonzero(pixels.mean(axis=(1, 2, 3)) < BLACK_MEAN) + span.start
        data = pixels.tobytes()
        with (self.work / PIXELS).open("r+b") as file:
            file.seek(span.start * self.frame_bytes)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        chunk = _Chunk(number=number, sha256=hashlib.sha256(data).hexdigest(), black=tuple(dark.tolist()))
        with (self.work / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(vars(chunk)) + "\n")
        return chunk

    def _finish(self, done: dict[int, _Chunk]) -> None:
        chunks = [done[number] for number in range(self.count)]
        record = {
            "format": FORMAT,
            "split": self.split,
            "fingerprint": self.fingerprint,
            "shape": [len(self.images), 3, self.size, self.size],
            "geometry": repr(self.geometry),
            "decoder": self.frames.decoder,
            "black": [row for chunk in chunks for row in chunk.black],
            "chunks": [chunk.sha256 for chunk in chunks],
        }
        part = self.work / f"{RECORD}.{uuid.uuid4().hex[:8]}"  # another process may be finishing the same store
        part.write_text(json.dumps(record), encoding="utf-8")
        os.replace(part, self.work / RECORD)
        os.replace(self.work, self.home)
        (self.home / JOURNAL).unlink(missing_ok=True)
