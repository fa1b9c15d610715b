"""`calot` in several real processes under torchrun; and, as a program, `calot` without chance and in float64.

python -m torch.distributed.run --standalone --nproc_per_node=2 tests/helpers/launching.py train ...
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from run_requests import in_double

from calot.pretraining.objective import MaskedPredictionObjective
from calot.run.trainer import Trainer

EXACT, REAL = (str(Path(__file__)),), ("-m", "calot")


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Within it, models are trained in float64 and without dropout, so that only rounding can differ."""
    optimiser, batches = Trainer.optimiser, Trainer.batches

    def double(self: Trainer, *given: Any) -> Any:
        found = optimiser(self, *given)  # with the stage's adapters, and before a checkpoint is loaded
        for module in self.model.double().modules():
            for name in ("p", "dropout", "drop_prob"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        if isinstance(self.objective, MaskedPredictionObjective):  # its teacher was copied in float32
            self.objective.teacher.double()
        return found

    def doubled(self: Trainer, *given: Any, **named: Any) -> Any:
        return map(in_double, batches(self, *given, **named))

    with patch.object(Trainer, "optimiser", double), patch.object(Trainer, "batches", doubled):
        yield


@dataclass(frozen=True)
class Launched:
    """A launcher and the processes that it started; what they print goes to `log`."""

    launcher: subprocess.Popen[bytes]
    log: Path

    def ended(self, *, within_s: float = 300.0) -> int:
        """The launcher's exit code."""
        try:
            return self.launcher.wait(within_s)
        except subprocess.TimeoutExpired:
            for process in psutil.Process(self.launcher.pid).children(recursive=True):
                process.kill()
            self.launcher.kill()
            raise AssertionError(f"still at work after {within_s} s\n{self.said[-3000:]}") from None

    @property
    def said(self) -> str:
        return self.log.read_text()

    def worker(self, rank: int) -> psutil.Process:
        """The process of a rank."""
        for process in psutil.Process(self.launcher.pid).children():
            if process.environ().get("RANK") == str(rank):
                return process
        raise AssertionError(f"no process {rank}\n{self.said[-3000:]}")

    def send(self, number: signal.Signals, *, rank: int | None, once: Path) -> None:
        """Send a signal to one process, or as a terminal to all and the launcher, as soon as a file is there."""
        end = time.monotonic() + 240
        while not once.exists():
            assert self.launcher.poll() is None, self.said[-3000:]
            assert time.monotonic() < end, self.said[-3000:]
            time.sleep(0.01)
        if rank is None:
            os.killpg(self.launcher.pid, number)
        else:
            self.worker(rank).send_signal(number)


def launch(*words: str | Path, program: tuple[str, ...] = EXACT, cwd: Path, count: int = 2) -> Launched:
    """Start `calot WORDS` in several processes."""
    log = cwd / f"output{len(list(cwd.glob('output*')))}.log"
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}")
    with log.open("wb") as out:
        launcher = subprocess.Popen(
            [*torchrun, *program, *map(str, words)],
            cwd=cwd,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        )
    return Launched(launcher, log)


if __name__ == "__main__":
    from calot.cli.main import main

    with exactly():
        main()
