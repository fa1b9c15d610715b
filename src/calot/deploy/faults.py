"""What is wrong with a recording, found while it is decoded: each fault with its span, in seconds of its file."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.deploy.recording import SeenFrame

#: Grey levels (of 256, mean over the picture) up to which a picture is the same one as before: compression's noise.
STILL_LEVELS = 0.6
#: A picture that stays the same for so many seconds is frozen.
FROZEN_SECONDS = 3.0
#: A cut changes the picture by more grey levels than this, and by so many times the usual change between pictures.
CUT_LEVELS, CUT_TIMES = 20.0, 4.0
#: How many changes the usual one is the median of, and how many it takes at least.
_RECENT, _FEWEST = 24, 5
#: Nothing for longer than this (seconds), and than so many usual distances between frames, is a gap.
GAP_SECONDS, GAP_TIMES = 1.0, 4.0
#: Frames come at another rate where their distance differs from the usual by more than this share.
RATE_SHARE = 0.2
#: So many such frames make a variable rate.
_FEWEST_ODD = 3
#: Mean brightness (of 256; video's black is 16) below which the picture is too dark to tell a cut.
_DARK = 24.0
#: Files whose pictures end so many seconds before what they state were cut short.
TRUNCATED_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong (`kind`), from when to when, and in words."""

    kind: str
    start: float
    end: float
    note: str

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "start": round(self.start, 3), "end": round(self.end, 3), "note": self.note}

    def later(self, seconds: float) -> Fault:
        """The same in the time of an operation in which its file begins after `seconds`."""
        return Fault(kind=self.kind, start=self.start + seconds, end=self.end + seconds, note=self.note)


@dataclass(eq=False)
class FaultWatch:
    """Looks at every frame of one file in turn; its state can be written down and taken up again."""

    faults: list[Fault] = field(default_factory=list)
    last: NDArray[np.uint8] | None = None
    last_time: float = 0.0
    anchor: NDArray[np.uint8] | None = None
    anchor_time: float = 0.0
    size: tuple[int, int] | None = None
    rotation: int | None = None
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    steps: dict[float, list[float]] = field(default_factory=dict)  # distance -> count, first time, last time
    undecodable: list[float] = field(default_factory=list)

    def see(self, frame: SeenFrame) -> None:
        """Take in the next frame."""
        self._see_form(frame)
        if self.last is None or self.last.shape != frame.luma.shape:
            self._thaw(frame.time)
            self.anchor, self.anchor_time = frame.luma, frame.time
        else:
            self._see_change(frame)
        if frame.corrupt:
            self.undecodable.append(frame.time)
        self.last, self.last_time = frame.luma, frame.time

    def lost(self, time: float) -> None:
        """Something after `time` could not be decoded."""
        self.undecodable.append(time)

    @property
    def usual_step(self) -> float:
        """The median distance between frames so far, in seconds; 0 before the second frame."""
        total = sum(counted[0] for counted in self.steps.values())
        passed = 0.0
        for step in sorted(self.steps):
            passed += self.steps[step][0]
            if 2 * passed >= total:
                return step
        return 0.0

    def is_gap(self, step: float) -> bool:
        """Whether a distance between two frames is a gap in the recording."""
        return step > GAP_SECONDS and step > GAP_TIMES * self.usual_step

    def finish(self, *, end: float, stated: float | None) -> list[Fault]:
        """All faults of the file, in order, given when its last frame leaves the screen and how long the file says that
        it is."""
        self._thaw(end)
        found = [*self.faults, *self._rate(), *self._undecodable()]
        if stated is not None and stated - end > TRUNCATED_SECONDS:
            note = f"ends at {end:.1f} s of the {stated:.1f} s that the file states: it was cut short; copy it again"
            found.append(Fault(kind="truncated", start=end, end=stated, note=note))
        return sorted(found, key=lambda fault: (fault.start, fault.kind))

    def _see_form(self, frame: SeenFrame) -> None:
        """Turned, interlaced and changing pictures."""
        first, upto = self.last is None, {"start": frame.time, "end": frame.time}
        if frame.rotation != (self.rotation or 0):
            note = f"the file asks for a turn by {frame.rotation} degrees counterclockwise, which was done"
            self.faults.append(Fault(kind="rotated", **upto, note=note))
        if first and frame.interlaced:
            self.faults.append(Fault(kind="interlaced", **upto, note="frames hold two half pictures each"))
        if not first and frame.size != self.size and self.size is not None:
            note = f"the picture changes from {self.size[0]} x {self.size[1]} to {frame.size[0]} x {frame.size[1]}"
            self.faults.append(Fault(kind="size", **upto, note=note))
        self.size, self.rotation = frame.size, frame.rotation

    def _see_change(self, frame: SeenFrame) -> None:
        assert self.last is not None
        assert self.anchor is not None
        step = round(frame.time - self.last_time, 6)
        if self.is_gap(step):
            self._thaw(self.last_time)
            note = f"no picture for {step:.1f} s"
            self.faults.append(Fault(kind="gap", start=self.last_time + self.usual_step, end=frame.time, note=note))
            self.anchor, self.anchor_time = frame.luma, frame.time
            return
        counted = self.steps.setdefault(step, [0, frame.time, frame.time])
        counted[0], counted[2] = counted[0] + 1, frame.time
        change = _difference(frame.luma, self.last)
        if self._is_cut(change, frame=frame):
            note = f"the picture jumps ({change:.0f} grey levels from one frame to the next)"
            self.faults.append(Fault(kind="cut", start=frame.time, end=frame.time, note=note))
        if change > STILL_LEVELS:
            self.recent.append(round(change, 4))
        if _difference(frame.luma, self.anchor) > STILL_LEVELS:
            self._thaw(frame.time)
            self.anchor, self.anchor_time = frame.luma, frame.time

    def _is_cut(self, change: float, *, frame: SeenFrame) -> bool:
        assert self.last is not None
        thawed = self.last_time - self.anchor_time >= FROZEN_SECONDS - 1e-6  # a jump, and said to be frozen before
        if change <= CUT_LEVELS or thawed or len(self.recent) < _FEWEST:
            return False
        dark = min(float(frame.luma.mean()), float(self.last.mean())) < _DARK
        return not dark and change > CUT_TIMES * float(np.median(self.recent))

    def _thaw(self, until: float) -> None:
        """The picture of the anchor ends; a frozen one is noted, a black one is found by its rows."""
        if self.anchor is None or self.last_time - self.anchor_time < FROZEN_SECONDS - 1e-6:
            return
        if float(self.anchor.mean()) >= _DARK:
            note = f"the same picture for {until - self.anchor_time:.1f} s"
            self.faults.append(Fault(kind="frozen", start=self.anchor_time, end=until, note=note))

    def _rate(self) -> list[Fault]:
        usual = self.usual_step
        odd = {step: counted for step, counted in self.steps.items() if abs(step - usual) > RATE_SHARE * usual + 0.002}
        count = round(sum(counted[0] for counted in odd.values()))
        if count < _FEWEST_ODD:
            return []
        total = round(sum(counted[0] for counted in self.steps.values()))
        note = (
            f"{count:,} of {total:,} frames do not come at the usual distance of {1000 * usual:.0f} ms: "
            f"{1000 * min(odd):.0f} to {1000 * max(odd):.0f} ms"
        )
        first, last = min(c[1] - s for s, c in odd.items()), max(c[2] for c in odd.values())
        return [Fault(kind="variable rate", start=first, end=last, note=note)]

    def _undecodable(self) -> list[Fault]:
        if not self.undecodable:
            return []
        note = f"{len(self.undecodable):,} parts could not be decoded; what is there was used"
        return [Fault(kind="damaged", start=min(self.undecodable), end=max(self.undecodable), note=note)]

    def to_json(self) -> dict[str, Any]:
        """Everything that the next frame is held to."""
        return {
            "faults": [vars(fault) for fault in self.faults],
            "last": _packed(self.last),
            "last_time": self.last_time,
            "anchor": _packed(self.anchor),
            "anchor_time": self.anchor_time,
            "size": self.size,
            "rotation": self.rotation,
            "recent": list(self.recent),
            "steps": [[step, *counted] for step, counted in self.steps.items()],
            "undecodable": self.undecodable,
        }

    @classmethod
    def from_json(cls, stated: dict[str, Any]) -> FaultWatch:
        """What `to_json` wrote."""
        fields = stated | {
            "faults": [Fault(**fault) for fault in stated["faults"]],
            "last": _unpacked(stated["last"]),
            "anchor": _unpacked(stated["anchor"]),
            "size": None if stated["size"] is None else tuple(stated["size"]),
            "recent": deque(stated["recent"], maxlen=_RECENT),
            "steps": {step: counted for step, *counted in stated["steps"]},
        }
        return cls(**fields)


def _difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(np.int16) - b).mean())


def _packed(luma: NDArray[np.uint8] | None) -> Sequence[Any] | None:
    return None if luma is None else [*luma.shape, base64.b64encode(luma.tobytes()).decode("ascii")]


def _unpacked(stated: Sequence[Any] | None) -> NDArray[np.uint8] | None:
    if stated is None:
        return None
    height, width, data = stated
    return np.frombuffer(base64.b64decode(data), dtype=np.uint8).reshape(height, width)
