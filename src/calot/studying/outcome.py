"""What came of a study: one row per experiment, held against its baseline, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calot.errors import CalotError
from calot.provenance.receipt import Receipt
from calot.provenance.treatment import Treatment, treatment_of, weakest
from calot.run.request import Request
from calot.statistics.compare import Comparison, compare
from calot.statistics.intervals import video_intervals
from calot.statistics.jackknife import interval_fields
from calot.statistics.predictions import Predictions, load_predictions
from calot.sweeping.jobs import DONE, JobRecord
from calot.wall import PARTS, spent_by_part

#: What may take a quarter of the time at most: all but steps, and frames and features that later runs read again.
OVERHEAD = tuple(part for part in PARTS if part not in ("training", "features", "frame store"))


@dataclass(frozen=True, kw_only=True)
class ExperimentRow:
    """One experiment: the seeds that are complete, and what is not; mAP (a share) averaged over its seeds."""

    experiment: str
    baseline: str | None
    seeds: tuple[int, ...]
    unfinished: dict[str, str]
    map: dict[str, Any]
    per_seed: tuple[float | None, ...]
    seed_deviation: float | None
    treatment: Treatment
    seconds: float
    against: Comparison | None
    refusal: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Runs:
    """The complete runs of one experiment."""

    requests: Sequence[Request]
    tables: Sequence[Predictions]
    treatment: Treatment


def outcome_rows(requests: Sequence[Request], records: Mapping[str, JobRecord]) -> list[ExperimentRow]:
    """A row for each experiment, in the order asked for; `records` by run's folder."""
    names = list(dict.fromkeys(request.experiment.name for request in requests))
    by_name = {name: [r for r in requests if r.experiment.name == name] for name in names}
    complete = {name: _complete(asked, records=records) for name, asked in by_name.items()}
    for asked in by_name.values():
        baseline, home = asked[0].experiment.baseline, asked[0].folder.parent.parent
        if baseline is not None and baseline not in complete and (lying := _lying(home / baseline)).tables:
            complete[baseline] = lying
    return [_row(name, by_name[name], complete=complete, records=records) for name in names]


def _complete(asked: Sequence[Request], *, records: Mapping[str, JobRecord]) -> _Runs:
    done = [request for request in asked if records[str(request.folder)].state == DONE]
    return _read([request.folder for request in done], requests=done)


def _lying(home: Path) -> _Runs:
    """The runs of an experiment that an earlier command left complete and valid."""
    there = [path.parent.parent for path in sorted(home.glob("s*/predictions/val.parquet"))]
    complete = [run for run in there if (run / "seal.json").is_file()]
    sound = [run for run in complete if (receipt := Receipt.load(run)) is None or not receipt.failed]
    return _read(sound, requests=())


def _read(folders: Sequence[Path], *, requests: Sequence[Request]) -> _Runs:
    tables = [load_predictions(folder / "predictions" / "val.parquet").with_labels() for folder in folders]
    proofs = {
        str(folder): treatment_of(Receipt.load(folder), fingerprint=table.fingerprint)
        for folder, table in zip(folders, tables, strict=True)
    }
    none = Treatment(status="unverified", why="no complete run")
    return _Runs(requests, tables, weakest(proofs) if proofs else none)


def _row(
    name: str, asked: Sequence[Request], *, complete: Mapping[str, _Runs], records: Mapping[str, JobRecord]
) -> ExperimentRow:
    runs, baseline = complete[name], asked[0].experiment.baseline
    mine = [records[str(request.folder)] for request in asked]
    against, refusal = _against(baseline, name, complete=complete)
    unfinished = {record.job.name: record.state for record in mine if record.state != DONE}
    return ExperimentRow(
        experiment=name,
        baseline=baseline,
        seeds=tuple(request.seed for request in runs.requests),
        unfinished=unfinished,
        map=interval_fields(video_intervals(runs.tables).map) if runs.tables else {"value": None},
        per_seed=tuple(record.map for record in mine if record.state == DONE),
        seed_deviation=_deviation([record.map for record in mine if record.state == DONE]),
        treatment=runs.treatment,
        seconds=sum(record.seconds for record in mine),
        against=against,
        refusal=refusal,
    )


def _deviation(values: Sequence[float | None]) -> float | None:
    """Sample standard deviation over seeds."""
    known = [value for value in values if value is not None]
    if len(known) < 2 or len(known) < len(values):
        return None
    mean = sum(known) / len(known)
    return float((sum((value - mean) ** 2 for value in known) / (len(known) - 1)) ** 0.5)


def _against(baseline: str | None, name: str, *, complete: Mapping[str, _Runs]) -> tuple[Comparison | None, str | None]:
    """The paired comparison with the baseline, on the seeds that both have; or why there is none."""
    if baseline is None:
        return None, "it names no baseline"
    if baseline not in complete:
        return None, f"its baseline {baseline} is not in this study"
    mine, theirs = complete[name], complete[baseline]
    if not mine.tables or not theirs.tables:
        return None, f"no complete run of {name if not mine.tables else baseline}"
    try:
        found = compare(
            mine.tables, theirs.tables, names=(name, baseline), treatments=(mine.treatment, theirs.treatment)
        )
    except CalotError as error:
        return None, str(error)
    return found, None


def costs_of(requests: Sequence[Request], records: Mapping[str, JobRecord]) -> dict[str, Any]:
    """Seconds and shares by part of all runs together; what a run's process spent beyond them is start-up, too."""
    seconds = dict.fromkeys(PARTS, 0.0)
    for request in requests:
        spent, whole = spent_by_part(request.folder), records[str(request.folder)].seconds
        for part, value in spent.items():
            seconds[part] += value
        seconds["start-up"] += max(0.0, whole - sum(spent.values()))
    total = sum(seconds.values())
    shares = {part: value / total if total else 0.0 for part, value in seconds.items()}
    return {"seconds": seconds, "shares": shares, "total_s": total, "overhead": sum(shares[p] for p in OVERHEAD)}
