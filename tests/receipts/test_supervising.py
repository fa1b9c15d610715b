"""Attention supervision moves attention onto the anatomy, and does nothing once its gradient is cut."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_requests import digests, requested, trained
from supervising import NAME, effect

from calot.errors import CalotError
from calot.statistics.predictions import load_predictions
from calot.train import checkpoint
from calot.types import QueryKey


@pytest.mark.long
def test_over_five_seeds_supervision_moves_attention_onto_the_anatomy(several_val: Path, tmp_path: Path) -> None:
    found = effect(several_val, tmp_path, seeds=range(5), epochs=3)
    assert found.by_seed_and_video.shape == (5, 6)
    low, high = found.interval
    assert 0 < low < high


@pytest.mark.long
def test_supervision_whose_gradient_is_cut_equals_lambda_zero_bit_for_bit(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, weight: float) -> tuple[str, str]:
        changes = (f"loss.terms.attention.weight={weight}", "loss.terms.attention.first_epoch=1", "train.epochs=1")
        folder = trained(requested(phantom, tmp_path / name, NAME, changes=changes))
        scores = load_predictions(folder / "predictions" / "val.parquet")
        return digests(folder)["checkpoints/best/model.safetensors"], scores.digest

    none, whole = run("none", 0.0), run("whole", 1.0)
    real = QueryKey.of

    def detached(self: QueryKey, clips: object) -> QueryKey:
        few = real(self, clips)
        return replace(few, query=few.query.detach(), key=few.key.detach())

    monkeypatch.setattr(QueryKey, "of", detached)
    assert run("cut", 1.0) == none
    assert whole[0] != none[0]
    assert whole[1] != none[1]


@pytest.mark.long
def test_attention_on_the_anatomy_and_its_area_stand_in_metrics(phantom: Path, tmp_path: Path) -> None:
    import polars as pl

    changes = ("train.epochs=2", "backbone.weights=None")
    rows = pl.read_csv(trained(requested(phantom, tmp_path / "run", NAME, changes=changes)) / "metrics.csv")
    mass, area = rows["val_attention_on_anatomy"].to_numpy(), rows["val_anatomy_area"].to_numpy()
    assert 0 < area[0] < 1
    assert np.allclose(mass, area, rtol=0.2)  # an encoder of random weights attends nearly uniformly


@pytest.mark.long
def test_no_epoch_before_supervision_begins_can_be_the_best(phantom: Path, tmp_path: Path) -> None:
    import polars as pl

    folder = trained(requested(phantom, tmp_path / "run", NAME, changes=("loss.terms.attention.first_epoch=2",)))
    rows = pl.read_csv(folder / "metrics.csv")
    assert rows["val_map"][0] != rows["val_map"][1]
    assert checkpoint.load(folder / "checkpoints" / "best").progress["best_epoch"] == 1  # counted from 0


@pytest.mark.parametrize("change", ["train.epochs=1", "train.patience=1"])
def test_supervision_that_may_never_begin_is_refused(phantom: Path, tmp_path: Path, change: str) -> None:
    with pytest.raises(CalotError, match="first_epoch is after epoch 1, where stage 1 may end"):
        requested(phantom, tmp_path / "run", NAME, changes=(change,))
