"""A run's folder as a value: everything the report shows, read once (docs/run_folder.md is the contract)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.provenance.combination import Combination, combination_in
from calot.provenance.custody import Identity, require_own, require_sealed
from calot.provenance.pretraining_facts import without_scores
from calot.provenance.receipt import Receipt
from calot.provenance.run_facts import SELECTION, RunFacts, changed_name
from calot.provenance.run_files import DataFile, EnvironmentFile, ExperimentFile, ImportFile, ModelFile, read_file
from calot.provenance.treatment import Treatment, treatment_of
from calot.statistics.anatomy import AttentionOnAnatomy, attention_on_anatomy
from calot.statistics.optimism import Optimism, optimism_of_run
from calot.statistics.predictions import Predictions, load_predictions
from calot.statistics.schema import UNKNOWN
from calot.statistics.trivial import BesideTrivial, beside_trivial

SPLITS = ("val", "test")
_METRICS = ("epoch", "train_clean_map", "val_map", *(f"val_ap_{c}" for c in CRITERIA))


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """One run. Without `predictions["val"]` it is unfinished, and then any file may still be missing (`{}`)."""

    path: Path
    experiment: Mapping[str, Any]
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    receipt: Receipt | None
    imported: Mapping[str, Any] | None
    metrics: pl.DataFrame
    predictions: Mapping[str, Predictions]
    combination: Combination | None
    pictures: Mapping[str, Mapping[tuple[str, int], Path]]

    @property
    def finished(self) -> bool:
        return "val" in self.predictions

    @property
    def name(self) -> str:
        return str(self.experiment["name"])

    @property
    def label(self) -> str:
        """The name with what was changed on the command line, so that a changed run is not called by its parent's."""
        return changed_name(self.experiment)

    @property
    def seed(self) -> int:
        return int(self.experiment.get("seed", 0))

    @property
    def manifest_hash(self) -> str | None:
        value = self.data.get("manifest_hash")
        return None if value is None else str(value)

    @property
    def scored_frames(self) -> tuple[str | None, str | None]:
        """What two runs must share to be compared: the data set's manifest and the protocol that picks its frames."""
        protocol = self.data.get("protocol")
        return self.manifest_hash, None if protocol is None else str(protocol)

    @property
    def synthetic(self) -> bool:
        return bool(self.data.get("synthetic", False))

    @cached_property
    def treatment(self) -> Treatment:
        """What the receipt proves of this run."""
        fingerprint = str(self.experiment.get("fingerprint", UNKNOWN))
        return treatment_of(self.receipt, fingerprint=fingerprint, combination=self.combination)

    @cached_property
    def chosen(self) -> str:
        """How the epoch was chosen that this run's numbers are of; it is finished."""
        return RunFacts.of(self.path).selection or SELECTION

    @property
    def has_result(self) -> bool:
        """Finished, and no check of its receipt failed: its scores may be shown."""
        return self.finished and not self.treatment.invalid

    @cached_property
    def beside_trivial(self) -> dict[str, BesideTrivial]:
        """The predictions of each split beside the trivial baselines on the same clips."""
        return {split: beside_trivial(table, run=self.path) for split, table in self.predictions.items()}

    @cached_property
    def optimism(self) -> Optimism:
        """Of choosing the epoch by val mAP."""
        return optimism_of_run(self.path, split="val")

    @cached_property
    def attention(self) -> AttentionOnAnatomy | None:
        """Of the chosen epoch on val, where the run reads attention."""
        return attention_on_anatomy(self.path, split="val")

    @cached_property
    def backbone_is_frozen(self) -> bool:
        """No trainable parameter lies in the backbone: all of them are in pooling and heads."""
        trained = self.model.get("parameters", {}).get("trainable_groups")
        return trained is not None and not any(trained.get(group) for group in ("backbone", "lora"))

    @property
    def weights(self) -> str:
        """Where the backbone's weights came from, and what those are where calot knows it."""
        said = (self.model.get("weights"), self.model.get("weights_are"))
        return ": ".join(str(part) for part in said if part)

    @property
    def is_random_control(self) -> bool:
        """A frozen backbone that was never trained: its scores are a floor, not a result."""
        return self.model.get("weights") == "random" and self.backbone_is_frozen

    @cached_property
    def best_row(self) -> int | None:
        """The row of `metrics` that val macro mAP selects, the first of equals; None when no epoch has a finite one."""
        finite = (
            [(-value, row) for row, value in enumerate(self.metrics["val_map"]) if math.isfinite(value)]
            if self.metrics.height
            else []
        )
        return min(finite)[1] if finite else None


def read_run(path: Path) -> RunFolder:
    """Read a run. Raises CalotError naming file and remedy when one is corrupt, or missing from a finished run."""
    if not (path / "experiment.json").is_file():
        raise CalotError(f"{path} is not a run: it has no experiment.json. Give a folder that `calot train` wrote.")
    require_sealed(path)
    files = {split: path / "predictions" / f"{split}.parquet" for split in SPLITS}
    predictions = {split: _predictions(file) for split, file in files.items() if file.is_file()}
    own = Identity.of_run(path)
    for split, table in predictions.items():
        require_own(table, own=own, where=files[split])
    required = "val" in predictions
    experiment = _read(path / "experiment.json", ExperimentFile, required=True)
    imported = path / "import.json"
    return RunFolder(
        path=path,
        experiment=experiment,
        environment=_read(path / "environment.json", EnvironmentFile, required=required),
        data=_read(path / "data.json", DataFile, required=required),
        model=_read(path / "model.json", ModelFile, required=required),
        receipt=Receipt.load(path),
        imported=_read(imported, ImportFile, required=False) if imported.is_file() else None,
        metrics=_read_metrics(path / "metrics.csv", required=required),
        predictions=predictions,
        combination=combination_in(experiment, where=path / "experiment.json"),
        pictures={split: _pictures(path / "figures" / "clips" / split) for split in SPLITS},
    )


def find_runs(root: Path) -> list[Path]:
    """Every folder at or below `root` that holds an `experiment.json`, sorted by path; below it, no run that read no
    labels, which has no score to stand beside others."""
    found = sorted(file.parent for file in root.rglob("experiment.json"))
    return [run for run in found if run == root or not without_scores(run)]


def _read(path: Path, kind: Any, *, required: bool) -> dict[str, Any]:
    if path.is_file():
        return read_file(path, kind)
    if required:
        raise CalotError(
            f"{path} is missing from a run that has predictions. Copy the whole run folder, or train again."
        )
    return {}


def _read_metrics(path: Path, *, required: bool) -> pl.DataFrame:
    if not path.is_file():
        if required:
            raise CalotError(
                f"{path} is missing from a run that has predictions. Copy the whole run folder, or train again."
            )
        return pl.DataFrame()
    try:
        table = pl.read_csv(path.read_bytes(), null_values=["", "nan", "NaN"], infer_schema_length=None)
    except pl.exceptions.NoDataError:
        return pl.DataFrame()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CalotError(f"{path} is not a readable CSV ({error}). Restore it from a copy, or train again.") from error
    if not required and without_scores(path.parent):
        raise CalotError(
            f"{path.parent}: a pretraining reads no labels, so there are no scores to report; its curves are in {path}"
        )
    absent = [name for name in _METRICS if name not in table.columns]
    if not required and absent == list(_METRICS[1:]) and "train_loss" in table.columns:  # no epoch was scored yet
        table = table.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in absent)
    elif absent:
        raise CalotError(f"{path} lacks the columns {absent}; it has {table.columns}. Train again with this calot.")
    numbers = [name for name in table.columns if name != "stage"]
    try:
        return table.with_columns(pl.col(numbers).cast(pl.Float64)).with_columns(
            pl.col(numbers).fill_null(float("nan"))
        )
    except pl.exceptions.PolarsError as error:
        raise CalotError(f"{path} holds text where a number belongs ({error}). Restore it, or train again.") from error


def _predictions(file: Path) -> Predictions:
    """A table that names itself by run, not by where on this machine it lies."""
    return replace(load_predictions(file).with_labels(), source=f"{file.parents[1].name}/predictions/{file.name}")


def _pictures(folder: Path) -> dict[tuple[str, int], Path]:
    found = {}
    for path in sorted(folder.glob("*.jpg")):
        video, _, frame = path.stem.rpartition("_")
        if frame.isdigit():
            found[(video, int(frame))] = path
    return found
