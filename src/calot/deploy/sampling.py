"""An operation's frames, one for each second, read from its recordings in one pass that a kill does not lose.

The frame of a second is the one on the screen then. It is kept as the model takes it, in a work folder, beside a
journal of what was seen; the full frames are not kept.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.data.digests import held_to_digest, with_digest
from calot.data.frame_change import SIDE, grey_thumbnail
from calot.data.geometry import Geometry
from calot.data.sources import EPSILON, Pixels
from calot.data.store_build import BLACK_MEAN, JOURNAL, PIXELS
from calot.deploy.colour import red_over_green
from calot.deploy.faults import Fault, FaultWatch
from calot.deploy.recording import SeenFrame, Undecodable, decoded_recording, stated_seconds
from calot.errors import CalotError
from calot.progress import Advance
from calot.writing import clear_disk_errors, write_text

#: Sampled frames written and journalled together.
_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class SampledFrame:
    """One second of an operation: `second` counts from its start, `time` (seconds) from that of its file, which is
    number `file` on the command line, from 1. `red` is red over green, `change` that of thumbnails."""

    second: int
    file: int
    time: float
    black: bool
    red: float
    change: float
    corrupt: bool


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What one recording of an operation came to: where it begins in the operation and how long it is (seconds), how
    many frames were decoded, its pictures' height and width, the usual frames per second."""

    number: int
    begins: float
    seconds: float
    frames: int
    size: tuple[int, int]
    rate: float
    faults: tuple[Fault, ...]  # in the operation's time


@dataclass(frozen=True, kw_only=True)
class SampledOperation:
    """Every second of an operation that there is a frame of, in order, and the recordings it came from."""

    frames: tuple[SampledFrame, ...]
    files: tuple[FileFacts, ...]

    @property
    def seconds(self) -> float:
        """When the last recording ends."""
        return self.files[-1].begins + self.files[-1].seconds


@dataclass(eq=False)
class _Place:
    """How far one file was read: what the next frame needs to know."""

    file: int
    begins: float
    second: int  # the next one to be sampled
    watch: FaultWatch = field(default_factory=FaultWatch)
    shown: float | None = None  # when the frame on the screen appeared
    frames: int = 0
    length: float = 0.0
    thumb: NDArray[np.float32] | None = None

    def to_json(self) -> dict[str, Any]:
        thumb = None if self.thumb is None else base64.b64encode(self.thumb.tobytes()).decode("ascii")
        return vars(self) | {"watch": self.watch.to_json(), "thumb": thumb}

    @classmethod
    def from_json(cls, stated: dict[str, Any]) -> _Place:
        data = stated["thumb"]
        thumb = None if data is None else np.frombuffer(base64.b64decode(data), np.float32).reshape(SIDE, SIDE)
        return cls(**stated | {"watch": FaultWatch.from_json(stated["watch"]), "thumb": thumb})

    @property
    def end(self) -> float:
        """When the frame on the screen leaves it, as far as is known: seconds of the file."""
        return (self.shown or 0.0) + max(self.length, self.watch.usual_step)


@dataclass(eq=False, kw_only=True)
class OperationReader:
    """Reads recordings, one operation in order, into a work folder; continues what an earlier start began.

    `seamless` says that a file continues where the one before it ended; else each begins on a second of its own.
    `changes` asks for how much the picture changes from second to second. `check` is called often and may raise.
    """

    recordings: Sequence[Path]
    work: Path
    geometry: Geometry
    size: int
    seamless: bool = False
    changes: bool = False
    check: Callable[[], None] = lambda: None
    _waiting: list[tuple[SampledFrame, NDArray[np.uint8]]] = field(default_factory=list)
    _rows: list[SampledFrame] = field(default_factory=list)
    _files: list[FileFacts] = field(default_factory=list)

    def read(self, advance: Advance) -> SampledOperation:
        """Every second of the operation. Raises CalotError where a file is not a video or holds no whole frame."""
        stated = [stated_seconds(path) for path in self.recordings]
        total = math.ceil(sum(seconds or 0.0 for seconds in stated))
        with clear_disk_errors(self.work):
            place = self._resume()
            while place is not None and place.file <= len(self.recordings):
                self._read_file(place, stated=stated[place.file - 1], told=lambda s: advance(min(int(s), total), total))
                place = self._next(place)
        return SampledOperation(frames=tuple(self._rows), files=tuple(self._files))

    def _next(self, place: _Place) -> _Place:
        """Where the file after a finished one begins."""
        end = self._files[-1].begins + self._files[-1].seconds
        begins = end if self.seamless else float(math.ceil(end - EPSILON))
        thumb = place.thumb if self.seamless else None
        return _Place(file=place.file + 1, begins=begins, second=math.ceil(begins - EPSILON), thumb=thumb)

    def _read_file(self, place: _Place, *, stated: float | None, told: Callable[[float], None]) -> None:
        path = self.recordings[place.file - 1]
        shown: SeenFrame | None = None
        for seen in decoded_recording(path, after=place.shown):
            if isinstance(seen, Undecodable):
                if shown is not None or place.shown is None:  # else said before the kill
                    place.watch.lost(seen.time)
                continue
            if place.shown is not None and shown is None:
                if abs(seen.time - place.shown) > EPSILON:
                    raise CalotError(f"{path}: changed while it was read. Delete {self.work} and start again.")
                shown = seen
                continue
            if shown is not None:
                self._sample(place, shown, until=seen.time, gap=place.watch.is_gap(seen.time - shown.time))
            place.watch.see(seen)
            shown, place.shown, place.length, place.frames = seen, seen.time, seen.length, place.frames + 1
            if len(self._waiting) >= _CHUNK:
                self._write(place, facts=None)
                told(place.begins + seen.time)
                self.check()
        if shown is None:
            raise CalotError(f"{path}: not one frame of it can be decoded. Copy it again.")
        self._sample(place, shown, until=place.end - EPSILON, gap=False)
        self._write(place, facts=self._facts(place, shown=shown, stated=stated))

    def _sample(self, place: _Place, shown: SeenFrame, *, until: float, gap: bool) -> None:
        """Keep the frame for every second that it is on the screen; in a gap, for no longer than it usually is."""
        seen_again = until
        until = min(until, shown.time + place.watch.usual_step) if gap else until
        while place.second - place.begins < until - EPSILON:
            self._waiting.append(self._kept(place, shown))
            place.second += 1
        if gap:  # nothing was on the screen in the seconds up to the next frame
            place.second = max(place.second, math.ceil(place.begins + seen_again - EPSILON))

    def _kept(self, place: _Place, shown: SeenFrame) -> tuple[SampledFrame, NDArray[np.uint8]]:
        image: Pixels = shown.pixels()
        square = self.geometry(image, size=self.size)
        change = 0.0
        if self.changes:
            thumb = grey_thumbnail(image)
            change = 0.0 if place.thumb is None else float(np.abs(thumb - place.thumb).mean())
            place.thumb = thumb
        row = SampledFrame(
            second=place.second,
            file=place.file,
            time=round(place.second - place.begins, 6),
            black=bool(square.mean() < BLACK_MEAN),
            red=round(red_over_green(square), 4),
            change=change,
            corrupt=shown.corrupt,
        )
        return row, square.transpose(2, 0, 1)

    def _facts(self, place: _Place, *, shown: SeenFrame, stated: float | None) -> FileFacts:
        height, width = shown.size if round(shown.rotation / 90) % 2 == 0 else shown.size[::-1]
        faults = place.watch.finish(end=place.end, stated=stated)
        usual = place.watch.usual_step
        return FileFacts(
            number=place.file,
            begins=round(place.begins, 6),
            seconds=round(place.end, 6),
            frames=place.frames,
            size=(height, width),
            rate=round(1 / usual, 3) if usual else 0.0,
            faults=tuple(fault.later(place.begins) for fault in faults),
        )

    def _write(self, place: _Place, *, facts: FileFacts | None) -> None:
        """Put what waits on disk, then a line in the journal: a kill in between loses the line, and nothing else."""
        rows = [row for row, _ in self._waiting]
        data = np.stack([pixels for _, pixels in self._waiting]).tobytes() if self._waiting else b""
        with (self.work / PIXELS).open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        line = {
            "rows": [asdict(row) for row in rows],
            "sha256": hashlib.sha256(data).hexdigest(),
            "place": place.to_json(),
            "facts": None if facts is None else asdict(facts),
        }
        with (self.work / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(with_digest(line) + "\n")
        self._take(rows, facts=facts)

    def _take(self, rows: list[SampledFrame], *, facts: FileFacts | None) -> None:
        self._rows += rows
        self._files += [] if facts is None else [facts]
        self._waiting.clear()

    def _resume(self) -> _Place | None:
        """The place that the journal reaches to; pixels and lines behind it, half written, are cut off."""
        place, lines, size = _Place(file=1, begins=0.0, second=0), [], 0
        pixels = self.work / PIXELS
        pixels.touch()
        with pixels.open("rb") as file:
            for text, line in self._journalled():
                data = file.read(len(line["rows"]) * 3 * self.size * self.size)
                if hashlib.sha256(data).hexdigest() != line["sha256"]:
                    break
                facts = None if line["facts"] is None else _facts_of(line["facts"])
                self._take([SampledFrame(**row) for row in line["rows"]], facts=facts)
                place, size = _Place.from_json(line["place"]), size + len(data)
                place = place if facts is None else self._next(place)
                lines.append(text)
        os.truncate(pixels, size)
        write_text(self.work / JOURNAL, "".join(f"{text}\n" for text in lines))
        return place

    def _journalled(self) -> Iterator[tuple[str, dict[str, Any]]]:
        journal = self.work / JOURNAL
        if not journal.is_file():
            return
        for text in journal.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                yield text, held_to_digest(json.loads(text))
            except (ValueError, RecursionError):  # the line that was being written
                return


def _facts_of(stated: dict[str, Any]) -> FileFacts:
    faults = tuple(Fault(**fault) for fault in stated["faults"])
    return FileFacts(**stated | {"size": tuple(stated["size"]), "faults": faults})
