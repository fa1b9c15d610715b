"""Does `calot pretrain` end with an encoder that others can read, and refuse what it should?"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from command_line import calot
from plain_table import frames_folder, without_labels
from run_requests import requested, trained

from calot.data.readers import open_folder
from calot.errors import CalotError
from calot.models.backbones.predictor import Predictor
from calot.models.backbones.vjepa2 import VJEPA2
from calot.pipeline import load_run
from calot.progress import Ui
from calot.run.apart import require_apart
from calot.run.data import OpenData
from calot.run.standardising import feature_moments
from calot.types import Tokens

QUICK = ("protocol=keyframes", "train.epochs=2", "train.batch=8", "train.lr=1e-3", "train.adaptation.lr=1e-3")
TINY = (*QUICK, "--scale", "tiny", "--seed", "0")


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain table of frames that nobody has judged."""
    return without_labels(frames_folder(tmp_path_factory.mktemp("unlabelled")))


@pytest.fixture(scope="module")
def run(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    done = calot("pretrain", phantom, *TINY, "--out", folder, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert f"calot train e02_frozen_probe backbone.weights={folder / 'weights'} --data {phantom}" in done.stdout
    return folder


def tokens_of(run: Path, video: torch.Tensor) -> torch.Tensor:
    tokens: Tokens = load_run(run)[1].backbone.eval()(video)
    return tokens.values


def test_transformers_alone_reads_the_encoder_and_gives_the_same_tokens(run: Path) -> None:
    from transformers import VJEPA2Model

    model, info = VJEPA2Model.from_pretrained(run / "weights", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    video = torch.rand(2, 8, 3, 64, 64)
    with torch.no_grad():
        theirs = model.eval()(pixel_values_videos=video, skip_predictor=True).last_hidden_state
        ours = tokens_of(run, video)
    assert (theirs - ours).abs().max() < 1e-6
    assert model.config.architectures == ["VJEPA2Model"]


def test_standardised_weights_are_the_encoder_with_features_of_mean_0_and_deviation_1(
    run: Path, phantom: Path, tmp_path: Path
) -> None:
    from transformers import VJEPA2Model

    run = Path(shutil.copytree(run, tmp_path / "run"))
    done = calot("pretrain", phantom, *TINY, "--out", run, "--resume", "--standardised", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"backbone.weights={run / 'standardised'}" in done.stdout
    plain, made = (VJEPA2Model.from_pretrained(run / name).eval() for name in ("weights", "standardised"))
    experiment = load_run(run)[0]
    data = OpenData.of(phantom, experiment=experiment, ui=Ui())
    table, store = data.clips("train", training=False), data.store("train")
    video = torch.from_numpy(store.read(table.frames))
    with torch.no_grad():
        shown = experiment.backbone.views[0].normalise(video)
        before, after = (model(shown, skip_predictor=True).last_hidden_state.double() for model in (plain, made))
        predictions = [model(shown[:4]).predictor_output.last_hidden_state for model in (plain, made)]
    features = after.flatten(0, 1)
    assert features.mean(0).abs().max() < 1e-4
    assert (features.std(0, correction=0) - 1).abs().max() < 1e-4
    flat = before.flatten(0, 1)
    expected = (flat - flat.mean(0)) / flat.std(0, correction=0)
    assert (features - expected).abs().max() < 1e-3
    assert (predictions[0] - predictions[1]).abs().max() < 1e-4
    card = (run / "standardised" / "README.md").read_text()
    assert card.startswith((run / "weights" / "README.md").read_text())
    assert f"{len(features)} tokens of {len(table)} training clips" in card
    assert tokens_of(run, torch.rand(1, 8, 3, 64, 64)).shape == (1, 256, 128)


def test_a_constant_feature_is_named(run: Path, phantom: Path) -> None:
    experiment, model, _ = load_run(run)
    with torch.no_grad():
        model.backbone.model.encoder.layernorm.weight[5] = 0
    with pytest.raises(CalotError, match="feature 5 of the encoder's tokens does not vary"):
        feature_moments(model, OpenData.of(phantom, experiment=experiment, ui=Ui()))


def test_backbone_weights_takes_the_folder_for_a_probe(run: Path, phantom: Path, tmp_path: Path) -> None:
    weights = f"backbone.weights={run / 'weights'}"
    probe = trained(requested(phantom, tmp_path / "probe", "e02_frozen_probe", changes=(weights,)))
    assert json.loads((probe / "model.json").read_text())["weights"] == str(run / "weights")
    video = torch.rand(1, 8, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(tokens_of(probe, video), tokens_of(run, video))


def test_pretraining_continues_from_the_folder_predictor_included(run: Path) -> None:
    own = load_run(run)[1].backbone
    again = type(own.spec)(**{**vars(own.spec), "weights": str(run / "weights")}).build()
    assert all(torch.equal(a, b) for a, b in zip(own.state_dict().values(), again.state_dict().values(), strict=True))
    other = {**vars(own.spec), "weights": str(run / "weights"), "predictor": Predictor(layers=1, width=48, heads=2)}
    with pytest.raises(CalotError, match="pred_num_hidden_layers 2 where the experiment says 1"):
        VJEPA2(**other).build()


def test_weights_without_a_predictor_start_one_at_random(run: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(run / "weights", tmp_path / "w")
    tensors = load_file(tmp_path / "w" / "model.safetensors")
    encoder = {k: v for k, v in tensors.items() if not k.startswith("predictor.")}
    save_file(encoder, tmp_path / "w" / "model.safetensors", metadata={"format": "pt"})
    spec = load_run(run)[1].backbone.spec
    made = type(spec)(**{**vars(spec), "weights": str(tmp_path / "w")}).build()
    weight = made.model.fresh["predictor"].proj.weight
    assert torch.isfinite(weight).all()
    assert weight.std() > 0.01


def test_the_card_says_what_the_encoder_is(run: Path, phantom: Path) -> None:
    card = (run / "weights" / "README.md").read_text()
    record = json.loads((run / "experiment.json").read_text())
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    for said in (record["fingerprint"], f"pretrain {phantom}", "(synthetic)", "- seed: 0", "no label was read"):
        assert said in card, said
    assert f"{float(rows[-1]['val_loss']):.4g}" in card


def test_a_finished_run_is_sealed_and_resuming_it_changes_nothing(run: Path, phantom: Path) -> None:
    before = {p.name: p.read_bytes() for p in (run / "weights").iterdir()}
    assert calot("audit", run, cwd=run.parent).returncode == 0
    done = calot("pretrain", phantom, *TINY, "--out", run, "--resume", cwd=run.parent)
    assert done.returncode == 0, done.stderr
    assert {p.name: p.read_bytes() for p in (run / "weights").iterdir()} == before
    refused = calot("pretrain", phantom, *TINY, "--out", run, cwd=run.parent)
    assert refused.returncode == 2
    assert "--resume continues it" in refused.stderr


def test_frames_without_any_label_train_it(unlabelled: Path, tmp_path: Path) -> None:
    plain = (*TINY, "augment=()")  # these frames are of one colour each, so that a mirror shows the same
    done = calot("pretrain", unlabelled, *plain, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "weights" / "model.safetensors").is_file()


def test_a_collapse_is_the_last_word_and_a_finding(phantom: Path, tmp_path: Path) -> None:
    rates = [f"train.{name}=2e-3" for name in ("lr", "min_lr", "adaptation.lr")]
    planted = ("objective.momentum=0", "objective.stop_gradient=False", "protocol=keyframes", "train.epochs=4", *rates)
    planted = (*planted, "train.batch=8", "train.warmup=0.5", "backbone.weights=None")
    done = calot("pretrain", phantom, *planted, "--scale", "tiny", "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 1
    assert "collapse: the features say nearly the same of every token" in done.stdout
    assert "Next:" not in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("e02_frozen_probe",), "e02_frozen_probe trains on labels: calot train e02_frozen_probe"),
        (("p01_masked_prediction", "p01_masked_prediction"), "one pretraining per command"),
        (("p01_masked",), 'Did you mean "p01_masked_prediction"'),
        (("backbone.predictor=None",), "has no predictor: set backbone.predictor"),
        (("--resume", "--overwrite"), "give one of them"),
    ],
)
def test_what_it_cannot_train_is_refused(words: tuple[str, ...], message: str, phantom: Path, tmp_path: Path) -> None:
    done = calot("pretrain", phantom, *words, "--out", tmp_path / "run", "--scale", "tiny", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_train_sends_a_pretraining_where_it_belongs_and_report_shows_it(
    run: Path, phantom: Path, tmp_path: Path
) -> None:
    done = calot(
        "train", "p01_masked_prediction", "--data", phantom, "--scale", "tiny", "--out", tmp_path / "x", cwd=tmp_path
    )
    assert f"p01_masked_prediction reads no labels: calot pretrain {phantom} p01_masked_prediction" in done.stderr
    done = calot("report", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Report of 1 run" in done.stdout
    assert "calot train e02_frozen_probe backbone.weights=" in (run / "report.html").read_text()
    assert (
        "calot pretrain ROOT p01_masked_prediction"
        in calot("experiments", "show", "p01_masked_prediction", cwd=tmp_path).stdout
    )
    assert "p01_masked_prediction" in calot("experiments", "list", cwd=tmp_path).stdout


def test_an_operation_of_val_or_test_never_trains(phantom: Path, unlabelled: Path) -> None:
    require_apart(open_folder(phantom).manifest)
    manifest = open_folder(unlabelled).manifest
    require_apart(manifest)
    shared = manifest.table.with_columns(pl.lit("Cholec80").alias("dataset"))
    moved = shared.with_columns(pl.when(pl.col("video") == "1").then(pl.lit("66")).otherwise("video").alias("video"))
    with pytest.raises(CalotError, match=r"training video 66 of Cholec80 is the operation 121 of Endoscapes.*its val"):
        require_apart(type(manifest)(table=moved, numbering=manifest.numbering))
    require_apart(type(manifest)(table=shared, numbering=manifest.numbering))
    train = manifest.table.filter(pl.col("split") == "train")
    both = pl.concat([manifest.table, train.head(1).with_columns(pl.lit("test").alias("split"))])
    with pytest.raises(CalotError, match="video 1 is in"):
        require_apart(type(manifest)(table=both, numbering=manifest.numbering))
