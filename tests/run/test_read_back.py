"""A finished run's predictions: the best epoch's own where a sample shows equal bits, a new pass where it does not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planted.catching import _begun
from run_requests import requested, trained

from calot import pipeline
from calot.phantom import PhantomSpec, generate
from calot.progress import Ui
from calot.run.read_back import BATCHES, sampled
from calot.run.trainer import Trainer
from calot.statistics.predictions import Predictions, load_predictions

FRAMES = "compute.features=off"
CHANGES = ("compute.evaluation_batch=4", "train.score_every=1", "train.epochs=2")


@pytest.mark.parametrize(("clips", "batch"), [(1, 4), (4, 4), (15, 4), (16, 4), (17, 4), (1246, 32), (100_000, 32)])
def test_a_sample_is_whole_batches_of_a_pass_its_first_and_its_last_among_them(clips: int, batch: int) -> None:
    found = sampled(clips, batch=batch)
    assert len(found) == len(set(found.tolist())) <= BATCHES * batch
    assert {0, clips - 1} <= set(found.tolist())
    blocks = [found[at : at + batch] for at in range(0, len(found), batch)]
    assert all(block[0] % batch == 0 for block in blocks)
    assert all(np.array_equal(block, np.arange(block[0], min(block[0] + batch, clips))) for block in blocks)


class Passes:
    """Counts the passes that are made of a whole split after training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        plain = pipeline._Loaded.logits

        def counting(loaded: pipeline._Loaded, *how: object, **given: object) -> np.ndarray:
            self.made += 1
            found: np.ndarray = plain(loaded, *how, **given)
            return found

        monkeypatch.setattr(pipeline._Loaded, "logits", counting)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    monkeypatch.setattr("calot.run.read_back.BATCHES", 2)
    return Passes(monkeypatch)


def _table(run: Path) -> Predictions:
    return load_predictions(run / "predictions" / "val.parquet")


def _again(run: Path, *, phantom: Path, out: Path) -> Predictions:
    pipeline.predict_run(run, split="val", data=phantom, ui=Ui(), out=out)
    return load_predictions(out)


@pytest.mark.slow
def test_what_the_best_epoch_wrote_has_the_bits_of_a_pass_of_its_own(
    phantom: Path, tmp_path: Path, passes: Passes
) -> None:
    run = trained(requested(phantom, tmp_path / "run", "e10a_lora_r16", changes=CHANGES))
    table = _table(run)
    assert len(table.logits) > 8, "the sample is smaller than the split"
    assert passes.made == 0
    assert table.frame.equals(_again(run, phantom=phantom, out=tmp_path / "again.parquet").frame)
    assert passes.made == 1


@pytest.mark.slow
def test_videos_that_sort_otherwise_as_words_than_as_numbers_keep_their_logits(tmp_path: Path, passes: Passes) -> None:
    """Clips stand by number in a data set (9 before 10), by word in a table of predictions (10 before 9)."""
    spec = PhantomSpec(videos=13, seed=3, mean_frames=45.0, min_frames=30, max_frames=60)
    generate(tmp_path / "many", spec)
    run = trained(requested(tmp_path / "many", tmp_path / "run", "e02_frozen_probe", changes=(*CHANGES, FRAMES)))
    assert {len(video) for video in _table(run).videos} == {1, 2}
    assert passes.made == 0
    again = _again(run, phantom=tmp_path / "many", out=tmp_path / "again.parquet")
    assert _table(run).frame.equals(again.frame)


@pytest.mark.slow
def test_a_receipt_switches_parts_off_on_the_sample_alone_and_says_so(
    phantom: Path, tmp_path: Path, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calot.pipeline.opening_receipt", lambda request, **how: _begun(request))
    request = replace(requested(phantom, tmp_path / "run", "e10a_lora_r16", changes=CHANGES), receipt=True)
    run = trained(request)
    receipt = pipeline.Receipt.load(run)
    assert receipt is not None
    clips = len(_table(run).logits)
    assert f"on {len(sampled(clips, batch=4))} of {clips} val clips without adapter" in receipt.check("ablation").why
    assert passes.made == 0
    assert _table(run).frame.equals(_again(run, phantom=phantom, out=tmp_path / "again.parquet").frame)


def test_epochs_on_cached_features_leave_predictions_from_frames(phantom: Path, tmp_path: Path, passes: Passes) -> None:
    run = trained(requested(phantom, tmp_path / "run", "e02_frozen_probe", changes=CHANGES))
    assert _table(run).frame.equals(_again(run, phantom=phantom, out=tmp_path / "again.parquet").frame)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["backbone", "head", "pooling"])
def test_a_model_that_gives_other_logits_than_its_epoch_scores_val_again(
    part: str, phantom: Path, tmp_path: Path, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best epoch is read back otherwise than it was scored: what `epochs/` holds is not taken."""
    put = Trainer._put

    def changed(trainer: Trainer, tensors: dict[str, torch.Tensor], *, where: Path) -> None:
        name = next(k for k, v in tensors.items() if k.startswith(part) and v.is_floating_point() and v.any())
        put(trainer, {**tensors, name: 1.01 * tensors[name]}, where=where)

    monkeypatch.setattr(Trainer, "_put", changed)
    request = requested(phantom, tmp_path / "run", "e10a_lora_r16", changes=CHANGES)
    trained(request)
    assert passes.made == 1
