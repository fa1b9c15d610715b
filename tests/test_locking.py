"""Locks between processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from calot.errors import CalotError
from calot.locking import locked


def test_a_held_lock_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock"),
        pytest.raises(CalotError, match="taken"),
        locked(tmp_path / "lock", refusal="taken"),
    ):
        pass
    with locked(tmp_path / "lock", refusal="taken"):
        pass


def _hold(path: Path, *, then: str = "") -> subprocess.Popen[str]:
    """A process that holds the lock, says so, and sleeps."""
    code = f"import os, pathlib, time; from calot.locking import locked\nwith locked(pathlib.Path({str(path)!r})):\n"
    code += f" {then}\n print('held', flush=True)\n time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    holder = _hold(tmp_path / "lock")
    with pytest.raises(CalotError, match="taken"), locked(tmp_path / "lock", refusal="taken"):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path / "lock", refusal="taken"):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_process_does_not_keep_its_killed_parents_lock(tmp_path: Path) -> None:
    """A killed run's loading workers live on for some seconds; the run must be resumable at once."""
    child = tmp_path / "child"
    path = f"pathlib.Path({str(child)!r})"
    worker = f"os.fork() or ({path}.write_text(str(os.getpid())), time.sleep(9))\n"
    worker += f" while not ({path}.exists() and {path}.read_text()): pass"
    holder = _hold(tmp_path / "lock", then=worker)
    holder.kill()
    holder.wait()
    with locked(tmp_path / "lock", refusal="taken"):
        os.kill(int(child.read_text()), 0)  # the forked process is still there
