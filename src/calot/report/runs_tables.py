"""The tables of the page of several runs: experiments over their seeds, and runs one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from calot.criteria import CRITERIA, label
from calot.report import scores, tables, verdict
from calot.report.run_folder import RunFolder
from calot.report.tables import Cell, Row, Table, Undefined, Withheld
from calot.statistics.intervals import Interval, VideoIntervals, video_intervals
from calot.statistics.summary import Summary


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A finished run with its val summary."""

    run: RunFolder
    summary: Summary

    @property
    def name(self) -> str:
        return f"{self.run.label}, seed {self.run.seed}"


def shown_runs(members: Sequence[Scored]) -> list[Scored]:
    """Those whose receipt did not fail."""
    return [member for member in members if member.run.has_result]


def seed_intervals(members: Sequence[Scored]) -> VideoIntervals:
    """Mean over the seeds of one experiment, with intervals over videos."""
    return video_intervals([member.summary.predictions for member in members])


def experiments_table(experiments: Mapping[tuple[str, str], Sequence[Scored]]) -> Table:
    """Each experiment over its seeds: the interval holds the sampling of videos, the deviation that of seeds.

    Seeds whose receipt failed are left out, and named.
    """
    rows = []
    for (name, scale), every in experiments.items():
        members = shown_runs(every)
        wrong = [str(member.run.seed) for member in every if member.run.treatment.invalid]
        if not members:
            none = Withheld(f"INVALID: every receipt failed (seed {', '.join(wrong)})")
            rows.append(Row(cells=[f"{name} ({scale})", "none", none, "", ""]))
            continue
        table = seed_intervals(members)
        maps = [m.summary.per_seed[0]["map"] for m in members]
        deviation = scores.deviation(maps)
        seeds = ", ".join(str(member.run.seed) for member in members)
        seeds += f", not {', '.join(wrong)}: receipt failed" if wrong else ""
        cells = [f"{name} ({scale})", seeds, tables.points(table.map.value, reason=table.map.reason)]
        rows.append(Row(cells=[*cells, _interval(table.map), tables.points(deviation, reason="one seed")]))
    heads = ("experiment", "seeds", "mAP, mean", "95 % interval by video", "deviation over seeds")
    names = tables.columns(*heads, text=("seeds",))
    return Table(title="Experiments", columns=names, rows=rows)


def runs_table(runs: Sequence[Scored], *, folder: Path) -> Table:
    """Each run with its scores; where its receipt failed, the check stands in their place. Forward passes per clip are
    a column where any run took more than one."""
    several = any(scored.run.combination is not None for scored in runs)

    def passes(run: RunFolder) -> list[str]:
        return [str(1 if run.combination is None else run.combination.passes)] if several else []

    rows = []
    for scored in runs:
        if scored.run.treatment.invalid:
            none = Withheld(verdict.failing(scored.run))
            empty = [""] * (1 + len(CRITERIA))
            rows.append(Row(cells=[_link(scored, folder=folder), none, *empty, *passes(scored.run), "failed"]))
            continue
        total = scored.summary.intervals.map
        ap = (tables.points(scored.summary.criteria[c].ap.value) for c in CRITERIA)
        cells = [_link(scored, folder=folder), tables.points(total.value), _interval(total), *ap]
        receipt = "holds" if scored.run.treatment.status == "verified" else "unverified"
        rows.append(Row(cells=[*cells, *passes(scored.run), receipt]))
    more = ("passes per clip",) if several else ()
    heads = ("run", "mAP", "95 % interval by video", *(f"AP {label(c)}" for c in CRITERIA), *more, "receipt")
    return Table(title="Runs one by one, val split", columns=tables.columns(*heads), rows=rows)


def _link(scored: Scored, *, folder: Path) -> str:
    """The run's name, leading to its own page where there is one."""
    page = scored.run.path / "report.html"
    if not page.is_file():
        return scored.name
    return Markup('<a href="{}">{}</a>').format(quote(page.relative_to(folder).as_posix()), scored.name)


def _interval(total: Interval) -> Cell:
    """The bounds, or undefined; the note beneath the tables says why."""
    return Undefined() if total.low is None else tables.bounds(total)


def without_interval(members: Sequence[Scored]) -> str:
    """Why some have no interval, each reason once: the tables have no room for it."""
    named: dict[str, list[str]] = {}
    for member in members:
        total = member.summary.intervals.map
        if total.low is None:
            named.setdefault(tables.plain_reason(total.reason), []).append(member.name)
    said = [
        f"{'all runs' if len(names) == len(members) else verdict.spoken_list(names)}: {reason}"
        for reason, names in named.items()
    ]
    return f"No interval for {'; '.join(said)}." if said else ""
