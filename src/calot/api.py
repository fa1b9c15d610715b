"""The Python API: the commands' names and rules, for notebooks and other programs.

Every error that is the input's is a `CalotError` of one line. Scoring and comparing need no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from calot.errors import CalotError, Stopped
from calot.provenance.treatment import Treatment
from calot.report.notebook import Shown, comparison_table, metrics_table, run_table
from calot.statistics.compare import Comparison
from calot.statistics.intervals import Interval
from calot.statistics.predictions import Predictions, Reading
from calot.statistics.summary import Summary

if TYPE_CHECKING:
    from calot.run.request import Request


@dataclass(frozen=True, kw_only=True, repr=False)
class Metrics(Shown):
    """What `calot metrics` says of one table: mAP and AP by criterion with 95 % intervals over videos.

    `treatment` is what the run's receipt proves. `summary` holds the rest: Brier scores, calibration, raters.
    """

    summary: Summary
    treatment: Treatment

    @property
    def map(self) -> Interval:
        """Mean average precision, a share; undefined (None, with the reason) where a criterion has no positive."""
        return self.summary.intervals.map

    @property
    def ap(self) -> dict[str, Interval]:
        """Average precision of each criterion."""
        return {name: item.ap for name, item in self.summary.criteria.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as in `calot metrics --json`."""
        proof = {"status": self.treatment.status, "why": self.treatment.why}
        return self.summary.to_dict() | {"treatment": proof}

    def shown(self) -> list[list[str]]:
        return metrics_table(self.summary, stamp=self.treatment.stamp)


@dataclass(frozen=True, kw_only=True, repr=False)
class Compared(Shown, Comparison):
    """What `calot compare` says of two sides: paired differences over videos, and a verdict in words.

    `invalid` says why there is no result: equal predictions, or a failed receipt.
    """

    def shown(self) -> list[list[str]]:
        return comparison_table(self)


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainedRun(Shown):
    """A run that `train` made or continued; everything else is in its folder."""

    folder: Path

    @property
    def treatment(self) -> Treatment:
        """What its receipt proves."""
        return _treatment(self.predictions())

    @property
    def report(self) -> Path:
        """Its page, one offline HTML file."""
        return self.folder / "report.html"

    def predictions(self, split: str = "val") -> Predictions:
        """Its predictions on a split. Raises CalotError where there are none yet."""
        return load_predictions(self, split=split)

    def shown(self) -> list[list[str]]:
        return run_table(self.folder)


#: What holds predictions: a table's file, a run's folder, a run that `train` returned, or a table that was loaded.
Source = str | Path | Predictions | TrainedRun


def load_predictions(
    source: Source,
    *,
    split: str = "val",
    columns: Mapping[str, str] | None = None,
    scores: Literal["logits", "probabilities"] | None = None,
    clip_probabilities: bool = False,
) -> Predictions:
    """Predictions of a run, or of any group's `.parquet`, `.csv`, `.tsv` or `.xlsx`.

    `split` chooses among a run's tables. For tables that calot did not write: `columns` gives our name for each of
    theirs, `scores` says what the score columns hold, `clip_probabilities` admits exact 0 and 1. Raises CalotError
    naming file, column, row, value and remedy.
    """
    from calot.cli.tables import table_of
    from calot.statistics.predictions import load_predictions as load
    from calot.statistics.scores import ScoreRule

    if isinstance(source, Predictions):
        return source
    path = Path(source.folder if isinstance(source, TrainedRun) else source)
    rule = ScoreRule(kind=scores, clip=clip_probabilities)
    return load(table_of(path, split=split), reading=Reading(columns=columns or {}, scores=rule))


def metrics(source: Source, *, split: str = "val") -> Metrics:
    """Average precision, Brier score, calibration and rater ceiling of one table, with 95 % intervals over videos.

    On val, thresholds are chosen on the same frames, and a note says so. Raises CalotError for a table without labels,
    and where the run's receipt failed: there is no result to show.
    """
    from calot.statistics.calibration import choose_thresholds
    from calot.statistics.predictions import NO_LABELS
    from calot.statistics.summary import summarise

    table = load_predictions(source, split=split)
    if not table.labelled and not table.with_labels().labelled:
        raise CalotError(f"{table.source}: {NO_LABELS}")
    treatment = _treatment(table)
    if treatment.invalid:
        raise CalotError(f"{table.source}: {treatment.stamp}. There is no result to show")
    table = table.with_labels()
    thresholds = choose_thresholds(table) if table.split == "val" else None
    return Metrics(summary=summarise(table, thresholds=thresholds), treatment=treatment)


def compare(
    a: Source | Sequence[Source],
    b: Source | Sequence[Source],
    *,
    split: str = "val",
    names: tuple[str, str] = ("A", "B"),
    smallest_effect: float = 0.02,
) -> Compared:
    """The paired difference A minus B over the same videos; a side is one table, or one for each seed.

    From five seeds per side on, the verdict is about the treatment; with fewer, about these checkpoints.
    `smallest_effect` is the difference of mAP (a share) that matters. Raises CalotError where frames, labels, protocol
    or data differ.
    """
    from calot.provenance.treatment import weakest
    from calot.statistics.compare import compare as compare_sides

    sides, treatments = [], []
    for side, name in ((a, names[0]), (b, names[1])):
        given = [side] if isinstance(side, (str, Path, Predictions, TrainedRun)) else list(side)
        if not given:
            raise CalotError(f"compare: side {name} has no table")
        tables = [load_predictions(one, split=split) for one in given]
        treatments.append(weakest({f"{number}": _treatment(table) for number, table in enumerate(tables, 1)}))
        sides.append([table.with_labels() for table in tables])
    proven = (treatments[0], treatments[1])
    found = compare_sides(*sides, names=names, treatments=proven, smallest_effect=smallest_effect)
    return Compared(**vars(found))


def train(
    experiment: str,
    *,
    data: str | Path,
    changes: Sequence[str] = (),
    out: str | Path | None = None,
    scale: Literal["full", "tiny"] = "full",
    seed: int = 42,
    results: str | Path = "results",
    resume: bool = False,
    overwrite: bool = False,
    receipt: bool = True,
    log: Sequence[str] = (),
) -> TrainedRun:
    """Train one experiment (a shipped name, or a `.py` of your own) with one seed, as `calot train` does.

    `changes` are `key=value`. Progress goes to standard error. An interrupt saves the run, and `resume=True` with the
    same `out` continues it. Raises CalotError for bad input, and where training packages are missing.
    """
    with _started():
        from calot.cli.train import requests, train_each
        from calot.processes import ALONE
        from calot.tracking.services import services_named

        if resume and (overwrite or out is None):
            raise CalotError("resume=True continues the run in out=FOLDER, and goes without overwrite=True")
        place = {"data": Path(data), "out": None if out is None else Path(out), "results": Path(results)}
        (asked,) = requests([experiment, *changes], scale=scale, seeds=str(seed), **place)  # type: ignore[arg-type]
        how: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "receipt": receipt}
        request: Request = replace(asked, **how, log=services_named(",".join(log) or None))
        train_each([request], out=request.folder, page=True, processes=ALONE)
    return TrainedRun(folder=request.folder)


def predict(
    run: str | Path | TrainedRun,
    *,
    data: str | Path | None = None,
    split: str = "val",
    out: str | Path | None = None,
) -> Predictions:
    """Score a split with a run's best weights; of its own data (the default), or of another data set into `out`.

    Raises CalotError for the test split, whose openings are counted: `calot evaluate RUN --split test` opens it.
    """
    if split == "test":
        raise CalotError("test is opened by `calot evaluate RUN --split test`, which counts it")
    with _started():
        from calot.pipeline import predict_run
        from calot.progress import Ui
        from calot.run.folder import data_root

        folder = run.folder if isinstance(run, TrainedRun) else Path(run)
        root = data_root(folder, named=None if data is None else Path(data))
        place = None if out is None else Path(out)
        predict_run(folder, split=split, data=root, ui=Ui(), out=place)
    return load_predictions(place or folder, split=split)


def _treatment(table: Predictions) -> Treatment:
    """What the receipt of the run whose table this is proves of it."""
    from calot.cli.tables import treatment_of_table

    return treatment_of_table(Path(table.source), table=table)


@contextmanager
def _started() -> Iterator[None]:
    """Around what needs torch: a missing package and a signal are said as a notebook understands them."""
    from calot.machine_errors import before_torch

    before_torch()
    try:
        yield
    except Stopped as stop:
        raise KeyboardInterrupt(str(stop)) from None
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "calot":
            raise
        raise CalotError(f"this needs the package {error.name!r}: pip install 'calot[train]'") from None
