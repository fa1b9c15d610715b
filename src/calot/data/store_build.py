"""How a frame store is built: chunk by chunk, journalled, resumed after a kill, put in place when complete."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calot.data.cache import ELSEWHERE
from calot.data.digests import file_digest, held_to_digest, with_digest
from calot.data.geometry import Geometry
from calot.data.sources import FrameSource
from calot.errors import CalotError
from calot.progress import Advance

FORMAT = 2
CHUNK = 128  # frames written and journalled together
BLACK_MEAN = 5.0  # grey levels: frames darker than this are reported, never replaced
PIXELS = "frames.raw"
RECORD = "store.json"
JOURNAL = "journal.jsonl"
SHOWN = 20


def listed(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def files_of(images: Sequence[str], *, frames: FrameSource) -> list[Path]:
    """The files that frames come from, each once, in their order: as many as images, or the videos."""
    return list(dict.fromkeys(frames.file(name) for name in images))


@dataclass(frozen=True)
class _Frame:
    """One image as the store keeps it, `3 size size`, and the size it had."""

    pixels: NDArray[np.uint8]
    size: tuple[int, int]


@dataclass(frozen=True)
class _Chunk:
    number: int
    sha256: str
    black: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    sources: tuple[str, ...]  # of the chunk's own files


@dataclass(frozen=True, kw_only=True)
class StoreBuild:
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

    def run(self, *, workers: int, progress: Advance) -> None:
        """Build what is missing. Raises CalotError naming every image that cannot be read."""
        try:
            self._prepare()
            done = self._resume()
            bad = self._fill(done, workers=workers, progress=progress)
            if bad:
                shutil.rmtree(self.work)
                raise CalotError(
                    f"{self.root}: {len(bad)} of {len(self.images)} frames cannot be decoded: {listed(bad)}. "
                    f"Unpack the archive again, or copy them again."
                )
            self._finish(done)
        except OSError as error:
            if self.home.exists():  # another process finished the same store first
                shutil.rmtree(self.work, ignore_errors=True)
            else:
                raise CalotError(
                    f"{self.work}: cannot be written ({error}). Free disk space or give {ELSEWHERE}, then "
                    "run the same command again: what is built is kept."
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
            for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
                chunk = self._journalled(line)
                if chunk is None:
                    continue
                pixels.seek(self.span(chunk.number).start * self.frame_bytes)
                found = pixels.read(len(self.span(chunk.number)) * self.frame_bytes)
                if hashlib.sha256(found).hexdigest() == chunk.sha256:
                    done[chunk.number] = chunk
        return done

    def _journalled(self, line: str) -> _Chunk | None:
        """A line's chunk; None for the line that was being written when the build was killed, or a damaged one."""
        try:
            entry = held_to_digest(json.loads(line))
        except (ValueError, RecursionError):
            return None
        sizes = tuple((height, width) for height, width in entry["sizes"])
        whole = {"black": tuple(entry["black"]), "sizes": sizes, "sources": tuple(entry["sources"])}
        return _Chunk(number=entry["number"], sha256=entry["sha256"], **whole)

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
                bad += [name for name, frame in zip(names, frames, strict=True) if isinstance(frame, CalotError)]
                if not bad:
                    sources = tuple(pool.map(file_digest, files_of(names, frames=self.frames)))
                    whole = [frame for frame in frames if not isinstance(frame, CalotError)]
                    done[number] = self._write(number, frames=whole, sources=sources)
                seen += len(frames)
                progress(seen, len(self.images))
        return bad

    def _square(self, name: str, image: NDArray[np.uint8]) -> _Frame:
        try:
            pixels = self.geometry(image, size=self.size).transpose(2, 0, 1)
        except CalotError as error:
            raise CalotError(f"{self.root / name}: {error}") from error
        return _Frame(pixels=pixels, size=(image.shape[0], image.shape[1]))

    def _write(self, number: int, *, frames: list[_Frame], sources: tuple[str, ...]) -> _Chunk:
        span = self.span(number)
        pixels = np.stack([frame.pixels for frame in frames])
        dark = np.flatnonzero(pixels.mean(axis=(1, 2, 3)) < BLACK_MEAN) + span.start
        data = pixels.tobytes()
        with (self.work / PIXELS).open("r+b") as file:
            file.seek(span.start * self.frame_bytes)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        chunk = _Chunk(
            number=number,
            sha256=hashlib.sha256(data).hexdigest(),
            black=tuple(dark.tolist()),
            sizes=tuple(frame.size for frame in frames),
            sources=sources,
        )
        with (self.work / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(with_digest(asdict(chunk)) + "\n")
        return chunk

    def _finish(self, done: dict[int, _Chunk]) -> None:
        chunks = [done[number] for number in range(self.count)]
        sources: dict[Path, str] = {}
        for chunk in chunks:
            files = files_of([self.images[row] for row in self.span(chunk.number)], frames=self.frames)
            sources |= dict(zip(files, chunk.sources, strict=True))
        record = {
            "format": FORMAT,
            "split": self.split,
            "fingerprint": self.fingerprint,
            "shape": [len(self.images), 3, self.size, self.size],
            "geometry": repr(self.geometry),
            "decoder": self.frames.decoder,
            "black": [row for chunk in chunks for row in chunk.black],
            "chunk_frames": CHUNK,
            "chunks": [chunk.sha256 for chunk in chunks],
            "sizes": [size for chunk in chunks for size in chunk.sizes],
            "sources": list(sources.values()),
        }
        part = self.work / f"{RECORD}.{uuid.uuid4().hex[:8]}"  # another process may be finishing the same store
        part.write_text(with_digest(record), encoding="utf-8")
        os.replace(part, self.work / RECORD)
        os.replace(self.work, self.home)
        (self.home / JOURNAL).unlink(missing_ok=True)
