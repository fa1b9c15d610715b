"""Trivial baselines on the pages: what a run must beat on its own clips, and whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calot.criteria import CRITERIA, label
from calot.report import scores, tables
from calot.report.forest import Estimate, Forest, forest
from calot.report.run_folder import RunFolder
from calot.report.runs_tables import Scored, shown_runs
from calot.report.tables import Cell, Row, Table, Undefined
from calot.report.verdict import Reason, spoken_list, tidy
from calot.statistics.intervals import Interval
from calot.statistics.summary import Summary
from calot.statistics.trivial import COMMAND, BesideTrivial

LEAD = "Trivial baselines."
_STANDING = {"above": "above", "below": "BELOW", "level": "not shown to be above", "unknown": "without an interval"}


@dataclass(frozen=True, kw_only=True)
class TrivialView:
    """One split of a run beside the baselines: a sentence, and where they are there a figure and a table."""

    sentence: str
    forest: Forest | None = None
    table: Table | None = None


def trivial_views(run: RunFolder, *, summaries: dict[str, Summary]) -> list[TrivialView]:
    """A view of each split that the run was scored on."""
    return [_view(run.beside_trivial[split], split=split, summary=summary) for split, summary in summaries.items()]


def _view(found: BesideTrivial, *, split: str, summary: Summary) -> TrivialView:
    if not found.baselines:
        return TrivialView(sentence=f"{split}: {found.reason}.")
    chance = scores.chance(summary)
    rows = [Estimate(name="this run", interval=summary.intervals.map, chance=chance, strong=True)]
    rows += [Estimate(name=one.title, interval=one.intervals.map, chance=chance) for one in found.baselines]
    return TrivialView(
        sentence=tidy(tables.plain_reason(f"{split}: {found.verdict()} {found.held()}")),
        forest=forest(rows, title=f"macro mAP in points, {split}"),
        table=_table(found, split=split),
    )


def trivial_reason(run: RunFolder) -> Reason:
    """The line under a run's headline."""
    found = run.beside_trivial["val"]
    if found.tables is None:
        return Reason(LEAD, "Not computed for this run: nothing shows that it is above them.", code=COMMAND)
    return Reason(LEAD, tables.plain_reason(found.sentence()))


def _table(found: BesideTrivial, *, split: str, minus: bool = True) -> Table:
    """Each baseline's mAP with its interval, what the run has more, and each AP."""
    rows = []
    for one in found.baselines:
        cells: list[Cell] = [one.title, *_value(one.intervals.map)]
        if minus:
            apart = found.differences[one.name]
            cells.append(tables.points(apart.value, sign=True, reason=apart.reason))
            why = "" if apart.value is None else apart.reason
            cells.append(tables.interval_text(apart.low, apart.high, sign=True, reason=why))
        cells += [tables.points(one.intervals.ap[name].value) for name in CRITERIA]
        rows.append(Row(cells=cells, strong=one is found.best))
    run = ("this run minus it", "95 % interval, paired by video") if minus else ()
    heads = ("baseline", "mAP", "95 % interval by video", *run, *(f"AP {label(name)}" for name in CRITERIA))
    return Table(title=f"Trivial baselines, {split} split", columns=tables.columns(*heads), rows=rows)


def _value(interval: Interval) -> tuple[Cell, Cell]:
    """A value and its interval; the reason stands once."""
    if interval.value is None:
        return tables.points(None, reason=interval.reason), Undefined()
    return tables.points(interval.value), tables.bounds(interval)


def trivial_tables(runs: Sequence[Scored]) -> list[Table]:
    """Of runs scored on the same frames: each set of baselines once, then each run against the best of its own."""
    shown = [scored.run for scored in shown_runs(runs)]
    sets: dict[tuple[str, ...], BesideTrivial] = {}
    for run in shown:
        found = run.beside_trivial["val"]
        sets.setdefault(tuple(one.predictions.digest for one in found.baselines), found)
    held = [run for run in shown if run.beside_trivial["val"].baselines]
    made = [_table(found, split="val", minus=False) for key, found in sets.items() if key]
    return [*made, _runs_table(held)] if held else []


def _runs_table(runs: Sequence[RunFolder]) -> Table:
    rows = []
    for run in runs:
        found = run.beside_trivial["val"]
        cells: list[Cell] = [f"{run.name}, seed {run.seed}", _STANDING[found.standing]]
        if found.best is None:
            cells += [Undefined("none of the baselines is defined"), Undefined(), Undefined()]
        else:
            apart = found.differences[found.best.name]
            difference = tables.points(apart.value, sign=True, reason=apart.reason)
            interval = tables.interval_text(apart.low, apart.high, sign=True, reason=apart.reason)
            cells += [found.best.title, difference, interval]
        rows.append(Row(cells=cells))
    words = ("against the best trivial baseline", "which")
    names = tables.columns("run", *words, "difference in mAP", "95 % interval, paired by video", text=words)
    return Table(title="Runs against the best trivial baseline, val split", columns=names, rows=rows)


def trivial_told(runs: Sequence[RunFolder]) -> list[Reason]:
    """One line about all runs that have a result: which are above the best baseline, and which are not."""
    told: dict[str, list[str]] = {}
    for run in runs:
        if run.has_result:
            found = run.beside_trivial["val"]
            told.setdefault(_group(found), []).append(f"{run.name} seed {run.seed}")
    if not told:
        return []
    text = "; ".join(f"{words}: {spoken_list(names)}" for words, names in told.items())
    return [Reason(LEAD, f"{text[0].upper()}{text[1:]}.")]


def _group(found: BesideTrivial) -> str:
    if not found.baselines:
        return f"not computed ({COMMAND})" if found.tables is None else str(found.reason)
    if found.best is None:
        return "none of them is defined"
    best = f"{found.best.title}, {tables.in_sentence(tables.points(found.best.intervals.map.value))}"
    words = "no interval against" if found.standing == "unknown" else _STANDING[found.standing]
    return f"{words} the best one ({best})"
