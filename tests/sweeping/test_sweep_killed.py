"""`calot sweep` as real processes, really killed: the same runs, bytes and choice as `calot train --sweep`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import calot
from run_requests import digests
from swept import ended, jobs, sweeping, training, until, words

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="SIGKILL")]

GRID = ("--sweep", "train.lr=1e-4,1e-2", "--seeds", "0")
FIRST, SECOND = (Path("e02_frozen_probe", f"train.lr={lr}", "s0") for lr in ("1e-4", "1e-2"))


@pytest.fixture(scope="module")
def undisturbed(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `calot train --sweep` makes in one process that nobody disturbs."""
    home = tmp_path_factory.mktemp("undisturbed")
    done = calot(*words(phantom, home / "all", *GRID, command="train")[3:], cwd=home)
    assert done.returncode == 0, done.stderr
    return home / "all"


def kill_in_training(out: Path, run: Path) -> None:
    """SIGKILL to the process that trains the run, once it has saved in the middle of its training."""
    until(lambda: (out / run / "checkpoints" / "last").exists())
    training(out / run).kill()


def states(out: Path, *fields: str) -> list[list[object]]:
    return [[job[field] for field in fields] for job in jobs(out).values()]


def test_a_job_killed_in_training_is_resumed_and_the_sweep_is_that_of_train(
    phantom: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "all"
    process = sweeping(phantom, out, *GRID, "--jobs", "2")
    kill_in_training(out, FIRST)
    code, said, noted = ended(process)
    assert code == 0, noted
    assert states(out, "state", "attempts", "retries") == [["done", 2, 1], ["done", 1, 0]]
    for run in (FIRST, SECOND):
        assert digests(out / run) == digests(undisturbed / run)
    name = Path("e02_frozen_probe", "sweep.json")
    assert (out / name).read_bytes() == (undisturbed / name).read_bytes()
    assert "killed by signal 9; resumed, 1 of 3 times" in noted
    assert "Chosen on val among 2 settings" in said
    assert list(out.rglob("test.parquet")) == []

    before = {
        p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and (p.suffix != ".json" or "s0" in p.parts)
    }
    third = (*GRID[:1], "train.lr=1e-4,1e-2,1e-3", *GRID[2:])
    refused = out / "e02_frozen_probe" / "train.lr=1e-3" / "s0"
    refused.parent.mkdir()
    refused.symlink_to(out / SECOND, target_is_directory=True)  # another setting's run where this one belongs
    code, said, noted = ended(sweeping(phantom, out, *third, "--json"))
    assert (code, json.loads(said)["choices"]) == (2, {})
    assert states(out, "state", "code", "attempts") == [["done", 0, 2], ["done", 0, 1], ["refused", 2, 1]]
    assert "not trained: e02_frozen_probe/train.lr=1e-3/s0" in noted
    assert "not the same run any more" in noted
    changed = [p for p, at in before.items() if p.stat().st_mtime_ns != at and p.name != "run.lock"]
    assert changed == []


def test_a_sweep_that_is_killed_continues_and_waits_for_the_job_it_left(
    phantom: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "all"
    first = sweeping(phantom, out, *GRID)
    until(lambda: (out / FIRST / "checkpoints" / "last").exists())
    orphan = training(out / FIRST)
    first.kill()
    first.wait()
    os.kill(orphan.pid, signal.SIGSTOP)  # still there when the next one looks
    again = sweeping(phantom, out, *GRID)
    until(lambda: states(out, "state")[0] == ["elsewhere"])
    os.kill(orphan.pid, signal.SIGCONT)
    code, _, noted = ended(again)
    assert (code, states(out, "state", "attempts")) == (0, [["done", 1], ["done", 1]]), noted
    assert "waiting for it" in noted
    for run in (FIRST, SECOND):
        assert digests(out / run) == digests(undisturbed / run)


def test_a_signal_to_the_sweep_saves_its_job_and_ends_with_75(phantom: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "all"
    process = sweeping(phantom, out, *GRID)
    until(lambda: (out / FIRST / "checkpoints" / "last").exists())
    job = training(out / FIRST)
    process.terminate()
    code, _, noted = ended(process)
    assert (code, job.is_running(), "Traceback" in noted) == (75, False, False), noted
    assert "Run the same command again to continue" in noted
    assert states(out, "state", "code") == [["stopped", 75], ["waiting", None]]
    code, _, noted = ended(sweeping(phantom, out, *GRID))
    assert code == 0, noted
    assert [digests(out / run) == digests(undisturbed / run) for run in (FIRST, SECOND)] == [True, True]


def test_a_job_of_submitit_killed_in_training_is_submitted_again_and_changes_no_byte(
    phantom: Path, undisturbed: Path, tmp_path: Path
) -> None:
    pytest.importorskip("submitit")
    out = tmp_path / "all"
    process = sweeping(phantom, out, *GRID, "--cluster", "local", "--jobs", "1", "--hours", "1")
    kill_in_training(out, SECOND)
    code, _, noted = ended(process)
    assert (code, states(out, "state", "attempts", "retries")) == (0, [["done", 1, 0], ["done", 2, 1]]), noted
    assert [digests(out / run) == digests(undisturbed / run) for run in (FIRST, SECOND)] == [True, True]
    assert (out / "jobs" / "submitit").is_dir()
    assert (out / "e02_frozen_probe" / "sweep.json").read_bytes() == (
        undisturbed / "e02_frozen_probe" / "sweep.json"
    ).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_a_sweep_of_submitit_saves_its_job_too(
    phantom: Path, undisturbed: Path, tmp_path: Path, number: signal.Signals
) -> None:
    pytest.importorskip("submitit")
    out, own = tmp_path / "all", (*GRID, "--cluster", "local", "--jobs", "1", "--hours", "1")
    process = sweeping(phantom, out, *own)
    until(lambda: (out / FIRST / "checkpoints" / "last").exists())
    job = training(out / FIRST)
    process.send_signal(number)
    code, _, noted = ended(process)
    assert (code, job.is_running(), "Traceback" in noted) == (75, False, False), noted
    assert states(out, "state", "code") == [["stopped", 75], ["waiting", None]]
    code, _, noted = ended(sweeping(phantom, out, *own))
    assert code == 0, noted
    assert [digests(out / run) == digests(undisturbed / run) for run in (FIRST, SECOND)] == [True, True]


def test_a_search_killed_in_a_trial_continues_that_trial_and_draws_the_same(phantom: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    asked = ("--search", "train.lr=log(1e-4,1e-2)", "--trials", "2", "--seeds", "0", "--json")
    code, whole, noted = ended(sweeping(phantom, tmp_path / "whole", *asked))
    assert code == 0, noted
    out = tmp_path / "killed"
    first = sweeping(phantom, out, *asked)
    until(lambda: list(out.glob("*/*/s0/checkpoints/last")))
    run = next(out.glob("*/*/s0"))
    orphan = training(run)
    first.kill()
    orphan.kill()
    first.wait()
    code, said, noted = ended(sweeping(phantom, out, *asked))
    assert code == 0, noted
    assert json.loads(said)["choices"] == json.loads(whole)["choices"]
    names = [path.relative_to(out) for path in sorted(out.glob("*/*/s0"))]
    assert len(names) == 2
    assert [digests(out / n) == digests(tmp_path / "whole" / n) for n in names] == [True, True]
    assert json.loads(said)["choices"]["e02_frozen_probe"]["candidates"] == 2


@pytest.mark.parametrize("missing", ["optuna", "submitit"])
def test_a_sweep_without_a_package_says_how_to_install_it(phantom: Path, tmp_path: Path, missing: str) -> None:
    own = ["--search", "train.lr=log(1e-4,1e-2)", "--trials", "2"] if missing == "optuna" else ["--cluster", "slurm"]
    line = words(phantom, tmp_path / "all", *own)[3:]
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['calot', *{line!r}]\n"
    code += "from calot.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        f"calot: this needs the package {missing!r}: pip install 'calot[sweep]'"
    ]
    assert not (tmp_path / "all").exists()
