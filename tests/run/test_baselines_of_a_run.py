"""Trivial baselines of a real run: written, sealed, read by metrics and pages, added to a run that has none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import calot
from run_requests import requested, trained
from visible_text import visible

from calot.errors import CalotError
from calot.pipeline import predict_run
from calot.progress import Ui
from calot.provenance.audit import audit_run
from calot.provenance.custody import seal
from calot.report.page import write_report
from calot.statistics.predictions import load_predictions
from calot.statistics.trivial import read_trivial

NAMES = ["time", "prior", "colours", "thumbnail"]


@pytest.fixture(scope="module")
def made(bare_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed run as `calot train` leaves it."""
    folder = trained(requested(bare_phantom, tmp_path_factory.mktemp("runs") / "own", "e02_frozen_probe"))
    seal(folder)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "own"))


@pytest.fixture
def older(run: Path) -> Path:
    """The same of a calot that knew no baselines."""
    shutil.rmtree(run / "baselines")
    seal(run)
    return run


def test_training_ends_with_baselines_on_the_runs_own_clips(run: Path) -> None:
    found, own = read_trivial(run, split="val"), load_predictions(run / "predictions" / "val.parquet")
    assert found is not None
    assert [one.name for one in found.baselines] == NAMES
    assert (found.split, found.protocol, found.manifest_hash) == ("val", "keyframes", own.manifest_hash)
    for one in found.baselines:
        assert one.predictions.frames.tolist() == own.frames.tolist()
        assert one.predictions.labels.tolist() == own.labels.tolist()
    assert audit_run(run).broken == ()


def test_they_are_sealed_with_the_run(run: Path) -> None:
    files = ["baselines/val.json", *(f"baselines/val/{name}.parquet" for name in NAMES)]
    assert set(files) <= json.loads((run / "seal.json").read_text())["files"].keys()
    data = bytearray((run / files[1]).read_bytes())
    data[len(data) // 2] ^= 1
    (run / files[1]).write_bytes(data)
    done = calot("metrics", run, cwd=run.parent)
    assert (done.returncode, "time.parquet" in done.stderr) == (2, True)
    (run / "seal.json").unlink()  # and without a seal the table's own digest tells
    done = calot("report", run, cwd=run.parent)
    assert (done.returncode, "time.parquet" in done.stderr) == (2, True)


def test_a_second_run_on_the_same_data_computes_nothing(made: Path, bare_phantom: Path) -> None:
    log = (made / "train.log").read_text()
    again = Path(shutil.copytree(made, made.parent / "again"))
    ui = Ui(log=made.parent / "again.log")
    predict_run(again, split="val", data=bare_phantom, ui=ui)
    assert "trivial baselines of val" in log
    assert "trivial baselines" not in (made.parent / "again.log").read_text()
    names = [f"baselines/val/{name}.parquet" for name in NAMES]
    assert [(again / name).read_bytes() for name in names] == [(made / name).read_bytes() for name in names]


def test_metrics_show_them_as_text_and_as_json(run: Path) -> None:
    done = calot("metrics", run, cwd=run.parent)
    assert "Trivial baselines on the same clips, fitted on train" in done.stdout
    assert "8 x 8 thumbnail" in done.stdout
    found = json.loads(calot("metrics", run, "--json", cwd=run.parent).stdout)["trivial_baselines"]
    assert [one["name"] for one in found["baselines"]] == NAMES
    assert {"value", "low", "high", "coverage"} <= set(found["baselines"][0]["run_minus_baseline"])
    bare = shutil.copyfile(run / "predictions" / "val.parquet", run.parent / "bare.parquet")
    assert "does not belong to a run" in calot("metrics", bare, cwd=run.parent).stdout


def test_an_older_run_says_which_command_computes_them_and_that_command_does(older: Path, bare_phantom: Path) -> None:
    text = "not computed for this run; use: calot data baselines ROOT --run RUN"
    assert text in calot("metrics", older, cwd=older.parent).stdout
    assert text in visible(write_report(older).read_text(encoding="utf-8"))
    done = calot("data", "baselines", bare_phantom, "--run", older, cwd=older.parent)
    assert (done.returncode, "trivial baselines of val" in done.stdout) == (0, True), done.stderr
    assert "Next: calot report" in done.stdout
    assert audit_run(older).broken == ()
    assert "Trivial baselines on the same clips" in calot("metrics", older, cwd=older.parent).stdout


def test_the_page_shows_the_section_and_the_line_under_the_headline(run: Path) -> None:
    words = visible(write_report(run).read_text(encoding="utf-8"))
    assert "Trivial baselines. On the same clips: time in the operation" in words
    assert "the best of them" in words
    assert "Trivial baselines, val split" in words


def test_the_page_of_several_runs_names_which_are_above(run: Path) -> None:
    other = Path(shutil.copytree(run, run.parent / "older"))
    shutil.rmtree(other / "baselines")
    seal(other)
    words = visible(write_report(run.parent).read_text(encoding="utf-8"))
    assert "Runs against the best trivial baseline, val split" in words
    assert "the best one (" in words
    assert (
        "ot computed (calot data baselines ROOT --run RUN): e02_frozen_probe seed 0" in words
    )  # with or without a capital


def test_baselines_of_test_come_with_the_runs_test_predictions(run: Path, bare_phantom: Path) -> None:
    predict_run(run, split="test", data=bare_phantom, ui=Ui())
    found = read_trivial(run, split="test")
    assert found is not None
    assert set(found.baselines[0].predictions.videos) == set(
        load_predictions(run / "predictions" / "test.parquet").videos
    )
    assert audit_run(run).broken == ()


def test_train_is_not_decoded_for_them_alone(older: Path, bare_phantom: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(bare_phantom, tmp_path / "copy", ignore=shutil.ignore_patterns(".calot")))
    predict_run(older, split="val", data=data, ui=Ui(log=tmp_path / "log"))
    assert not (older / "baselines").exists()
    assert f"not decoded here. Use: calot data baselines {data} --run {older}" in (tmp_path / "log").read_text()
    assert audit_run(older).broken == ()


def test_without_a_run_the_command_prints_what_must_be_beaten(bare_phantom: Path, tmp_path: Path) -> None:
    words = ("data", "baselines", bare_phantom, "--scale", "tiny")
    assert "Trivial baselines on val, protocol keyframes" in calot(*words, cwd=tmp_path).stdout
    found = json.loads(calot(*words, "--json", cwd=tmp_path).stdout)
    assert [one["name"] for one in found["baselines"]] == NAMES


def test_a_mangled_index_is_refused_by_name(older: Path) -> None:
    (older / "seal.json").unlink()
    (older / "baselines").mkdir()
    index = older / "baselines" / "val.json"
    good = {"format": 1, "split": "val", "protocol": "keyframes", "manifest_hash": "x", "clips": 1, "videos": 1}
    good |= {"undefined": None, "baselines": []}
    entry = {"name": "../../val", "title": "a", "settings": "", "undefined": {}}
    for broken in ({}, good | {"split": "test"}, good | {"clips": "many"}, good | {"baselines": [entry]}):
        index.write_text(json.dumps(broken))
        with pytest.raises(CalotError, match=r"val\.json.*compute them again"):
            read_trivial(older, split="val")
