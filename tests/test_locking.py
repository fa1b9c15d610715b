"""Locks between processes."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calot.errors import CalotError
from calot.locking import locked


def test_a_held_lock_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(CalotError, match="taken"), locked(tmp_path / "lock", refusal="taken"):
        pass
    with locked(tmp_path / "lock", refusal="taken"):
        pass


def _hold(path: str) -> subprocess.Popen[str]:
    code = f"import time, pathlib; from calot.locking import locked\nwith locked(pathlib.Path({path!r})):\n"
    code += " print('held', flush=True)\n time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    holder = _hold(str(tmp_path / "lock"))
    with pytest.raises(CalotError, match="taken"), locked(tmp_path / "lock", refusal="taken"):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path / "lock", refusal="taken"):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_process_does_not_keep_its_parents_lock(tmp_path: Path) -> None:
    """A killed run's loading workers live on for some seconds; the run must be resumable at once."""
    with locked(tmp_path / "lock"):
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
    with locked(tmp_path / "lock", refusal="taken"):
        pass
    worker.kill()
    worker.join()
