"""Components that calot has never seen: a user's experiment trains, is killed, resumes, is scored and shown."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import command_line
import killing
import pytest
from command_line import Done
from run_requests import digests

from calot.config import sources
from calot.run import own_code

OWN = Path(__file__).parents[1] / "helpers" / "own_components.py"
QUICK = ("train.epochs=2", "train.batch=8", "train.warmup=0.5", "compute.train_subset=8", "--scale", "tiny")
QUICK = (*QUICK, "--seeds", "0", "--no-receipt")

Calot = Callable[..., Done]


def as_a_new_process(patch: pytest.MonkeyPatch) -> None:
    """Forget which code ran, and whose word was taken for it."""
    patch.setattr(sources, "_by_digest", {})
    patch.setattr(own_code, "_trusted", set())
    patch.setattr(own_code, "_said", set())


@pytest.fixture
def calot(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calot:
    """The command line, each time as if nothing had run before; `state` is what another user ran."""

    def run(*words: str | Path, state: Path = trained.parent / "state") -> Done:
        with monkeypatch.context() as patch:
            as_a_new_process(patch)
            patch.setenv("CALOT_STATE", str(state))
            return command_line.calot(*words, cwd=tmp_path)

    return run


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a copy of the user's file, which is gone afterwards."""
    home = tmp_path_factory.mktemp("own")
    shutil.copy(OWN, home / "mine.py")
    words = ("train", "mine.py", *QUICK, "--data", phantom, "--out", home / "run", "--results", home)
    with pytest.MonkeyPatch.context() as patch:
        as_a_new_process(patch)
        patch.setenv("CALOT_STATE", str(home / "state"))
        done = command_line.calot(*words, cwd=home)
    assert done.returncode == 0, done.stderr
    (home / "mine.py").unlink()
    return home / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be spoilt."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_the_run_keeps_the_code_that_it_ran_and_names_its_components(trained: Path) -> None:
    record = json.loads((trained / "experiment.json").read_text())
    assert (trained / "source" / "mine.py").read_bytes() == OWN.read_bytes()
    assert record["source"]["main"] == "mine.py"
    assert record["experiment"]["loss"] == {"_type": "mine.py:Hinge", "margin": 1.0}
    assert record["experiment"]["backbone"]["_type"] == "mine.py:Convolutions"
    assert json.loads((trained / "model.json").read_text())["backbone"].startswith("Convolutions, 2 layers")


def test_it_is_evaluated_predicted_compared_and_reported_though_the_users_file_is_gone(
    run: Path, phantom: Path, calot: Calot
) -> None:
    before = digests(run)
    where = ("--data", phantom, "--out", run.parent / "other", "--results", run.parent)
    assert calot("train", run / "source" / "mine.py", "loss=Hinge(margin=2)", *QUICK, *where).returncode == 0
    for words in (
        ("evaluate", run, "--results", run.parent),
        ("predict", run, "--data", phantom, "--split", "val", "--out", run.parent / "val.parquet"),
        ("compare", run, run.parent / "other"),
        ("metrics", run),
        ("report", run),
    ):
        done = calot(*words)
        assert done.returncode == 0, done.stderr
    assert digests(run) == before
    assert "own_components" in (run / "report.html").read_text()


@pytest.mark.long
def test_a_process_that_never_saw_the_code_scores_the_run(trained: Path) -> None:
    start = [sys.executable, "-c", "from calot.cli.main import main; main()", "evaluate", str(trained), "--json"]
    known = os.environ | {"CALOT_STATE": str(trained.parent / "state")}
    words = [*start, "--results", str(trained.parent)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=known)
    assert done.returncode == 0, done.stderr
    assert f"components from {trained / 'source' / 'mine.py'}" in done.stderr


def test_an_edited_copy_is_refused_by_name(run: Path, phantom: Path, calot: Calot) -> None:
    copy = run / "source" / "mine.py"
    copy.write_text(copy.read_text().replace("self.margin - ", "0 * self.margin - "))
    for words in (("evaluate", run), ("predict", run, "--data", phantom), ("evaluate", run, "--trust")):
        done = calot(*words)
        assert done.returncode == 2
        assert f"{copy}: changed since the run was trained" in done.stderr
    copy.unlink()
    assert f"{copy}: cannot be read" in calot("evaluate", run).stderr


@pytest.mark.parametrize("name", ["../mine.py", "/tmp/mine.py", "a/../../mine.py", "mine.txt", "c:mine.py", "a\\b.py"])
def test_no_file_outside_the_runs_own_copy_is_run(run: Path, name: str, calot: Calot) -> None:
    record = json.loads((run / "experiment.json").read_text())
    record["source"] = {"main": name, "files": {name: record["source"]["files"]["mine.py"]}}
    (run / "experiment.json").write_text(json.dumps(record))
    done = calot("evaluate", run, "--trust")
    assert (done.returncode, "names no files of this run's folder" in done.stderr) == (2, True)


def test_a_strangers_code_runs_only_with_trust_and_is_then_remembered(run: Path, tmp_path: Path, calot: Calot) -> None:
    copy, record = run / "source" / "mine.py", json.loads((run / "experiment.json").read_text())
    copy.write_text(copy.read_text() + f"\nopen({str(tmp_path / 'ran')!r}, 'a').write('x')\n")
    record["source"]["files"]["mine.py"] = hashlib.sha256(copy.read_bytes()).hexdigest()
    (run / "experiment.json").write_text(json.dumps(record))
    (run / "seal.json").unlink()  # a stranger makes a whole run of it
    for command in ("evaluate", "metrics", "report"):
        done = calot(command, run)
        assert (done.returncode, "add --trust" in done.stderr) == ((2, True) if command == "evaluate" else (0, False))
        assert not (tmp_path / "ran").exists()
    done = calot("evaluate", run, "--trust")
    assert "was edited" in done.stderr, "its code is part of its fingerprint, trusted or not"
    assert (tmp_path / "ran").exists()


def test_another_user_trusts_the_very_same_code_once(run: Path, tmp_path: Path, calot: Calot) -> None:
    assert "you have never run here" in calot("evaluate", run, state=tmp_path / "another").stderr
    assert calot("evaluate", run, "--trust", state=tmp_path / "another").returncode == 0
    done = calot("evaluate", run, state=tmp_path / "another")
    assert (done.returncode, f"components from {run / 'source' / 'mine.py'}" in done.stderr) == (0, True)


def test_a_resume_with_other_code_is_refused_and_names_the_runs_own(
    run: Path, phantom: Path, tmp_path: Path, calot: Calot
) -> None:
    before = digests(run)
    edited = tmp_path / "mine.py"
    edited.write_text(OWN.read_text().replace(".square()", ".abs()"))
    words = (*QUICK, "--data", phantom, "--out", run, "--resume", "--results", tmp_path)
    done = calot("train", edited, *words)
    assert (done.returncode, f"the run's own copy is {run / 'source' / 'mine.py'}" in done.stderr) == (2, True)
    assert calot("train", run / "source" / "mine.py", *words).returncode == 0
    assert digests(run) == before


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL and fork")
def test_kills_change_no_byte_of_a_run_of_ones_own(phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom, tmp_path / "data")
    words = (str(OWN), "train.epochs=2", "train.batch=8", "train.warmup=0.5")
    killer = killing.Killer(data=tmp_path / "data", home=tmp_path, seed=1, experiment=words)
    killer.unkilled()
    while killer.kills < 4:
        killer.chain(workers=killer.chains % 2, kills=2)
