"""Trivial baselines in a run's folder: fitted and scored on the run's own clips, for its pages and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calot.analysis.trivial import BASELINES, TrivialLogits
from calot.analysis.trivial_cache import StoredClips, trivial_scores
from calot.data.cache import cache_folder
from calot.data.clips import ClipTable
from calot.data.store import find_store
from calot.errors import CalotError
from calot.evaluation.predict import predictions_table
from calot.progress import Ui
from calot.provenance import custody
from calot.run import folder as run_folder
from calot.run.data import OpenData
from calot.statistics.predictions import Predictions
from calot.statistics.trivial import SPLITS, Trivial, TrivialTables, index_of, table_of
from calot.writing import write_json


def affordable_baselines(folder: Path, *, data: OpenData, split: str, ui: Ui) -> list[TrivialTables]:
    """The baselines of a split that a run is scored on, if train's frames are decoded, as they are after training.

    They are not decoded for it: a line names the command that does, where it is needed.
    """
    if split not in SPLITS:
        return []
    if _train_is_decoded(data):
        return [score_baselines(data, split=split, ui=ui)]
    command = f"calot data baselines {data.root} --run {folder}"
    ui.say(f"trivial baselines of {split}: not computed, as train's frames are not decoded here. Use: {command}")
    return []


def add_baselines(folder: Path, *, data: OpenData, ui: Ui) -> list[str]:
    """The baselines of each split that a run was scored on, decoding train where need be; the run is sealed again."""
    custody.require_sealed(folder)
    run_folder.require_own_data(folder, data=data)
    splits = [split for split in SPLITS if (folder / "predictions" / f"{split}.parquet").is_file()]
    if not splits:
        raise CalotError(f"{folder}: not scored yet: no predictions. Use: calot evaluate {folder}")
    made = [score_baselines(data, split=split, ui=ui) for split in splits]
    with custody.resealed(folder):
        write_baselines(folder, made=made)
    return splits


def score_baselines(data: OpenData, *, split: str, ui: Ui) -> TrivialTables:
    """Every baseline fitted on train's clips and their majority labels, whatever the experiment's label rule."""
    table = data.clips(split, training=False)
    found: dict[str, TrivialLogits] = {}
    train, lost = None, None
    try:
        train = data.clips("train", training=False)
        found = trivial_scores(
            StoredClips(table=train, store=data.store("train")),
            StoredClips(table=table, store=data.store(split)),
            manifest_hash=data.manifest.hash,
            folder=cache_folder(data.root, data.experiment.compute.cache_folder) / "baselines",
            ui=ui,
        )
    except CalotError as error:  # no train, or frames of it that cannot be read: a result without baselines, and why
        lost = str(error)
        ui.say(f"trivial baselines of {split}: undefined: {lost}")
    return TrivialTables(
        split=split,
        protocol=table.protocol,
        manifest_hash=data.manifest.hash,
        clips=0 if train is None else len(train),
        videos=0 if train is None else len(set(train.videos.tolist())),
        undefined=lost,
        baselines=tuple(
            Trivial(
                name=one.name,
                title=one.title,
                settings=repr(one),
                undefined=found[one.name].undefined,
                predictions=_predictions(found[one.name], table=table, fingerprint=one.fingerprint, data=data),
            )
            for one in BASELINES
            if one.name in found
        ),
    )


def write_baselines(folder: Path, *, made: Sequence[TrivialTables]) -> None:
    """`baselines/<split>.json`, and a table of predictions for each, into a run that is not sealed at this moment."""
    for tables in made:
        index = index_of(folder, split=tables.split)
        for old in index.with_suffix("").glob("*.parquet"):
            old.unlink()
        for one in tables.baselines:
            one.predictions.write(table_of(folder, split=tables.split, name=one.name))
        write_json(index, _index(tables))


def _index(made: TrivialTables) -> dict[str, Any]:
    facts = {name: value for name, value in vars(made).items() if name != "baselines"}
    entries = [{k: v for k, v in vars(one).items() if k != "predictions"} for one in made.baselines]
    return {"format": 1, **facts, "baselines": entries}


def _predictions(scored: TrivialLogits, *, table: ClipTable, fingerprint: str, data: OpenData) -> Predictions:
    return predictions_table(
        scored.logits, table=table, seed=0, fingerprint=fingerprint, manifest_hash=data.manifest.hash
    )


def _train_is_decoded(data: OpenData) -> bool:
    if "train" not in data.manifest.splits or "train" in data.pixels():
        return True
    experiment = data.experiment
    try:
        found = find_store(
            data.root,
            data.manifest.split("train"),
            geometry=experiment.geometry,
            size=experiment.backbone.size,
            frames=data.folder.frames,
            cache=experiment.compute.cache_folder,
        )
    except CalotError:
        return True  # what is wrong with train is said where it is opened
    return found is not None
