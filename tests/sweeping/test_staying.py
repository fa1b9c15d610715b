"""Workers that stay: one process for many commands, replaced where it dies, ended with the runner."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from calot.sweeping.jobs import Job
from calot.sweeping.staying import OrderedJob, StayingRunner

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")


def job(home: Path, name: str, *words: str) -> Job:
    return Job(name=name, folder=home / name, command=(sys.executable, "-m", "calot", *words), log=home / f"{name}.log")


def code_of(started: OrderedJob) -> int:
    end = time.monotonic() + 120
    while (code := started.ended()) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return code


def test_one_process_runs_each_command_with_its_own_code_and_log(tmp_path: Path) -> None:
    with StayingRunner((None,)) as runner:
        asked = [("helped", "sweep", "--help"), ("wrong", "nothing"), ("again", "--version")]
        started = [runner.start(job(tmp_path, "first", "--version"), place=None)]
        assert code_of(started[0]) == 0
        codes = {}
        for name, *words in asked:
            started.append(runner.start(job(tmp_path, name, *words), place=None))
            codes[name] = code_of(started[-1])
    assert codes == {"helped": 0, "wrong": 2, "again": 0}
    assert len({one.id for one in started}) == 1
    assert "--trials" in (tmp_path / "helped.log").read_text()
    assert "No such command 'nothing'" in (tmp_path / "wrong.log").read_text()
    assert "--trials" not in (tmp_path / "wrong.log").read_text()
    assert started[0].worker.process.poll() == 0


def test_a_worker_that_is_killed_ends_its_job_and_the_next_one_has_another(tmp_path: Path) -> None:
    with StayingRunner((None,)) as runner:
        killed = runner.start(job(tmp_path, "killed", "data", "phantom", str(tmp_path / "P")), place=None)
        killed.worker.process.kill()
        assert code_of(killed) == -signal.SIGKILL
        after = runner.start(job(tmp_path, "after", "--version"), place=None)
        assert (code_of(after), after.id != killed.id) == (0, True)


def test_a_worker_that_is_stopped_saves_and_ends(tmp_path: Path) -> None:
    with StayingRunner((None,)) as runner:
        large = ("data", "phantom", str(tmp_path / "P"), "--videos", "200")
        stopped = runner.start(job(tmp_path, "stopped", *large), place=None)
        while not (tmp_path / "P").exists():
            time.sleep(0.02)
        stopped.stop()
        assert code_of(stopped) == 75
        after = runner.start(job(tmp_path, "after", "--version"), place=None)
        assert code_of(after) == 0
