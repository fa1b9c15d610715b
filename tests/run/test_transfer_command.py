"""`calot transfer`: one command, one table; refused where an operation that trained the run would be scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from challenge_folders import cholec80, sages2024
from command_line import calot
from reencoding import re_encoded

from calot.cli.transfer import keep_tables_of
from calot.criteria import CRITERIA
from calot.progress import Ui

TRAIN = ("--scale", "tiny", "--seeds", "1", "--no-receipt", "--no-page", "train.epochs=1", "frames.mixed_sizes=True")


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of the phantom's in it."""
    home = tmp_path_factory.mktemp("transfer")
    done = calot("train", "e02_frozen_probe", *TRAIN, "--data", phantom, "--out", home / "run", cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def _of_endoscapes(trained: Path, tmp_path: Path) -> Path:
    """The run as if Endoscapes had trained it, with the data gone."""
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    (run / "seal.json").unlink(missing_ok=True)
    told = json.loads((run / "data.json").read_text())
    told |= {"root": str(tmp_path / "gone"), "dataset": "endoscapes", "videos": {"train": ["1", "2"], "val": ["121"]}}
    (run / "data.json").write_text(json.dumps(told))
    return run


@pytest.mark.long
def test_internal_external_and_drop_stand_in_one_table(trained: Path, tmp_path: Path) -> None:
    other = sages2024(tmp_path / "clips", videos=5)
    words = ("transfer", trained / "run", "--data", other, "--out", tmp_path / "t")
    done = calot(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for text in (
        "internal: phantom val",
        "external: sages-2024 train + val + test",
        "drop (internal - external)",
        "chance",
        "protocol keyframes, 5 videos, 90 frames",
        "labels: majority of raters (mean >= 0.5)",
        "test opened for this data set: 1 time",
    ):
        assert text in done.stdout + done.stderr
    told = json.loads(calot(*words, "--json", cwd=tmp_path).stdout)
    internal, external = told["internal"], told["external"][0]
    assert set(external["drop"]) == {"map", *CRITERIA}
    gone = internal["ap"]["map"]["value"] - external["external"]["ap"]["map"]["value"]
    assert external["drop"]["map"]["value"] == pytest.approx(gone, abs=1e-9)
    assert "test opened" not in calot(*words, cwd=tmp_path).stderr  # tables that are there are kept
    scored = calot("metrics", tmp_path / "t" / "00" / "run00" / "val.parquet", "--data", other, "--json", cwd=tmp_path)
    target = json.loads(scored.stdout)["confidence_target"]
    assert set(target["criteria"]) == set(CRITERIA)
    said = calot("metrics", tmp_path / "t" / "00" / "run00" / "val.parquet", "--data", other, cwd=tmp_path)
    assert "(SAGES sub-challenge B)" in said.stdout


def test_a_copy_of_the_runs_own_data_set_is_not_external(trained: Path, phantom: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(phantom, tmp_path / "copy"))
    for root in (phantom, copy):
        done = calot("transfer", trained / "run", "--data", root, "--out", tmp_path / "t", cwd=tmp_path)
        assert done.returncode == 2, done.stdout
        assert "no split of it is external" in done.stderr
    assert not list((tmp_path / "t").rglob("*.parquet"))


def test_tables_of_other_weights_are_not_kept(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    told = run / "checkpoints" / "best" / "manifest.json"
    table = tmp_path / "val.parquet"
    for changed, kept in ((False, True), (True, False)):
        if changed:
            told.write_text(told.read_text() + "\n")
        else:
            keep_tables_of(run, tmp_path, ui=Ui())
            table.write_bytes(b"")
        keep_tables_of(run, tmp_path, ui=Ui())
        assert table.exists() == kept


@pytest.mark.slow
def test_a_re_encoded_training_video_is_refused_wherever_it_would_be_scored(
    trained: Path, phantom: Path, tmp_path: Path
) -> None:
    copy, chosen = re_encoded(phantom, tmp_path / "elsewhere", videos=2)
    for words in (
        ("predict", trained / "run", "--data", copy, "--out", tmp_path / "p.parquet"),
        ("transfer", trained / "run", "--data", copy, "--out", tmp_path / "t"),
    ):
        done = calot(*words, cwd=tmp_path)
        assert done.returncode == 2, done.stdout
        assert f"video case 0 of val is video {chosen[0]} of phantom, which" in done.stderr
        assert "was trained on" in done.stderr
        assert "frames look alike) and 1 more: no score there counts" in done.stderr
    assert not (tmp_path / "p.parquet").exists()


@pytest.mark.long
def test_a_validation_operation_that_is_scored_elsewhere_is_said(trained: Path, tmp_path: Path) -> None:
    run = _of_endoscapes(trained, tmp_path)
    root = cholec80(tmp_path / "c80", videos=(5, 6, 66), seconds=8, clipping=8)
    done = calot("transfer", run, "--data", root, "--out", tmp_path / "t", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("Not external")]
    assert len(said) == 1
    assert said[0].startswith(f"Not external, of {root}: 121 (val) = 66 (")
    assert said[0].endswith("; the epoch was chosen on it")


def test_published_overlap_is_refused_though_the_training_data_are_gone(trained: Path, tmp_path: Path) -> None:
    """A run of Endoscapes whose folder is elsewhere now; Cholec80's 68 is its training video 2."""
    run = _of_endoscapes(trained, tmp_path)
    root = cholec80(tmp_path / "c80", videos=(66, 68, 70), seconds=8, clipping=8)
    (root / "splits.csv").write_text("video,split\n66,val\n68,val\n70,train\n")
    done = calot("predict", run, "--data", root, "--out", tmp_path / "p.parquet", cwd=tmp_path)
    assert done.returncode == 2
    assert "video 68 of val is video 2 of endoscapes" in done.stderr
    assert "(published): no score there counts" in done.stderr
