"""A run's side of tracking: processes that follow it, which can neither stop it nor slow it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from calot.progress import Ui
from calot.tracking.followed import FOLDER, Followed
from calot.tracking.follower import DONE, ROW
from calot.tracking.services import find_service

#: How long the end of a run waits for what its services still send, and how long a run that was stopped does.
_WAIT_S, _WAIT_STOPPED_S = 20.0, 1.0


@dataclass
class Trackers:
    """The processes that follow a run, by service; a service that fails is said once and is no longer among them."""

    folder: Path
    ui: Ui
    at_work: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *, run: Followed, python: str = sys.executable) -> None:
        """Start the process of one service; `python` is the interpreter that has its package."""
        self.ui.say(f"--log {name}: {find_service(name).look(run)}")
        try:
            with (run.place / f"{name}.log").open("ab") as log:
                process = subprocess.Popen(
                    [python, "-P", "-m", "calot.tracking", name, str(run.folder), str(run.home)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,  # a terminal's Ctrl-C is the run's; what it had logged is sent on
                )
        except OSError as error:
            self.ui.say(f"--log {name}: cannot start ({error}); the run goes on without it")
            return
        self.at_work[name] = process
        with contextlib.suppress(OSError):  # Windows cannot before Python 3.12
            os.set_blocking(process.stdin.fileno(), False)  # type: ignore[union-attr]

    def rows_written(self) -> None:
        """Called after metrics.csv was written: wakes each process, and says which has failed."""
        for name in list(self.at_work):
            self._tell(name, ROW)

    def close(self, *, complete: bool, wait_s: float | None = None) -> None:
        """Let each process send what is left, for so long; one that needs more goes on by itself, and is named."""
        for name in list(self.at_work):
            if complete:
                self._tell(name, DONE)
        for process in self.at_work.values():
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        until = time.monotonic() + ((_WAIT_S if complete else _WAIT_STOPPED_S) if wait_s is None else wait_s)
        for name, process in list(self.at_work.items()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
            if not self._failed(name) and process.returncode is None and complete:
                self.ui.say(f"--log {name}: still sending what is left, and not waited for; see {self._log(name)}")
        self.at_work.clear()

    def _tell(self, name: str, line: str) -> None:
        if self._failed(name):
            return
        with contextlib.suppress(OSError):  # it ended just now: said next time
            os.write(self.at_work[name].stdin.fileno(), f"{line}\n".encode())  # type: ignore[union-attr]

    def _failed(self, name: str) -> bool:
        """Whether a process has ended before its time: it is said and given up."""
        process = self.at_work[name]
        if not process.poll():
            return False
        why = os.read(process.stdout.fileno(), 4096).decode(errors="replace")  # type: ignore[union-attr]
        why = why or f"its process ended with code {process.returncode}"
        self.ui.say(f"--log {name}: stopped, and the run goes on without it: {why} (see {self._log(name)})")
        del self.at_work[name]
        return True

    def _log(self, name: str) -> Path:
        return self.folder / FOLDER / f"{name}.log"


@contextmanager
def following(
    folder: Path, *, services: Sequence[str], home: Path, ui: Ui, python: str = sys.executable
) -> Iterator[Trackers]:
    """The processes that follow the run in a folder, whose experiment.json is there, until the block ends."""
    trackers = Trackers(folder, ui)
    if services:
        run = Followed.of(folder, home=home)
        for name in services:
            trackers.start(name, run=run, python=python)
    complete = False
    try:
        yield trackers
        complete = True
    finally:
        trackers.close(complete=complete)
