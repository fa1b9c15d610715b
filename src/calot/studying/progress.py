"""How long a study still takes, from what its runs have taken so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from calot.sweeping.jobs import DIED, DONE, INVALID, JobRecord


@dataclass(frozen=True)
class TimeLeft:
    """`expected`: seconds of one run by experiment, as a plan has them; none without one."""

    workers: int
    expected: Mapping[str, float]

    def __call__(self, records: Sequence[JobRecord]) -> str:
        """A few words for a line of progress; none before anything is known.

        A run is expected to take what the same experiment's took on average (the first seed, which pays for what seeds
        share, counts as any), else what was planned, scaled as plan and truth have differed, else the mean of all.
        """
        known: dict[str, list[float]] = {}
        for record in records:
            if record.state in (DONE, INVALID, DIED) and record.seconds:
                known.setdefault(_experiment(record), []).append(record.seconds)
        if not known and not self.expected:
            return ""
        waiting = [record for record in records if record.state not in (DONE, INVALID, DIED)]
        seconds = sum(max(0.0, self._of(_experiment(record), known) - record.seconds) for record in waiting)
        return f", about {_said(seconds / self.workers)} left" if waiting else ""

    def _of(self, name: str, known: Mapping[str, Sequence[float]]) -> float:
        if name in known:
            return min(known[name])
        both = [one for one in known if one in self.expected]
        scale = 1.0
        if both:
            scale = sum(min(known[one]) for one in both) / sum(self.expected[one] for one in both)
        if name in self.expected:
            return scale * self.expected[name]
        every = [value for values in known.values() for value in values]
        return sum(every) / len(every) if every else 0.0


def _experiment(record: JobRecord) -> str:
    return record.job.folder.parent.name


def _said(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
