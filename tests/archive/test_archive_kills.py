"""A thousand operations, fifty kills of workers and of their parent: nothing lost, nothing scored twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil
import pytest
import short_operations
from short_operations import Short, begun, mapped, short_archive, tables

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="SIGKILL")]

COUNT, KILLS, PAUSE_S = 1000, 50, 0.02


def _started(folder: Path, log: Path) -> subprocess.Popen[str]:
    words = [str(folder), str(log), "--count", str(COUNT), "--pause", str(PAUSE_S)]
    return subprocess.Popen([sys.executable, short_operations.__file__, *words], stdout=subprocess.PIPE, text=True)


def _workers(parent: subprocess.Popen[str]) -> list[psutil.Process]:
    """Spawned workers; multiprocessing's own helper process is none."""
    try:
        children = psutil.Process(parent.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def _await_work(parent: subprocess.Popen[str], log: Path) -> None:
    """Until a worker of this parent has begun an operation, so that kills fall into the work."""
    before, end = len(begun(log)), time.monotonic() + 60
    while len(begun(log)) == before and parent.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def test_a_thousand_operations_survive_fifty_kills(tmp_path: Path) -> None:
    rng, log, killed = np.random.default_rng(11), tmp_path / "log", {"parent": 0, "worker": 0}
    folder = tmp_path / "out"
    parent = _started(folder, log)
    try:
        while sum(killed.values()) < KILLS:
            _await_work(parent, log)
            time.sleep(float(rng.uniform(0, 0.15)))
            assert parent.poll() is None, f"all operations were finished after {killed} kills"
            workers = _workers(parent)
            if rng.random() < 0.3 or not workers:
                parent.kill()
                parent.wait()
                killed["parent"] += 1
                parent = _started(folder, log)
            else:
                workers[int(rng.integers(len(workers)))].kill()
                killed["worker"] += 1
        out, _ = parent.communicate(timeout=120)
    finally:
        parent.kill()
    assert parent.returncode == 0
    found, scored, failed = map(int, out.split())
    assert (found + scored, failed) == (COUNT, 0)
    assert min(killed.values()) >= 10, killed
    _require_nothing_twice(log)
    archive = short_archive(tmp_path / "inline", Short(log=tmp_path / "log2"), count=COUNT)
    mapped(archive)
    assert tables(short_archive(folder, Short(log=log), count=COUNT)) == tables(archive)
    assert len(tables(archive)) == COUNT


def _require_nothing_twice(log: Path) -> None:
    """An operation was begun again only where whoever had begun it never began another: it was killed at it."""
    last: dict[int, int] = {}
    attempts: dict[object, list[int]] = defaultdict(list)
    for number, (pid, operation) in enumerate(begun(log)):
        last[pid] = number
        attempts[operation].append(number)
    pids = [pid for pid, _ in begun(log)]
    assert len(attempts) == COUNT
    again = [number for numbers in attempts.values() for number in numbers[:-1]]
    assert [number for number in again if last[pids[number]] != number] == []
    assert len(again) <= 2 * KILLS  # a killed parent's two workers end with it


def test_a_killed_parents_workers_end_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = _started(tmp_path / "out", log)
    _await_work(parent, log)
    workers = _workers(parent)
    assert workers
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert (len(gone), alive) == (len(workers), [])
