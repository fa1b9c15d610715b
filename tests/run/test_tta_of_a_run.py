"""Test-time augmentation of a run: beside the run's own predictions, whole or not at all, and said everywhere."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import Done, calot
from run_requests import requested, trained

from calot.errors import CalotError, Stopped
from calot.evaluation import tta
from calot.pipeline import predict_views
from calot.progress import Ui
from calot.provenance.audit import audit_run
from calot.provenance.custody import seal
from calot.state import STATE
from calot.statistics.average import mean_logits
from calot.statistics.predictions import Predictions, load_predictions

pytestmark = [pytest.mark.long, pytest.mark.slow]


@pytest.fixture(scope="module")
def made(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed run of two epochs."""
    run = trained(requested(phantom, tmp_path_factory.mktemp("runs") / "run", "e02_frozen_probe"))
    seal(run)
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(STATE, str(tmp_path / "state"))
    return Path(shutil.copytree(made, tmp_path / "run"))


def predict(run: Path, phantom: Path, *words: str | Path) -> Done:
    return calot("predict", run, "--data", phantom, *words, cwd=run.parent)


def table(run: Path, split: str = "val") -> Predictions:
    return load_predictions(run / "predictions" / f"{split}.parquet")


def held(run: Path) -> dict[str, bytes]:
    """Every file of a run by its name."""
    return {p.relative_to(run).as_posix(): p.read_bytes() for p in run.rglob("*") if p.is_file()}


def logits(found: Predictions) -> bytes:
    return found.frame.select(pl.col("^logit_.*$")).to_numpy().tobytes()


def test_the_identity_alone_equals_no_augmentation_exactly(run: Path, phantom: Path) -> None:
    for words in (("--tta", "identity"), ("--tta", "identity", "--mean", "probabilities")):
        done = predict(run, phantom, *words)
        assert done.returncode == 0, done.stderr
        found = load_predictions(Path(done.stdout.splitlines()[0]))
        assert logits(found) == logits(table(run))
        assert found.passes == 1
        assert found.fingerprint != table(run).fingerprint


def test_views_go_beside_the_run_and_every_command_says_what_they_cost(run: Path, phantom: Path) -> None:
    before, beside = held(run), run.with_name("run_tta_flip_shift")
    done = predict(run, phantom, "--tta", "shift,flip")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(beside / "predictions" / "val.parquet")
    assert f"Next: calot metrics {beside / 'predictions' / 'val.parquet'}" in done.stdout
    assert held(run) == before
    parts = {path.stem: load_predictions(path) for path in (beside / "views" / "val").glob("*.parquet")}
    assert set(parts) == {"identity", "flip", "shift-1"}
    assert logits(parts["identity"]) == logits(table(run))
    assert len({logits(part) for part in parts.values()}) == 3
    assert len({part.fingerprint for part in parts.values()} | {table(run).fingerprint}) == 4
    mean = mean_logits([part.logits for part in parts.values()], mean="logits")
    assert np.array_equal(table(beside).logits, mean)
    said = "test-time augmentation, 3 views (identity, flip, shift-1), mean of logits: 3 forward passes per clip"
    for words in (("metrics", beside), ("compare", beside, run), ("report", beside)):
        shown = calot(*words, cwd=run.parent)
        assert (shown.returncode, said in shown.stdout) == (0, True), (words, shown.stdout, shown.stderr)
    assert said in (beside / "report.html").read_text(encoding="utf-8")
    assert (audit_run(beside).broken, audit_run(beside).sealed) == ((), True)


def test_a_bare_table_says_it_too(run: Path, phantom: Path, tmp_path: Path) -> None:
    done = predict(run, phantom, "--tta", "flip", "--mean", "probabilities", "--out", tmp_path / "flip.parquet")
    assert done.returncode == 0, done.stderr
    assert not run.with_name("run_tta_flip_probabilities").exists()
    said = json.loads(calot("metrics", tmp_path / "flip.parquet", "--json", cwd=tmp_path).stdout)
    assert (said["passes"], said["combination"]["mean"]) == (2, "probabilities")


def test_evaluate_opens_test_once_val_was_scored_with_the_same_views(run: Path) -> None:
    beside, words = run.with_name("run_tta_flip"), ("evaluate", run, "--tta", "flip", "--json")
    early = calot(*words, "--split", "test", cwd=run.parent)
    assert (early.returncode, "has no val predictions" in early.stderr) == (2, True), early.stderr
    for split in ("val", "test"):
        done = calot(*words, "--split", split, cwd=run.parent)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["passes"] == 2
    assert json.loads(done.stdout)["test_openings"] >= 1  # the phantom is shared, and other tests open it too
    assert json.loads(done.stdout)["thresholds"]["fingerprint"] == table(beside).fingerprint
    assert list((beside / "figures" / "clips" / "val").glob("*.jpg"))
    assert "2 forward passes per clip" in (beside / "report.html").read_text(encoding="utf-8")
    assert audit_run(beside).broken == ()


def test_a_stopped_prediction_leaves_nothing_and_made_again_it_is_the_same(run: Path, phantom: Path) -> None:
    beside, stops = run.with_name("run_tta_flip"), iter([False, True])

    def stop() -> None:
        if next(stops, False):
            raise Stopped

    with pytest.raises(Stopped):
        predict_views(run, tta="flip", mean="logits", split="val", data=phantom, ui=Ui(), check=stop)
    assert not beside.exists()
    assert audit_run(run).broken == ()
    seen = []
    for _ in range(2):
        predict_views(run, tta="flip", mean="logits", split="val", data=phantom, ui=Ui())
        seen.append({name: data for name, data in held(beside).items() if name.endswith(".parquet")})
    assert seen[0] == seen[1]
    assert audit_run(beside).sealed


def test_a_view_that_changes_no_clip_is_refused_before_a_pass_is_paid(
    run: Path, phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tta.Flipped, "pixels", lambda self, video: video)
    done = predict(run, phantom, "--tta", "flip")
    assert (done.returncode, "--tta: the view flip changes none of" in done.stderr) == (2, True), done.stderr
    assert not run.with_name("run_tta_flip").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tta", "flipp"), 'Did you mean "flip"'),
        (("--tta", "shift+1"), "keyframes is causal"),
        (("--mean", "logits"), "--mean goes with --tta"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    run: Path, phantom: Path, words: tuple[str, ...], said: str
) -> None:
    done = predict(run, phantom, *words)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
    assert said in done.stderr


def test_a_mean_of_predictions_has_no_model_to_predict_with(run: Path, phantom: Path) -> None:
    assert predict(run, phantom, "--tta", "flip").returncode == 0
    done = predict(run.with_name("run_tta_flip"), phantom)
    assert (done.returncode, "without a model of its own" in done.stderr) == (2, True), done.stderr


def test_another_run_in_its_place_and_a_changed_run_are_refused(run: Path, phantom: Path, made: Path) -> None:
    beside = run.with_name("run_tta_flip")
    shutil.copytree(made, beside)
    done = predict(run, phantom, "--tta", "flip")
    assert (done.returncode, "holds the run e02_frozen_probe" in done.stderr) == (2, True), done.stderr
    found = table(run)
    moved = found.frame.with_columns(logit_cystic_plate=-found.frame["logit_cystic_plate"])
    replace(found, frame=moved).write(run / "predictions" / "val.parquet")
    with pytest.raises(CalotError, match="was changed after the run was complete"):
        predict_views(run, tta="shift", mean="logits", split="val", data=phantom, ui=Ui())
