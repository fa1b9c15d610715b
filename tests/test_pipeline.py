import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run_requests import StopAfter
from run_requests import digests as _digests
from run_requests import requested as _request
from run_requests import trained as _train
from run_requests import trainer as _session

from calot.criteria import CRITERIA
from calot.data.dataset import EpochIndices
from calot.errors import CalotError, Stopped
from calot.models.checkpoints import EMBEDDED
from calot.pipeline import load_run, predict_run
from calot.progress import Ui
from calot.run.build import build_classifier
from calot.run.data import OpenData
from calot.statistics.predictions import load_predictions


@pytest.fixture(scope="module")
def run(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(_request(phantom, tmp_path_factory.mktemp("runs") / "run"))


def test_a_run_leaves_what_the_docs_say(run: Path) -> None:
    for name in ("experiment.json", "environment.json", "data.json", "model.json", "metrics.csv", "train.log"):
        assert (run / name).is_file(), name
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [r["epoch"] for r in rows] == ["1", "2"]
    assert {"train_clean_map", "val_map", *(f"val_ap_{c}" for c in CRITERIA)} <= set(rows[0])
    model = json.loads((run / "model.json").read_text())
    assert (model["weights"], model["tokens"]) == (EMBEDDED, {"grid": [4, 8, 8], "width": 128})
    assert "phantom operations" in model["weights_are"]
    data = json.loads((run / "data.json").read_text())
    assert (data["synthetic"], data["protocol"], data["causal"]) == (True, "keyframes", True)


def test_predictions_cover_every_val_keyframe_with_the_raters_majority(run: Path, phantom: Path) -> None:
    predictions = load_predictions(run / "predictions" / "val.parquet")
    data = OpenData.of(phantom, experiment=_request(phantom, run).experiment, ui=Ui())
    table = data.clips("val", training=False)
    assert predictions.frames.tolist() == table.frame_numbers.tolist()
    assert np.array_equal(predictions.labels, table.majority)
    assert np.isfinite(predictions.logits).all()
    assert (predictions.protocol, predictions.split, predictions.dataset) == ("keyframes", "val", "phantom")
    assert predictions.manifest_hash == data.manifest.hash


def test_the_same_run_twice_is_the_same_bytes(run: Path, phantom: Path, tmp_path: Path) -> None:
    assert _digests(_train(_request(phantom, tmp_path / "again"))) == _digests(run)


def test_workers_do_not_change_a_run(run: Path, phantom: Path, tmp_path: Path) -> None:
    again = _train(_request(phantom, tmp_path / "workers", changes=("compute.workers=2",)))
    assert _digests(again) == _digests(run)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_resumed_run_ends_in_the_same_bytes(run: Path, phantom: Path, tmp_path: Path, steps: int) -> None:
    request = _request(phantom, tmp_path / "stopped")
    with pytest.raises(Stopped):
        _train(request, StopAfter(steps))
    assert _digests(_train(replace(request, resume=True))) == _digests(run)


def test_an_existing_folder_names_both_ways_out(run: Path, phantom: Path) -> None:
    with pytest.raises(CalotError, match=r"--resume .* --overwrite"):
        _train(_request(phantom, run))


@pytest.mark.parametrize(
    ("change", "message"), [("train.lr=1e-5", r"train\.lr: 0\.0005 -> 1e-05"), ("seed", "seed: 0 -> 1")]
)
def test_resuming_another_run_is_refused_with_the_difference(
    run: Path, phantom: Path, change: str, message: str
) -> None:
    request = _request(phantom, run, changes=() if change == "seed" else (change,), seed=int(change == "seed"))
    with pytest.raises(CalotError, match=message):
        _train(replace(request, resume=True))


def test_a_frozen_backbone_is_bit_identical_after_training(phantom: Path, tmp_path: Path) -> None:
    request = _request(phantom, tmp_path / "frozen", "e02_frozen_probe", changes=("train.epochs=1",))
    folder = _train(request)
    from safetensors.torch import load_file

    torch.manual_seed(request.seed)
    before = dict(build_classifier(request.experiment).state_dict().items())
    after = load_file(folder / "checkpoints" / "last" / "model.safetensors")
    moved = {k.split(".")[0] for k in after if not torch.equal(before[k], after[k])}
    assert moved == {"pooling", "head"}


def test_a_non_finite_loss_stops_the_run_and_says_where(phantom: Path, tmp_path: Path) -> None:
    changes = ("train.adaptation.lr=100", "train.lr=100", "train.clip_norm=1e6", "train.warmup=0", "train.epochs=4")
    with pytest.raises(CalotError, match=r"non-finite .*epoch \d, batch \d.*clips \["):
        _train(_request(phantom, tmp_path / "diverged", changes=changes))


MIXED = ("mixing=Mixing(mixup_probability=1.0, cutmix_probability=0.0)", "label_smoothing=0.1")


def test_pitfall_train_map_computed_on_mixed_inputs_against_unmixed_labels(phantom: Path, tmp_path: Path) -> None:
    """The clean pass over training clips sees them neither augmented nor mixed, against the raters' labels."""
    plain, mixed = _session(phantom, tmp_path / "a", "augment=[]"), _session(phantom, tmp_path / "b", *MIXED)
    one, other = (next(s.batches(s.request.experiment.train, epoch=0, start=0)) for s in (plain, mixed))
    assert torch.equal(one.index, other.index)
    assert not torch.equal(one.video, other.video)
    assert not torch.equal(one.labels, other.labels)
    scores = [s.objective.evaluate(s.called, s.passes, epoch=0) for s in (plain, mixed)]
    assert (scores[0].value, scores[0].columns) == (scores[1].value, scores[1].columns)


def test_an_epochs_remainder_is_a_step_of_its_own(phantom: Path, tmp_path: Path) -> None:
    trainer = _session(phantom, tmp_path)
    stage = trainer.request.experiment.train
    sizes = [len(b) for b in trainer.batches(stage, epoch=0, start=0)]
    count = len(trainer.train_set)
    assert sizes == [8] * (count // 8) + ([count % 8] if count % 8 else [])


def test_a_positive_weight_shows_another_loss_on_the_same_batch(phantom: Path, tmp_path: Path) -> None:
    e02, e06 = (_session(phantom, tmp_path, name=n) for n in ("e02_frozen_probe", "e06_c2_weighted"))
    labels = e02.train_set.table.labels[:, 1]
    chosen = [
        *np.flatnonzero(labels == 1)[:4],
        *np.flatnonzero(labels == 0)[:4],
    ]  # without a positive, nothing to weigh
    assert labels[chosen].any()
    batch = e02.train_set[EpochIndices(epoch=0, indices=tuple(int(i) for i in chosen))]

    losses = []
    for trainer in (e02, e06):
        torch.manual_seed(0)
        losses.append(float(trainer.request.experiment.loss(trainer.model.eval()(batch), batch).detach()))
    assert losses[1] > losses[0] * 1.01


def test_predicting_again_gives_the_same_table(run: Path, phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.parquet"
    predict_run(run, split="val", data=phantom, ui=Ui(), out=out)
    assert out.read_bytes() == (run / "predictions" / "val.parquet").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["e03_focal", "e04_balanced", "e05_focal_balanced", "e06_c2_weighted", "e06_cystic_plate"]
)
def test_the_probe_family_runs_at_tiny_scale(phantom: Path, tmp_path: Path, name: str) -> None:
    folder = _train(_request(phantom, tmp_path / name, name))
    assert (
        load_predictions(folder / "predictions" / "val.parquet").fingerprint
        == _request(phantom, folder, name).experiment.fingerprint()
    )


def test_a_lora_run_leaves_a_standard_adapter_that_peft_loads(phantom: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    folder = _train(_request(phantom, tmp_path / "run", "e10a_lora_r16", changes=("train.epochs=1",)))
    experiment, model, _ = load_run(folder)
    plain = experiment.backbone.build_without_weights().model.eval()
    own = {k.replace(".base_layer.", "."): v for k, v in model.backbone.model.state_dict().items()}
    plain.load_state_dict({k: v for k, v in own.items() if ".lora_" not in k})
    adapted = PeftModel.from_pretrained(plain, folder / "adapter").eval()
    clip = torch.randn(1, 8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = model.eval().backbone(clip).values, adapted.base_model.model.encoder(clip).last_hidden_state
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert any(bool(v.any()) for k, v in own.items() if ".lora_B." in k)
