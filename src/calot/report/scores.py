"""A split's scores as tables and figures: each number is taken from `Summary`, none is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from calot.criteria import CRITERIA, label
from calot.report import figures
from calot.report.forest import Estimate, Forest, forest
from calot.report.tables import (
    KEYS,
    Cell,
    Fact,
    Row,
    Table,
    Undefined,
    bounds,
    columns,
    count,
    percent,
    points,
)
from calot.statistics.calibration import BINS, reliability_points
from calot.statistics.ceiling import OnVotes
from calot.statistics.frame_sums import decision_points
from calot.statistics.intervals import Interval, VideoIntervals
from calot.statistics.jackknife import NOT_SIMULATED
from calot.statistics.reliability import reliability_intervals
from calot.statistics.summary import Summary

#: Threshold probabilities at which a decision curve is drawn.
_DRAWN = tuple(step / 100 for step in range(1, 100))


def chance(summary: Summary) -> float:
    """Mean prevalence over the criteria: the mAP that chance reaches."""
    return float(summary.to_dict()["map"]["chance"])


def interval_forest(summary: Summary, *, split: str) -> Forest:
    """Macro mAP and each AP with interval and chance."""
    rows = [Estimate(name="macro mAP", interval=summary.intervals.map, chance=chance(summary), strong=True)]
    rows += [
        Estimate(name=label(name), interval=item.ap, chance=item.prevalence, criterion=name)
        for name, item in summary.criteria.items()
    ]
    return forest(rows, title=f"average precision in points, {split}")


def ap_table(summary: Summary, *, split: str) -> Table:
    """AP with interval, prevalence, positives and the videos that hold them; macro mAP last."""
    rows = [
        Row(
            cells=(
                label(name),
                points(item.ap.value, reason=item.ap.reason),
                bounds_once(item.ap),
                percent(item.prevalence),
                *_on_votes(summary.ceiling.ap.get(name)),
                count(item.positives),
                count(item.positive_videos),
            ),
            key=KEYS[name],
        )
        for name, item in summary.criteria.items()
    ]
    total = summary.intervals.map
    cells: list[Cell] = ["macro mAP", points(total.value, reason=total.reason), bounds_once(total)]
    votes = _on_votes(summary.ceiling.map)
    rows.append(Row(cells=[*cells, percent(chance(summary)), *votes, "", ""], strong=True))
    heads = ("AP", "95 % interval by video", "chance (prevalence)", "raters, on votes", "model, on votes")
    names = columns("criterion", *heads, "positive frames", "videos with one")
    return Table(title=f"Average precision in points, {split} split", columns=names, rows=rows)


def _on_votes(found: OnVotes | None) -> tuple[Cell, Cell]:
    """The other raters and the model on single raters' votes; why there is none stands beneath the tables."""
    if found is None:
        return Undefined(), Undefined()
    return points(found.ceiling.value), points(found.model.value)


def over_defined(summary: Summary) -> str:
    """The mean over the criteria that are defined, in one sentence; empty where mAP itself is defined."""
    if summary.intervals.map.value is not None or summary.over_defined is None:
        return ""
    names = ", ".join(label(name) for name in summary.defined)
    return (
        f"The mean AP over {names} alone is {points(summary.over_defined)}: a different quantity from mAP over three."
    )


def bounds_once(interval: Interval) -> Cell:
    """The interval; beside an undefined value the reason is not repeated."""
    return Undefined() if interval.value is None else bounds(interval)


def seeds_table(seeds: Mapping[str, Summary], *, split: str) -> Table:
    """One row per run: mAP with its interval and each AP."""
    rows = []
    for name, summary in seeds.items():
        total = summary.intervals.map
        cells = [name, points(total.value, reason=total.reason), bounds_once(total)]
        rows.append(Row(cells=[*cells, *(points(summary.criteria[c].ap.value) for c in CRITERIA)]))
    names = columns("run", "mAP", "95 % interval by video", *(f"AP {label(c)}" for c in CRITERIA))
    return Table(title=f"Runs one by one, {split} split", columns=names, rows=rows)


def deviation(values: Sequence[float | None]) -> float | None:
    """Standard deviation over seeds of the mAPs listed; None below two."""
    found = [value for value in values if value is not None]
    return float(np.std(found, ddof=1)) if len(found) > 1 else None


def reliability_figures(summary: Summary) -> list[Markup]:
    """One reliability curve per criterion with its intervals, with as many bins as the frames can fill."""
    found, bins = [], drawn_bins(len(summary.predictions.labels))
    for name, item in summary.criteria.items():
        frames = item.frames
        curve = reliability_points(frames.labels, logits=frames.logits, bins=bins)
        held = reliability_intervals(frames.labels, logits=frames.logits, units=frames.units, bins=bins)
        found.append(
            figures.reliability(
                name,
                predicted=np.array([point.forecast for point in curve]),
                observed=np.array([point.observed for point in curve]),
                bounds=np.array([(bar.low, bar.high) for bar in held], dtype=np.float64).T,
                counts=np.array([point.frames for point in curve], dtype=np.float64),
                prevalence=item.prevalence,
            )
        )
    return found


def drawn_bins(frames: int) -> int:
    """Bins of a drawn reliability curve: at least 40 frames each, from 3 to as many as ECE has."""
    return max(3, min(BINS, frames // 40))


def decision_figures(summary: Summary, *, split: str) -> list[Markup]:
    """One decision curve per criterion with its interval; a criterion without positives has none."""
    found = []
    for name, item in summary.criteria.items():
        if item.positives == 0:
            continue
        frames = item.frames
        curve = decision_points(frames.labels, logits=frames.logits, units=frames.units, probabilities=_DRAWN)
        found.append(
            figures.decision(
                name,
                split=split,
                thresholds=np.array(_DRAWN),
                model=np.array([point.model.value for point in curve], dtype=np.float64),
                bounds=np.array([(point.model.low, point.model.high) for point in curve], dtype=np.float64).T,
                treat_all=np.array([point.treat_all.value for point in curve], dtype=np.float64),
                prevalence=item.prevalence,
            )
        )
    return found


def interval_facts(table: VideoIntervals) -> list[Fact]:
    """How the intervals were made and how often such intervals hold the truth."""
    facts = [
        Fact(name="Interval", text=f"95 %, method {table.method}, unit: video ({table.videos})"),
        Fact(
            name="What it covers",
            text="the sampling of videos, with these checkpoints held fixed; not the spread of seeds",
        ),
    ]
    names = {"map": "mAP", **{name: label(name) for name in table.ap}}
    for key, name in names.items():
        measured = table.coverage[key]
        text = "not measured for this method or this few positive videos"
        if measured is not None:
            text = f"{measured.positive_videos} positive videos: {measured}; nominal 95 %"
        facts.append(Fact(name=f"Measured coverage, {name}", text=text))
    others = f"jackknife over videos, exact for shares of videos; {NOT_SIMULATED}"
    return [*facts, Fact(name="Intervals of all other figures", text=others, wide=True)]
