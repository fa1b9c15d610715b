"""A refused request loses nothing and leaves nothing."""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import calot
from run_requests import requested, trained

from calot.errors import CalotError
from calot.run import claiming
from calot.run.request import Request
from calot.train import checkpoint

QUICK = ("--no-receipt", "train.epochs=1", "train.batch=8", "compute.train_subset=8", "--scale", "tiny", "--seeds", "0")


def _bytes(folder: Path) -> dict[str, str]:
    names = {p for p in folder.rglob("*") if p.is_file() and p.name not in ("run.lock", "train.log")}
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in names}


@pytest.fixture(scope="module")
def kept(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is done."""
    return trained(requested(phantom, tmp_path_factory.mktemp("kept") / "run", "e02_frozen_probe"))


@pytest.fixture
def run(kept: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(kept, tmp_path / "run"))


@pytest.mark.parametrize("out", [(), ("--out", "a/b/run")])
def test_a_data_folder_that_is_nowhere_leaves_nothing(tmp_path: Path, out: tuple[str, ...]) -> None:
    done = calot("train", "e02_frozen_probe", *QUICK, "--data", "nowhere", *out, cwd=tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])


def test_a_launcher_of_several_processes_leaves_nothing(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = calot("train", "e02_frozen_probe", *QUICK, "--data", phantom, cwd=tmp_path)
    assert (done.returncode, "WORLD_SIZE=2" in done.stderr, list(tmp_path.iterdir())) == (2, True, [])


def test_a_folder_that_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    calot("train", "e02_frozen_probe", *QUICK, "--data", "nowhere", "--out", "mine", cwd=tmp_path)
    assert (tmp_path / "mine").is_dir()


@pytest.mark.parametrize("data", ["nowhere", "."])
def test_overwriting_with_bad_input_keeps_the_old_run(run: Path, tmp_path: Path, data: str) -> None:
    before = _bytes(run)
    done = calot("train", "e02_frozen_probe", *QUICK, "--data", data, "--out", run, "--overwrite", cwd=tmp_path)
    assert (done.returncode, _bytes(run)) == (2, before)


def test_overwriting_under_a_launcher_keeps_the_old_run(
    run: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _bytes(run)
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = calot("train", "e02_frozen_probe", *QUICK, "--data", phantom, "--out", run, "--overwrite", cwd=tmp_path)
    assert (done.returncode, _bytes(run)) == (2, before)


def test_a_process_that_died_before_the_new_run_was_described_gives_the_old_one_back(run: Path, phantom: Path) -> None:
    before = _bytes(run)
    claiming._set_aside(run)
    (run / "checkpoints").mkdir()  # what the dead one had begun
    assert not (run / "experiment.json").exists()
    request = replace(requested(phantom, run, "e02_frozen_probe"), resume=True)
    with claiming.claimed(request):
        assert _bytes(run) == before
    assert not (run / claiming._BEFORE).exists()


def test_a_new_run_once_described_takes_the_old_ones_place(run: Path, phantom: Path) -> None:
    (run / "left-over.txt").write_text("of the old run")
    trained(replace(requested(phantom, run, "e02_frozen_probe", seed=1), overwrite=True))
    assert not (run / "left-over.txt").exists()
    assert not (run / claiming._BEFORE).exists()
    assert checkpoint.load(run / "checkpoints" / "best")


def test_two_runs_of_one_command_never_share_a_folder(phantom: Path, tmp_path: Path) -> None:
    words = ("train", "e02_frozen_probe", "e02_frozen_probe", *QUICK, "--data", phantom, "--out", "all")
    done = calot(*words, cwd=tmp_path)
    assert (done.returncode, "two runs of this command would share it" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_no_run_could_read_back_is_refused_before_the_first_step(phantom: Path, tmp_path: Path) -> None:
    from own_components import Hinge

    request = requested(phantom, tmp_path / "run", "e02_frozen_probe")
    own: Request = replace(request, experiment=replace(request.experiment, loss=Hinge()))
    with pytest.raises(CalotError, match="loss: Hinge is defined in own_components, which no run can read back"):
        trained(own)
    assert not os.path.exists(own.folder)
