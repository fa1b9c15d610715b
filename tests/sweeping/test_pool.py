"""The pool of jobs with scripts in place of trainings: who is started, resumed, skipped, waited for and stopped."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from swept import jobs, pool, script, until

from calot.errors import CalotError, Stopped
from calot.run.signals import SWEEP, stop_on_signal
from calot.sweeping import pool as pools

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")

COMPLETE = "(here / 'complete').touch()"


@pytest.fixture(autouse=True)
def no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "val_map", lambda folder: 0.5)


def test_a_killed_a_stopped_and_a_crashed_job_are_started_again_and_bad_input_is_not(tmp_path: Path) -> None:
    dies = "if attempt < 3: os.kill(os.getpid(), signal.SIGKILL)\n" + COMPLETE
    preempted = f"if attempt == 1: sys.exit(75)\n{COMPLETE}"
    refused = "print('lr: no such field'); sys.exit(2)"
    codes = {"dies": dies, "preempted": preempted, "crashes": "sys.exit(1)", "refused": refused, "fine": COMPLETE}
    pooled = pool(tmp_path, None, None, retries=2)
    pooled.run(pooled.book.add(script(tmp_path, name, code) for name, code in codes.items()))
    found = {n: (r["state"], r["code"], r["attempts"], r["retries"]) for n, r in jobs(tmp_path).items()}
    assert found == {
        "dies": ("done", 0, 3, 2),
        "preempted": ("done", 0, 2, 1),
        "crashes": ("died", 1, 3, 2),
        "refused": ("refused", 2, 1, 0),
        "fine": ("done", 0, 1, 0),
    }
    assert pools.last_line(tmp_path / "jobs" / "refused.log") == "lr: no such field"


def test_a_job_that_ends_with_0_and_left_no_complete_run_has_not_finished(tmp_path: Path) -> None:
    pooled = pool(tmp_path, retries=1)
    pooled.run(pooled.book.add([script(tmp_path, "empty", "pass")]))
    assert [jobs(tmp_path)["empty"][k] for k in ("state", "attempts")] == ["died", 2]


def test_complete_runs_start_no_process_and_keep_their_counts(tmp_path: Path) -> None:
    for _ in range(2):
        pooled = pool(tmp_path)
        pooled.run(pooled.book.add([script(tmp_path, "one", COMPLETE)]))
    assert (tmp_path / "one" / "tries").read_text() == "x"
    assert [jobs(tmp_path)["one"][k] for k in ("state", "attempts", "map")] == ["done", 1, 0.5]


def test_each_gpu_has_one_job_at_a_time_which_sees_no_other(tmp_path: Path) -> None:
    code = (
        "gpu = os.environ['CUDA_VISIBLE_DEVICES']; mine = here.parent / f'gpu{gpu}'; mine.mkdir()\n"
        f"time.sleep(0.3); mine.rmdir(); (here / gpu).touch(); {COMPLETE}"
    )
    pooled = pool(tmp_path, "3", "5", retries=0)
    pooled.run(pooled.book.add(script(tmp_path, f"job{i}", code) for i in range(5)))
    used = sorted(p.name for i in range(5) for p in (tmp_path / f"job{i}").glob("[35]"))
    assert ({r["state"] for r in jobs(tmp_path).values()}, set(used), len(used)) == ({"done"}, {"3", "5"}, 5)


def test_a_run_that_another_process_holds_is_waited_for_and_never_started_twice(tmp_path: Path) -> None:
    job = script(tmp_path, "held", COMPLETE)
    hold = "import sys, time; from filelock import FileLock\nwith FileLock(sys.argv[1]): print('held', flush=True); "
    finish = "time.sleep(1.5); import pathlib; pathlib.Path(sys.argv[2]).touch()"
    where = (str(job.folder / "run.lock"), str(job.folder / "complete"))
    with subprocess.Popen([sys.executable, "-c", hold + finish, *where], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        states: list[object] = []
        pooled = pool(tmp_path)
        records = pooled.book.add([job])
        watcher = threading.Thread(target=lambda: (time.sleep(0.7), states.append(jobs(tmp_path)["held"]["state"])))
        watcher.start()
        pooled.run(records)
        watcher.join()
    assert states == ["elsewhere"]
    assert (jobs(tmp_path)["held"]["state"], (job.folder / "tries").exists()) == ("done", False)


def test_a_job_refused_because_an_orphan_came_first_is_not_bad_input(tmp_path: Path) -> None:
    """The orphan takes the lock after the pool has looked, and finishes the run."""
    orphan = (
        "import subprocess\nif attempt == 1:\n"
        "    code = 'import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); "
        "print(1, flush=True); time.sleep(1)'\n"
        "    other = subprocess.Popen([sys.executable, '-c', code, str(here / 'run.lock')], stdout=subprocess.PIPE)\n"
        f"    other.stdout.readline(); sys.exit(2)\n{COMPLETE}"
    )
    pooled = pool(tmp_path, retries=0)
    pooled.run(pooled.book.add([script(tmp_path, "raced", orphan)]))
    assert [jobs(tmp_path)["raced"][k] for k in ("state", "attempts")] == ["done", 2]


def test_a_signal_reaches_each_job_once_and_the_pool_waits_until_all_have_saved(tmp_path: Path) -> None:
    saves = (
        "def save(*_): (here / 'heard').open('a').write('x'); time.sleep(1); (here / 'saved').touch(); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, save); (here / 'ready').touch(); time.sleep(60)"
    )
    names = ("a", "b")

    def when_ready() -> None:
        until(lambda: all((tmp_path / name / "ready").exists() for name in names))
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=when_ready).start()
    with stop_on_signal("stopped; again") as stopper:
        pooled = pool(tmp_path, None, None, stopper=stopper)
        records = pooled.book.add(script(tmp_path, name, saves) for name in (*names, "waits"))
        with pytest.raises(Stopped, match="stopped; again"):
            pooled.run(records)
    assert [(tmp_path / n / "saved").exists() for n in names] == [True, True]
    assert [(tmp_path / n / "heard").read_text() for n in names] == ["x", "x"]
    found = jobs(tmp_path)
    assert [found[n]["state"] for n in (*names, "waits")] == ["stopped", "stopped", "waiting"]
    assert json.loads((tmp_path / "jobs.json").read_text())["jobs"][0]["code"] == 75


def test_a_job_takes_a_signal_that_also_came_from_the_batch_system_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm signals every process of a job, and the sweep passes it on: a second one would end the step unsaved."""

    def heard() -> int:
        """How many of two signals at once count."""
        count = 0
        with contextlib.suppress(Stopped), stop_on_signal() as stopper, stopper.held():
            stopper.ask()
            count = 2
            stopper.ask()  # ends the block where it counts
            count = 1
        return count

    assert heard() == 2
    monkeypatch.setenv(SWEEP, "1")
    assert heard() == 1


@pytest.mark.parametrize("error", ["MemoryError()", "RuntimeError('CUDA out of memory')", "OSError(116, 'Stale')"])
def test_a_job_that_the_machine_failed_is_resumed_and_is_not_bad_input(tmp_path: Path, error: str) -> None:
    """As `calot` itself ends: alone with 2, and in a sweep with a code that says that it may be tried again."""
    fails = (
        f"from calot.cli import main as cli\nif attempt == 2: {COMPLETE}; sys.exit()\n"
        f"def app(**given): raise {error}\ncli.app = app; sys.argv = ['calot', 'train']; cli.main()"
    )
    pooled = pool(tmp_path, retries=1)
    pooled.run(pooled.book.add([script(tmp_path, "one", fails)]))
    assert [jobs(tmp_path)["one"][k] for k in ("state", "code", "attempts")] == ["done", 0, 2]
    alone = script(tmp_path, "alone", fails).command
    assert subprocess.run(alone, capture_output=True, check=False).returncode == 2


def test_a_job_refused_by_an_orphan_that_has_just_finished_the_run_is_done(tmp_path: Path) -> None:
    """The orphan's lock is gone before the pool hears of the refusal."""
    pooled = pool(tmp_path, retries=0)
    pooled.run(pooled.book.add([script(tmp_path, "raced", f"{COMPLETE}; sys.exit(2)")]))
    assert [jobs(tmp_path)["raced"][k] for k in ("state", "attempts")] == ["done", 1]


def test_a_run_whose_val_has_no_positive_label_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def score(folder: Path) -> float:
        if folder.name == "without":
            raise CalotError("no criterion has a positive label in val")
        return 0.5

    monkeypatch.setattr(pools, "val_map", score)
    pooled = pool(tmp_path)
    pooled.run(pooled.book.add(script(tmp_path, name, COMPLETE) for name in ("without", "with")))
    found = {name: (job["state"], job["map"]) for name, job in jobs(tmp_path).items()}
    assert found == {"without": ("done", None), "with": ("done", 0.5)}
