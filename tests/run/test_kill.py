"""Real processes, really killed: the bytes of a run do not depend on how often it was ended."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import killing
import psutil
import pytest

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="SIGKILL and fork")]


@pytest.fixture(scope="module")
def killer(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> killing.Killer:
    """With a copy of the data set, since chains build its frame store anew."""
    home = tmp_path_factory.mktemp("killing")
    shutil.copytree(phantom, home / "data")
    killer = killing.Killer(data=home / "data", home=home, seed=5)
    killer.unkilled()
    return killer


def test_ten_kills_at_random_moments_change_no_byte(killer: killing.Killer) -> None:
    before = killer.kills
    for workers in (0, 1, 4):
        killer.chain(workers=workers, kills=4)
    while killer.kills < before + 10:
        killer.chain(workers=0, kills=before + 10 - killer.kills)
    end = time.monotonic() + 30  # workers look for their parent every five seconds
    while (left := _at_work(killer.log)) and time.monotonic() < end:
        time.sleep(0.2)
    assert left == [], "loading workers outlived a killed run"


def _at_work(log: Path) -> list[int]:
    """Processes that still hold a chain's log open."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and str(log) in {file.path for file in process.open_files()}:
                found.append(process.pid)
    return found


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8])
def test_kills_right_before_files_are_put_in_place_change_no_byte(killer: killing.Killer, share: float) -> None:
    """Each the first in its run's life, then one more shortly after the start of the resumed run."""
    killer.chain(workers=0, kills=2, events=(round(share * killer.events), 7))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_saves_and_ends_with_75(killer: killing.Killer, number: signal.Signals) -> None:
    """As a batch system and a terminal send it: to the workers too."""
    folder = killer.home / f"signal{number}"
    shutil.rmtree(killer.data / ".calot", ignore_errors=True)
    words = killing.command(killer.data, folder, workers=1, resume=False)
    start = [sys.executable, "-c", "from calot.cli.main import main; main()", *words]
    process = subprocess.Popen(start, stderr=subprocess.PIPE, text=True, start_new_session=True)
    last = folder / "checkpoints" / "last"
    while not last.exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert ("continues with --resume" in said, "Traceback" in said) == (True, False)
    assert killer.run(folder, workers=1) == 0
    assert killing.digests(folder) == killer.expected


def test_a_second_process_on_a_run_is_refused_and_harms_nothing(killer: killing.Killer) -> None:
    folder = killer.home / "twice"
    words = (killing.command(killer.data, folder, workers=0), str(killer.log), None, None)
    first = killer.context.Process(target=killing._calot, args=words)
    first.start()
    while not (folder / "experiment.json").exists():
        time.sleep(0.01)
    assert killer.run(folder, workers=0) == 2
    assert "another process works on this run" in killer.log.read_text()
    first.join()
    assert (first.exitcode, killing.digests(folder)) == (0, killer.expected)
