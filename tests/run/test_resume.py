"""What may be resumed, what it ends in, and what is refused with which words."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from run_requests import digests, requested, trained

from calot.errors import CalotError, Stopped
from calot.run.device import make_accelerator
from calot.run.request import Request
from calot.run.signals import Stopper
from calot.train.stage import Compute

EVERY_STEP = "compute.checkpoint_every_s=0"


@pytest.fixture(scope="module")
def run(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(requested(phantom, tmp_path_factory.mktemp("runs") / "run", "e02_frozen_probe"))


@pytest.fixture
def stopped(phantom: Path, tmp_path: Path) -> Request:
    """A run with a checkpoint after every step, ended within its second epoch."""
    request = requested(phantom, tmp_path / "run", "e02_frozen_probe", changes=(EVERY_STEP,))

    class InTheSecondEpoch(Stopper):
        def asked(self) -> bool:
            state = request.folder / "checkpoints" / "last" / "state.json"
            if not state.exists():
                return False
            progress = json.loads(state.read_text())["progress"]
            return bool(progress["epoch"] == 1 and progress["batch"] == 2)

    with pytest.raises(Stopped):
        trained(request, InTheSecondEpoch())
    return replace(request, resume=True)


def _state(request: Request, place: str) -> dict[str, int]:
    state: dict[str, int] = json.loads((request.folder / "checkpoints" / place / "state.json").read_text())["progress"]
    return state


def test_the_last_two_and_the_best_are_kept(stopped: Request) -> None:
    assert sorted(p.name for p in (stopped.folder / "checkpoints").iterdir()) == ["best", "last", "previous"]
    last, previous = _state(stopped, "last"), _state(stopped, "previous")
    assert (last["epoch"], previous["epoch"]) == (1, 1)
    assert last["batch"] == previous["batch"] + 1


def test_checkpoints_within_an_epoch_change_no_byte(run: Path, stopped: Request) -> None:
    assert digests(trained(stopped)) == digests(run)


def test_a_damaged_last_checkpoint_costs_some_steps_and_no_byte(run: Path, stopped: Request) -> None:
    with (stopped.folder / "checkpoints" / "last" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        byte = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([byte[0] ^ 1]))
    assert digests(trained(stopped)) == digests(run)
    log = (stopped.folder / "train.log").read_text()
    assert "checkpoint last: model.safetensors does not match its checksum; continuing from the one before" in log


def test_a_lost_best_checkpoint_is_refused_before_a_step_is_made(stopped: Request) -> None:
    (stopped.folder / "checkpoints" / "best" / "model.safetensors").unlink()
    with pytest.raises(CalotError, match=r"best epoch is lost \(best: model\.safetensors is missing\).*--overwrite"):
        trained(stopped)


def test_resuming_a_complete_run_trains_nothing_and_changes_no_byte(run: Path, phantom: Path) -> None:
    before = digests(run)
    assert digests(trained(replace(requested(phantom, run, "e02_frozen_probe"), resume=True))) == before
    assert "training was complete" in (run / "train.log").read_text()


def test_resuming_where_nothing_was_saved_says_so_and_starts(phantom: Path, tmp_path: Path) -> None:
    request = requested(phantom, tmp_path / "new", "e02_frozen_probe", changes=("train.epochs=1",))
    trained(replace(request, resume=True))
    assert "nothing saved yet to resume; starting at the first step" in (tmp_path / "new" / "train.log").read_text()


def test_resuming_with_other_code_is_refused(stopped: Request) -> None:
    path = stopped.folder / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code": "0" * 64}))
    with pytest.raises(CalotError, match=r"not the same run any more \(calot's own code\)"):
        trained(stopped)


@pytest.mark.parametrize("what", ["labels", "frames"])
def test_resuming_on_changed_data_is_refused(phantom: Path, stopped: Request, tmp_path: Path, what: str) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantom, data, ignore=shutil.ignore_patterns(".calot"))
    if what == "labels":
        table = data / "all_metadata.csv"
        two_raters, swapped = '"[0, 0, 0]","[1, 0, 0]"', '"[1, 0, 0]","[0, 0, 0]"'
        assert two_raters in table.read_text()
        table.write_text(table.read_text().replace(two_raters, swapped, 1))
    else:
        first, second = sorted((data / "train").glob("*.jpg"))[:2]
        shutil.copyfile(second, first)
    with pytest.raises(
        CalotError, match=rf"data set has changed \({'manifest' if what == 'labels' else 'frames of train'}"
    ):
        trained(replace(stopped, data=data))


def test_resuming_on_a_copy_of_the_data_is_fine(run: Path, phantom: Path, stopped: Request, tmp_path: Path) -> None:
    data = shutil.copytree(phantom, tmp_path / "data", ignore=shutil.ignore_patterns(".calot"))
    assert digests(trained(replace(stopped, data=data))) == digests(run)


def test_a_longer_run_continues_no_shorter_one_and_the_message_says_why(stopped: Request) -> None:
    longer = replace(stopped.experiment, train=replace(stopped.experiment.train, epochs=20))
    with pytest.raises(CalotError, match=r"train\.epochs: 2 -> 20.*another learning rate at every step.*another --out"):
        trained(replace(stopped, experiment=longer))


def test_how_the_work_is_done_may_change_on_resume(run: Path, stopped: Request) -> None:
    compute = replace(stopped.experiment.compute, workers=1, checkpoint_every_s=600.0)
    assert digests(trained(replace(stopped, experiment=replace(stopped.experiment, compute=compute)))) == digests(run)


def test_overwrite_empties_no_folder_that_is_no_run(phantom: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CalotError, match="holds something that is not a run; --overwrite would delete it"):
        trained(replace(requested(phantom, tmp_path), overwrite=True))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_launcher_of_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CalotError, match=r"WORLD_SIZE=2: .*only `train` and `pretrain` run in several processes"):
        make_accelerator(Compute(device="cpu"))


@pytest.mark.parametrize("name", ["experiment.json", "data.json", "environment.json"])
def test_checkpoints_of_nobody_knows_what_are_not_gone_on_with(stopped: Request, name: str) -> None:
    (stopped.folder / name).unlink()
    with pytest.raises(CalotError, match=rf"{name} is missing, so its checkpoints cannot be identified.*--overwrite"):
        trained(replace(stopped, seed=stopped.seed + 1))
