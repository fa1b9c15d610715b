"""The document's tables over experiments: the summary, one experiment by epoch, contrasts, the gap to training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median

import polars as pl

from calot.criteria import CRITERIA, label
from calot.report.run_folder import RunFolder
from calot.report.scores import deviation
from calot.report.study.folder import StudiedExperiment, StudyFolder
from calot.report.study.questions import Contrast
from calot.report.tables import (
    Cell,
    Ranged,
    Row,
    Table,
    Undefined,
    Withheld,
    columns,
    count,
    in_sentence,
    interval_text,
    number,
    points,
    value_text,
)
from calot.report.verdict import failing
from calot.statistics.decisions import Decision, called, kind_of
from calot.statistics.intervals import Interval
from calot.statistics.metrics import mean_ap
from calot.statistics.outcome import ENOUGH_SEEDS, PairedDifference

_EMPTY = "not finished"
_FEW = 4


def scores_table(study: StudyFolder) -> Table:
    """One row per experiment over the seeds that count: mAP, each seed, their spread, AP per criterion."""
    heads = ("mAP", "seed by seed", "sd of seeds", *(f"AP {label(c)}" for c in CRITERIA))
    rows = [Row(cells=_scores(one)) for one in study.experiments.values()]
    note = (
        "Mean over seeds in points, with its 95 % interval over videos. Where a receipt failed, its check "
        "stands in place of the number, and that seed is in no mean."
    )
    names = columns("experiment", *heads, text=("seed by seed",))
    return Table(title="Scores, val split", columns=names, rows=rows, note=note)


def _scores(one: StudiedExperiment) -> list[Cell]:
    held = one.intervals
    if held is None:
        failed = next((run for run in one.runs if run.treatment.invalid), None)
        none: Cell = Undefined(_EMPTY) if failed is None else Withheld(failing(failed))
        return [one.name, none, *[""] * (2 + len(CRITERIA))]
    maps = {run.seed: mean_ap(t.labels, t.logits).value for run in one.sound for t in [run.predictions["val"]]}
    each = ", ".join(
        f"{seed}:\N{NO-BREAK SPACE}{in_sentence(points(value, reason=''))}" for seed, value in maps.items()
    )
    ap = [interval_cell(held.ap[c]) for c in CRITERIA]
    return [one.name, interval_cell(held.map), each, points(deviation(list(maps.values())), reason=""), *ap]


def standing_table(study: StudyFolder) -> Table:
    """One row per experiment: the difference from its baseline with the verdict."""
    rows = []
    for one in study.experiments.values():
        difference, detectable, verdict = _against_baseline(study, one)
        rows.append(Row(cells=[one.name, one.baseline or "none", difference, detectable, verdict]))
    heads = ("baseline", "difference", "detectable, 80 % power", "verdict")
    note = (
        "Difference of mAP from the baseline on the same videos, with its 95 % interval. A verdict is about the "
        f"treatment only with {ENOUGH_SEEDS} seeds on either side, else about these checkpoints."
    )
    names = columns("experiment", *heads, text=("baseline", "verdict"))
    return Table(title="Against its baseline, val split", columns=names, rows=rows, note=note)


def training_table(study: StudyFolder) -> Table:
    """One row per experiment: what its receipts prove, the epochs that val chose, how many parameters trained."""
    rows = []
    for one in study.experiments.values():
        trained = one.any_run.model.get("parameters", {}).get("trainable") if one.any_run else None
        rows.append(Row(cells=[one.name, receipts_of(one), _epochs(one), count(trained) if one.any_run else ""]))
    heads = ("receipts", "best epoch, seed by seed", "trained parameters")
    names = columns("experiment", *heads, text=("receipts", "best epoch, seed by seed"))
    return Table(title="Training", columns=names, rows=rows)


def interval_cell(item: Interval | PairedDifference, *, sign: bool = False) -> Cell:
    """A value in points with its interval beneath."""
    value = points(item.value, reason=item.reason, sign=sign)
    if not isinstance(value, str):
        return value
    bounds = interval_text(item.low, item.high, reason="", sign=sign)
    return Ranged(value, bounds if isinstance(bounds, str) else "no interval")


def receipts_of(one: StudiedExperiment) -> Cell:
    """What the receipts of an experiment's runs prove, the failing check first; and what is missing."""
    said = [f"seed {run.seed}: {failing(run)}" for run in one.runs if run.treatment.invalid]
    if bare := {run.treatment.why: run.seed for run in one.sound if run.treatment.status == "unverified"}:
        said += [f"unverified: {why}" for why in bare]
    elif one.sound:
        said.append("hold")
    said += [f"{', '.join(one.absent)} not finished"] if one.absent else []
    text = "; ".join(said) or "none"
    return Withheld(text) if any(run.treatment.invalid for run in one.runs) else text


def _against_baseline(study: StudyFolder, one: StudiedExperiment) -> tuple[Cell, Cell, Cell]:
    if one.baseline is None:
        return "", "", "no baseline" if one.runs else _EMPTY
    found = study.against(one.name, one.baseline)
    smallest = None if found.comparison is None else found.comparison.map.minimum_detectable
    shown = "" if found.comparison is None or found.kind == "invalid" else points(smallest, reason="")
    return decision_cell(found), shown, called_of(found)


def decision_cell(found: Decision) -> Cell:
    """The difference with its interval; the failing check where a receipt forbids it."""
    if found.kind == "invalid":
        return Withheld("INVALID")
    return Undefined() if found.comparison is None else interval_cell(found.comparison.map, sign=True)


def _epochs(one: StudiedExperiment) -> str:
    """`2, 4, 3 of 15`: the epoch chosen by each seed, counted over stages, of the most that any trained."""
    rows = [run.best_row + 1 for run in one.sound if run.best_row is not None]
    most = max((run.metrics.height for run in one.sound), default=0)
    return f"{', '.join(map(str, rows))} of {most}" if rows else ""


def contrast_table(study: StudyFolder, contrasts: Sequence[Contrast], *, title: str) -> Table:
    """Each contrast: difference, interval, what could be found, the verdict, and every setting that differs."""
    rows = []
    for contrast in contrasts:
        found = study.against(contrast.a, contrast.b)
        smallest = None if found.comparison is None else found.comparison.map.minimum_detectable
        names = f"{contrast.a} minus {contrast.b}"
        seeds = f"{len(_seeds(found, 0))} and {len(_seeds(found, 1))}"
        cells: list[Cell] = [contrast.about, names, seeds, decision_cell(found), points(smallest, reason="")]
        rows.append(Row(cells=[*cells, called_of(found), _fields(study, contrast)], strong=True))
        for criterion in contrast.criteria if found.comparison is not None and found.kind != "invalid" else ():
            item = found.comparison.ap[criterion] if found.comparison else None
            if item is None:
                continue
            kind = kind_of(item)
            said = called(kind, comparison=found.comparison)
            name = f"AP of {label(criterion)}"
            own: list[Cell] = [contrast.about, name, seeds, interval_cell(item, sign=True)]
            rows.append(Row(cells=[*own, points(item.minimum_detectable, reason=""), said, ""]))
    heads = ("what", "of what", "seeds", "difference", "detectable, 80 % power", "verdict", "fields that differ")
    words = ("of what", "seeds", "verdict", "fields that differ")
    return Table(title=title, columns=columns(*heads, text=words), rows=rows)


def _fields(study: StudyFolder, contrast: Contrast) -> str:
    """The settings that two experiments do not share: more than what is put to the test, where there are several."""
    names = [name for name, _, _ in study.differing(contrast.a, contrast.b)]
    return ", ".join(names) if len(names) <= _FEW else f"{', '.join(names[:_FEW])} and {len(names) - _FEW} more"


def called_of(found: Decision) -> str:
    """The verdict in a few words, with the reason where nothing was run."""
    return found.words.rstrip(".") if found.kind == "not run" else found.called


def _seeds(found: Decision, side: int) -> Sequence[int | None]:
    return () if found.comparison is None else (found.comparison.a, found.comparison.b)[side].seeds


def settings_table(study: StudyFolder, one: StudiedExperiment) -> Table | None:
    """Every field in which an experiment differs from its baseline here, else from the one that it names."""
    if one.baseline is None:
        return None
    found = study.differing(one.name, one.baseline)
    if not found and one.any_run is not None and one.baseline not in study.experiments:
        listed = one.any_run.experiment.get("difference") or []
        found = [(str(d.get("field")), d.get("value"), d.get("baseline")) for d in listed]
    if not found:
        return None
    rows = [Row(cells=(name, value_text(theirs), value_text(mine))) for name, mine, theirs in found]
    names = columns("field", one.baseline, one.name, text=(one.baseline, one.name))
    return Table(title=f"Settings of {one.name} that differ from {one.baseline}", columns=names, rows=rows)


_CURVES = ("train_loss", "val_loss", "train_clean_map", "val_map", *(f"val_ap_{c}" for c in CRITERIA))


def by_epoch(runs: Sequence[RunFolder]) -> pl.DataFrame:
    """Means over seeds of each row of metrics.csv, `seeds` of how many, `chosen` by how many, `gap` train minus val."""
    kept = []
    for run in runs:
        if run.metrics.height:
            columns_there = [name for name in _CURVES if name in run.metrics.columns]
            stage = pl.col("stage").cast(pl.String) if "stage" in run.metrics.columns else pl.lit("1").alias("stage")
            table = run.metrics.select(stage, pl.col("epoch").cast(pl.Int64), *columns_there)
            row = pl.int_range(table.height, dtype=pl.Int64).alias("row")
            kept.append(table.with_columns(row, (row == run.best_row).cast(pl.Int64).alias("chosen")))
    if not kept:
        return pl.DataFrame()
    every = pl.concat(kept, how="diagonal").with_columns(pl.col(pl.Float64).fill_nan(None))
    held = [name for name in _CURVES if name in every.columns]
    means = every.group_by("row").agg(
        pl.col("stage").first(),
        pl.col("epoch").first(),
        pl.len().alias("seeds"),
        pl.col("chosen").sum(),
        *(pl.col(name).mean() for name in held),
    )
    return means.with_columns((pl.col("train_clean_map") - pl.col("val_map")).alias("gap")).sort("row")


def epoch_table(one: StudiedExperiment) -> Table | None:
    """An experiment by epoch: losses, mAP of clean training clips and of val, the gap, AP; means over seeds."""
    means = by_epoch(one.sound)
    if not means.height or not means["val_map"].is_not_null().any():
        return None
    shown = [(name, 4) for name in ("train_loss", "val_loss") if name in means.columns]
    rows = []
    several = means["stage"].n_unique() > 1
    for row in means.to_dicts():
        cells: list[Cell] = [f"{row['stage']}, {row['epoch']}" if several else str(row["epoch"])]
        cells += [str(row["seeds"]), str(row["chosen"])]
        cells += ["" if row[name] is None else number(row[name], digits=digits) for name, digits in shown]
        if row["val_map"] is None:
            cells += [""] * (3 + len(CRITERIA))
        else:
            cells += [points(row[name], reason="") for name in ("train_clean_map", "val_map")]
            cells.append(points(row["gap"], reason="", sign=True))
            cells += [points(row[f"val_ap_{c}"], reason="") for c in CRITERIA]
        rows.append(Row(cells=cells, strong=bool(row["chosen"])))
    losses = [name.replace("_", " ") for name, _ in shown]
    heads = (
        "seeds",
        "chosen by",
        *losses,
        "train mAP, clean",
        "val mAP",
        "gap",
        *(f"val AP {label(c)}" for c in CRITERIA),
    )
    first = "stage, epoch" if several else "epoch"
    note = "Val was not scored after the epochs without its figures." if means["val_map"].has_nulls() else ""
    return Table(title=f"{one.name} by epoch, means over seeds", columns=columns(first, *heads), rows=rows, note=note)


def overfitting_table(study: StudyFolder) -> Table:
    """The gap between clean training clips and val at the chosen epoch, when val peaks, and what is lost after it."""
    rows = []
    for one in study.experiments.values():
        gaps, lost, early, flattered = [], [], 0, []
        for run in one.sound:
            if run.best_row is None:
                continue
            val, train = run.metrics["val_map"].to_list(), run.metrics["train_clean_map"].to_list()
            last = max(row for row, value in enumerate(val) if math.isfinite(value))  # not every epoch is scored
            gaps.append(train[run.best_row] - val[run.best_row])
            lost.append(val[run.best_row] - val[last])
            early += run.best_row < last
            if run.optimism.value is not None:
                flattered.append(run.optimism.value)
        if not gaps:
            continue
        peaks = median(run.best_row + 1 for run in one.sound if run.best_row is not None)
        cells: list[Cell] = [one.name, f"{peaks:g} of {max(run.metrics.height for run in one.sound)}"]
        cells += [f"{early} of {len(gaps)}", points(fmean(gaps), reason="", sign=True), points(fmean(lost), reason="")]
        rows.append(Row(cells=[*cells, points(fmean(flattered) if flattered else None, reason="")]))
    heads = (
        "peak epoch, median",
        "seeds that peak before the last",
        "train minus val at the peak",
        "val lost by the last epoch",
        "optimism of choosing the epoch",
    )
    return Table(
        title="Overfitting by experiment, points of mAP, means over seeds",
        columns=columns("experiment", *heads, text=("peak epoch, median", "seeds that peak before the last")),
        rows=rows,
        note="Training clips are scored in evaluation mode, on a fixed subset; the gap has no interval, as the "
        "predictions of training clips are not kept.",
    )
