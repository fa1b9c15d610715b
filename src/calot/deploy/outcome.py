"""What an assessment comes to, and its files: scores.parquet, assess.json, stills. None holds anything of a recording
but its pictures: no name, no tag, no date."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import simplejpeg
from numpy.typing import NDArray

from calot import __version__
from calot.criteria import CRITERIA
from calot.data.sources import frames_at
from calot.deploy.colour import OUTSIDE_RED
from calot.deploy.faults import Fault
from calot.deploy.sampling import FileFacts, SampledOperation
from calot.experiment import Experiment
from calot.statistics import seal
from calot.statistics.assessment import FACTS, FORMAT, HELD, NOTICE, SCORES, STILLS, Assessment
from calot.statistics.average import mean_logits
from calot.statistics.calls import ASSESSABLE, Call, Passage, all_held, calls_of, first_held, passages
from calot.statistics.frozen import FrozenOnVal
from calot.statistics.metrics import sigmoid
from calot.writing import whole_file, write_json

_QUALITY = 90  # of stills, as JPEG


@dataclass(frozen=True, kw_only=True)
class Assessed:
    """Everything that was measured of an operation. `logits` holds one `(n, k)` array per run; `operation` the seconds
    that were scored."""

    plan: dict[str, Any]
    operation: SampledOperation
    logits: tuple[NDArray[np.float32], ...]
    frozen: FrozenOnVal | None
    experiment: Experiment
    held: float
    every: int
    abstains: bool

    def assessment(self) -> Assessment:
        """Decide: states, calls, the first passage held, best moments."""
        seconds = np.array([frame.second for frame in self.operation.frames], dtype=np.int64)
        states = self._states()
        mean = mean_logits(self.logits, mean="logits")
        seen = np.array([state == ASSESSABLE for state in states])
        calls = calls_of(mean, frozen=self.frozen, assessable=seen, abstains=self.abstains)
        held = first_held(calls, seconds=seconds, held=self.held)
        lasting = self._lasting()
        best = {}
        for k, name in enumerate(CRITERIA):
            if seen.any():
                best[name] = int(np.flatnonzero(seen)[np.argmax(mean[seen, k])])
        moments = {name: self._moment(place) for name, place in best.items()}
        if held is not None:
            moments = {HELD: self._moment(int(np.searchsorted(seconds, held.start)))} | moments
        facts = {
            "format": FORMAT,
            "calot": __version__,
            "notice": NOTICE,
            "plan": self.plan,
            "name": self.plan["name"],
            "seconds": round(self.operation.seconds, 3),
            "recordings": [_recording(file) for file in self.operation.files],
            "faults": [fault.to_json() | {"file": file} for file, fault in self._faults(states, seconds=seconds)],
            "not_assessable": self._unseen(states, calls=calls, seconds=seconds),
            "held": None if held is None else {"start": held.start, "end": held.end},
            "held_why_not": None if held is not None else self._why_not(calls),
            "achieved_seconds": {
                name: int(lasting[[call is Call.achieved for call in column]].sum())
                for name, column in zip(CRITERIA, calls, strict=True)
            },
            "all_achieved_seconds": int(lasting[all_held(calls)].sum()),
            "moments": moments,
            "frozen_on_val": None if self.frozen is None else _frozen_facts(self.frozen),
        }
        return Assessment(facts=facts, scores=self._table(states, mean=mean, calls=calls))

    def _lasting(self) -> NDArray[np.int64]:
        """For how many seconds each moment stands: until the next, and not beyond the end of its file."""
        ends = {file.number: file.begins + file.seconds for file in self.operation.files}
        left = [math.ceil(ends[frame.file] - frame.second) for frame in self.operation.frames]
        return np.array([min(self.every, max(1, seconds)) for seconds in left], dtype=np.int64)

    def _states(self) -> list[str]:
        frozen = [(f.start, f.end) for file in self.operation.files for f in file.faults if f.kind == "frozen"]
        states = []
        for frame in self.operation.frames:
            if frame.corrupt:
                state = "damaged"
            elif frame.black:
                state = "black"
            elif any(start < frame.second < end for start, end in frozen):
                state = "frozen"
            elif frame.red < OUTSIDE_RED:
                state = "out of the body"
            else:
                state = ASSESSABLE
            states.append(state)
        return states

    def _faults(self, states: list[str], *, seconds: NDArray[np.int64]) -> list[tuple[int, Fault]]:
        """Every fault with its file's number; black stretches are found by the sampled frames."""
        found = [(file.number, fault) for file in self.operation.files for fault in file.faults]
        for passage in passages(states, seconds=seconds, step=self.every):
            if passage.what == "black":
                place = int(np.searchsorted(seconds, passage.start))
                note = f"black for {passage.end - passage.start:.0f} s"
                fault = Fault(kind="black", start=passage.start, end=passage.end, note=note)
                found.append((self.operation.frames[place].file, fault))
        return sorted(found, key=lambda item: (item[1].start, item[1].kind))

    def _unseen(
        self, states: list[str], *, calls: list[list[Call]], seconds: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        """Every span that is not assessable, with its reason, for all criteria or for one of them."""
        unseen = passages(states, seconds=seconds, step=self.every, without=ASSESSABLE)
        spans: list[tuple[str | None, Passage]] = [(None, p) for p in unseen]
        gaps = [f for file in self.operation.files for f in file.faults if f.kind in ("gap", "truncated")]
        spans += [(None, Passage(what=gap.kind, start=gap.start, end=gap.end)) for gap in gaps]
        for name, column in zip(CRITERIA, calls, strict=True):
            own = passages([str(call) for call in column], seconds=seconds, step=self.every)
            spans += [(name, p) for p in own if p.what in (Call.abstains, Call.undecided)]
        words = {Call.abstains: "the model abstains", Call.undecided: "no threshold could be frozen on val"}
        return [
            {
                "criterion": name,
                "reason": words.get(Call(p.what), p.what) if name else p.what,
                "start": round(p.start, 3),
                "end": round(p.end, 3),
            }
            for name, p in sorted(spans, key=lambda item: (item[1].start, item[0] or ""))
        ]

    def _why_not(self, calls: list[list[Call]]) -> str:
        if self.frozen is None:
            return "there are no val predictions to freeze thresholds on"
        lacking = [name for name in CRITERIA if self.frozen.thresholds.values[name] is None]
        if lacking:
            return f"no threshold could be frozen on val for {', '.join(lacking)}: no positive label there"
        if not all_held(calls).any():
            return "the three criteria were never achieved in the same second"
        return f"the three criteria were never achieved together for {self.held:g} s"

    def _moment(self, place: int) -> dict[str, Any]:
        frame = self.operation.frames[place]
        return {"second": frame.second, "file": frame.file, "time": frame.time}

    def _table(self, states: list[str], *, mean: NDArray[np.float32], calls: list[list[Call]]) -> pl.DataFrame:
        """One row a scored second. Where several runs are given, `_low` and `_high` are the lowest and highest seed."""
        frames, several = self.operation.frames, len(self.logits) > 1
        columns: dict[str, Any] = {
            "video": [str(self.plan["name"])] * len(frames),
            "frame": pl.Series([1000 * frame.second for frame in frames], dtype=pl.Int64),
            "time": pl.Series([float(frame.second) for frame in frames], dtype=pl.Float64),
            "file": pl.Series([frame.file for frame in frames], dtype=pl.Int32),
            "file_time": pl.Series([frame.time for frame in frames], dtype=pl.Float64),
            "state": states,
        }
        stacked = np.stack(self.logits)
        for k, name in enumerate(CRITERIA):
            columns[f"logit_{name}"] = mean[:, k]
            if several:
                columns[f"logit_{name}_low"] = stacked[:, :, k].min(axis=0)
                columns[f"logit_{name}_high"] = stacked[:, :, k].max(axis=0)
            heat = None if self.frozen is None else self.frozen.temperatures.values[name]
            columns[f"probability_{name}"] = pl.Series(
                [None] * len(frames) if heat is None else sigmoid(mean[:, k] / heat), dtype=pl.Float64
            )
            columns[f"call_{name}"] = [str(call) for call in calls[k]]
        return pl.DataFrame(columns)


def write_assessment(made: Assessment, *, out: Path, recordings: Sequence[Path]) -> None:
    """Write stills, scores and facts into `out`, the facts last: they say that it is finished."""
    for name, moment in made.facts["moments"].items():
        image = next(frames_at(recordings[moment["file"] - 1], [moment["time"]]))
        data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=_QUALITY, colorsubsampling="420")
        with whole_file(out / STILLS / f"{name}.jpg") as part:
            part.write_bytes(data)
    held = io.BytesIO()
    made.scores.write_parquet(held, metadata={seal.KEY: seal.BLANK})
    with whole_file(out / SCORES) as part:
        part.write_bytes(seal.sealed(held.getvalue()))
    write_json(out / FACTS, made.facts)


def _recording(file: FileFacts) -> dict[str, Any]:
    fields = asdict(file) | {"size": list(file.size)}
    del fields["faults"]
    return fields


def _frozen_facts(frozen: FrozenOnVal) -> dict[str, Any]:
    """The values that calls and probabilities were made with."""
    return {
        "thresholds": frozen.thresholds.values,
        "temperatures": frozen.temperatures.values,
        "limits": frozen.limits.values,
        "coverage": frozen.limits.level,
        "guaranteed": frozen.limits.guaranteed,
        "videos": frozen.limits.videos,
    }
