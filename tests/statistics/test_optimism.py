"""The optimism of choosing the best epoch: nothing to choose from, a clear winner, and chance, whose cost is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from prediction_tables import clustered

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.metrics import mean_ap
from calot.statistics.optimism import CHOSEN_ON_VAL, NOT_KEPT, epoch_file, optimism, optimism_of_run
from calot.statistics.predictions import Predictions

BASE = clustered(videos=20, frames=30)


def scored(logits: np.ndarray, base: Predictions = BASE) -> Predictions:
    columns = [pl.Series(f"logit_{name}", logits[:, k]) for k, name in enumerate(CRITERIA)]
    return replace(base, frame=base.frame.with_columns(columns))


def by_chance(rng: np.random.Generator, *, count: int, base: Predictions) -> list[Predictions]:
    """Epochs of one true quality: each leans by video and by frame as it happens."""
    _, unit = np.unique(base.videos, return_inverse=True)
    made = []
    for _ in range(count):
        noise = 0.6 * rng.normal(size=(unit.max() + 1, 3))[unit] + 0.4 * rng.normal(size=base.logits.shape)
        made.append(scored(base.logits + noise, base))
    return made


def test_equal_epochs_flatter_nobody_and_one_leaves_no_choice() -> None:
    assert optimism([BASE] * 4).value == 0.0
    alone = optimism([BASE])
    assert (alone.epochs, alone.value, alone.reason) == (1, None, "one epoch leaves no choice")


def test_a_clear_winner_is_chosen_on_any_half_and_is_hardly_flattered() -> None:
    rng = np.random.default_rng(0)
    worse = [scored(rng.normal(size=BASE.logits.shape)) for _ in range(5)]
    best = scored(BASE.logits + 4.0 * BASE.labels)
    found = optimism([*worse, best]).value
    assert found is not None
    assert found < 0.01


def test_among_equally_good_epochs_it_is_the_mean_lead_of_the_best_over_all() -> None:
    """Their true mAP is one number, so what the best shows above the mean of all is optimism."""
    rng = np.random.default_rng(1)
    told, true = [], []
    for number in range(12):
        base = clustered(videos=30, frames=20, run=number)
        epochs = by_chance(rng, count=8, base=base)
        maps = [mean_ap(base.labels, one.logits).value or 0.0 for one in epochs]
        true.append(max(maps) - float(np.mean(maps)))
        told.append(optimism(epochs, halvings=60).value or 0.0)
    assert np.mean(told) == pytest.approx(np.mean(true), rel=0.25)


def test_positives_in_few_videos_cannot_be_halved() -> None:
    few = BASE.frame.with_columns(
        pl.when(pl.col("video") == BASE.videos[0]).then(pl.col(f"label_{name}")).otherwise(0).alias(f"label_{name}")
        for name in CRITERIA
    )
    base = replace(BASE, frame=few)
    epochs = by_chance(np.random.default_rng(2), count=3, base=base)
    assert "too few videos" in str(optimism(epochs).reason)


def test_a_run_is_chosen_among_the_epochs_of_its_last_stage(tmp_path: Path) -> None:
    epochs = by_chance(np.random.default_rng(3), count=3, base=BASE)
    for number, one in enumerate(epochs, start=1):
        one.write(epoch_file(tmp_path, stage=2, epoch=number))
    epochs[0].write(epoch_file(tmp_path, stage=1, epoch=1))
    assert optimism_of_run(tmp_path, split="val") == optimism(epochs)
    assert optimism_of_run(tmp_path, split="test").reason == CHOSEN_ON_VAL
    bare = optimism_of_run(None, split="val")
    assert optimism_of_run(tmp_path / "none", split="val").reason == bare.reason == NOT_KEPT


def test_an_epoch_of_another_run_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text('{"name": "e02", "seed": 0, "fingerprint": "own"}')
    (tmp_path / "data.json").write_text('{"manifest_hash": "m"}')
    made = scored(BASE.logits)
    for number, name in ((1, "own"), (2, "other")):
        replace(made, fingerprint=name, manifest_hash="m").write(epoch_file(tmp_path, stage=1, epoch=number))
    with pytest.raises(CalotError, match=r"epoch002\.parquet: belongs to another run"):
        optimism_of_run(tmp_path, split="val")
