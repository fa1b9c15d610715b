"""A run's folder made of other runs' predictions: what describes it, its tables, its seal. No model is needed here."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.locking import locked
from calot.provenance.combination import Combination, Ensemble, Mean, MemberRun, combination_in
from calot.provenance.custody import Identity, require_own, require_sealed, seal, unseal
from calot.provenance.receipt import Receipt
from calot.provenance.run_facts import changed_name, is_treatment
from calot.provenance.run_files import DataFile, ExperimentFile, ModelFile, read_file
from calot.provenance.treatment import treatment_of
from calot.statistics.average import averaged
from calot.statistics.predictions import Predictions, load_predictions
from calot.statistics.trivial import index_of
from calot.writing import clear_disk_errors, write_json, write_text

#: What `calot report` asks of metrics.csv; a combined run has no epoch of its own.
_NO_EPOCHS = ("epoch", "train_clean_map", "val_map", *(f"val_ap_{name}" for name in CRITERIA))
#: Beside `predictions/`: the predictions of each view, `views/<split>/<view>.parquet`.
VIEWS = "views"


@dataclass(frozen=True, kw_only=True)
class CombinedRun:
    """What goes into the folder of a combined run; `runs` are the folders of its members, `experiment` what stands for
    the resolved experiment, and `views` the tables that a mean over views was made of."""

    combination: Combination
    runs: Sequence[Path]
    experiment: Mapping[str, Any]
    environment: Mapping[str, Any]
    table: Predictions
    views: Mapping[str, Predictions]


def member_of(run: Path) -> MemberRun:
    """A run as a member. Raises CalotError where its files are not what they were, and where its receipt failed."""
    require_sealed(run)
    record = read_file(run / "experiment.json", ExperimentFile)
    lacks = [name for name in ("fingerprint", "seed") if record.get(name) is None]
    if lacks:
        raise CalotError(f"{run / 'experiment.json'}: {lacks[0]} is missing, so its predictions cannot be named")
    combination = combination_in(record, where=run / "experiment.json")
    proof = treatment_of(Receipt.load(run), fingerprint=record["fingerprint"], combination=combination)
    if proof.invalid:
        raise CalotError(f"{run}: {proof.stamp}. It has no result to average; fix the experiment and train it again")
    return MemberRun(
        name=changed_name(record),
        fingerprint=record["fingerprint"],
        seed=record["seed"],
        passes=1 if combination is None else combination.passes,
        unproven=proof.why,
    )


def ensemble_of(runs: Sequence[Path], *, split: str, mean: Mean) -> tuple[Ensemble, Predictions]:
    """The mean of several runs' predictions of a split, from their sealed tables alone.

    Raises CalotError naming the run that was changed or failed its receipt, the two that are of other frames, and two
    that are the same run or predict the same.
    """
    paths = [_table_of(run, split=split) for run in runs]
    members = [member_of(run) for run in runs]
    tables = [_own_table(run, path=path) for run, path in zip(runs, paths, strict=True)]
    for place, (run, member, table) in enumerate(zip(runs, members, tables, strict=True)):
        for other in range(place):
            same = (member.fingerprint, member.seed) == (members[other].fingerprint, members[other].seed)
            if same or table.digest == tables[other].digest:
                how = "are the same run" if same else "hold equal predictions, bit for bit"
                raise CalotError(f"ensemble refused: {runs[other]} and {run} {how}: they are not two members")
    combination = Ensemble(members=tuple(members), mean=mean)
    return combination, averaged(tables, combination=combination, refusal="ensemble refused")


def _table_of(run: Path, *, split: str) -> Path:
    path = run / "predictions" / f"{split}.parquet"
    if not (run / "experiment.json").is_file():
        raise CalotError(f"{run}: not a run's folder: it has no experiment.json. Give runs")
    if not path.is_file():
        raise CalotError(f"{run}: no predictions/{split}.parquet; make it with: calot evaluate {run} --split {split}")
    return path


def _own_table(run: Path, *, path: Path) -> Predictions:
    table = load_predictions(path)
    require_own(table, own=Identity.of_run(run), where=path)
    return table


def experiment_of(run: Path) -> dict[str, Any]:
    """What a run's experiment.json says of its treatment, without what cannot change a result."""
    resolved = read_file(run / "experiment.json", ExperimentFile).get("experiment") or {}
    return {name: value for name, value in resolved.items() if is_treatment(name)}


def require_place(folder: Path, *, combination: Combination, split: str) -> None:
    """Raises CalotError where a folder holds anything but this same combination, which is then written again, and where
    test is asked for before val, which chooses the thresholds."""
    path = folder / "experiment.json"
    if folder.exists() and not folder.is_dir():
        raise CalotError(f"{folder}: a file stands where the run's folder must be. Take another --out")
    empty = not folder.is_dir() or not {item.name for item in folder.iterdir()} - {"run.lock"}
    record = read_file(path, ExperimentFile) if path.is_file() else {}
    own = combination.fingerprint, combination.seed
    if not empty and (record.get("fingerprint"), record.get("seed")) != own:
        held = f"the run {changed_name(record)}" if record else "something that is not a run"
        raise CalotError(f"{folder} holds {held}, and not {combination.name}: take another --out, or move it away")
    if split == "test" and not (folder / "predictions" / "val.parquet").is_file():
        raise CalotError(f"{folder}: has no val predictions, which choose the thresholds for test: make those first")


def write_combined(folder: Path, made: CombinedRun) -> Path:
    """Write the folder, or one more split into it, and seal it; returns the table's path.

    What describes the run comes first and its predictions last: one that was killed on the way is unfinished.
    """
    combination, split = made.combination, made.table.split
    require_place(folder, combination=combination, split=split)
    described = _described(made)
    with clear_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "run.lock", refusal=f"{folder}: another process works on this run; wait for it, or stop it"):
        require_place(folder, combination=combination, split=split)
        unseal(folder)
        for name, content in described.items():
            write_json(folder / name, content)
        write_text(folder / "metrics.csv", ",".join(_NO_EPOCHS) + "\n")
        _copy_baselines(made.runs, folder=folder, split=split)
        for name, table in made.views.items():
            table.write(folder / VIEWS / split / f"{name}.parquet")
        path = made.table.write(folder / "predictions" / f"{split}.parquet")
        seal(folder)
    return path


def _described(made: CombinedRun) -> dict[str, dict[str, Any]]:
    """What describes a combined run, by file: of its members' files and its own."""
    records = [read_file(run / "experiment.json", ExperimentFile) for run in made.runs]
    return {
        "experiment.json": _experiment(made, scale=_joined(records, "scale")),
        "data.json": _data([read_file(run / "data.json", DataFile) for run in made.runs]),
        "model.json": _model([read_file(run / "model.json", ModelFile) for run in made.runs]),
        "environment.json": dict(made.environment),
    }


def _experiment(made: CombinedRun, *, scale: str) -> dict[str, Any]:
    combination = made.combination
    return {
        "format": 2,
        "name": combination.name,
        "baseline": None,
        "scale": scale,
        "seed": combination.seed,
        "fingerprint": combination.fingerprint,
        "overrides": [],
        "difference": [],
        "experiment": dict(made.experiment),
        "source": None,
        "header": None,
        "combination": combination.to_json(),
    }


def _data(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first member's data.json, which all share but for how clips were cut and labelled."""
    return records[0] | {name: _joined(records, name) for name in ("window", "label_rule") if name in records[0]}


def _model(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Parameters of all members together."""
    counts: dict[str, Any] = {}
    for parameters in (record.get("parameters", {}) for record in records):
        for name in ("total", "trainable"):
            counts[name] = counts.get(name, 0) + parameters.get(name, 0)
        for name in ("groups", "trainable_groups"):
            inner = counts.setdefault(name, {})
            inner |= {group: inner.get(group, 0) + count for group, count in parameters.get(name, {}).items()}
    return {"weights": _joined(records, "weights"), "backbone": _joined(records, "backbone"), "parameters": counts}


def _joined(records: Sequence[dict[str, Any]], name: str) -> str:
    return "; ".join(dict.fromkeys(str(record.get(name)) for record in records))


def _copy_baselines(runs: Sequence[Path], *, folder: Path, split: str) -> None:
    """The trivial baselines on the same clips, from the first member that has them."""
    found = next((index for run in runs if (index := index_of(run, split=split)).is_file()), None)
    if found is None:
        return
    own = index_of(folder, split=split)
    with clear_disk_errors(own):
        own.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(found.with_suffix(""), own.with_suffix(""), dirs_exist_ok=True)
        shutil.copyfile(found, own)
