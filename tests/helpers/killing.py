"""Kills `calot train` with SIGKILL, resumes it until it is done, and compares bytes with a run that nobody killed.

    python tests/helpers/killing.py --kills 50

Each run is a process of its own with the real command line; it is forked from one that has torch imported already, so
that a kill falls into the work and not into ten seconds of imports. POSIX only.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

#: Two stages of unlike optimisers, three epochs in all, a checkpoint within an epoch now and then.
EXPERIMENT = ("e02_frozen_probe", "train.epochs=2", "train.batch=8", "train.warmup=0.5")
SECOND_STAGE = "then=(Stage(epochs=1, batch=8, lr=1e-4, adaptation=FullFineTune(lr=1e-4)),)"
COMPUTE = ("compute.train_subset=8", "compute.threads=1", "compute.checkpoint_every_s=0.1")
WARM = (
    *("calot.pipeline", "calot.cli.train", "calot.report.page", "calot.report.pictures"),
    *("torch._inductor", "transformers.models.vjepa2.modeling_vjepa2"),  # imported late by a run
)
EVENTS = ("replace", "rename", "fsync", "mkdir", "rmdir", "unlink")


def command(
    data: Path, folder: Path, *, workers: int, resume: bool = True, experiment: tuple[str, ...] = EXPERIMENT
) -> list[str]:
    """The words after `calot`; `--resume` is there from the first start on, as in a script that is started again."""
    words = [
        "train",
        "--no-receipt",
        *experiment,
        SECOND_STAGE,
        *COMPUTE,
        f"compute.workers={workers}",
        "--data",
        str(data),
    ]
    words += ["--scale", "tiny", "--seeds", "0", "--out", str(folder), "--results", str(folder.parent / "ledger")]
    return [*words, "--resume"] if resume else words


def digests(folder: Path) -> dict[str, str]:
    """What must be equal byte for byte: weights, optimiser, progress, metrics, predictions."""
    names = ["metrics.csv", "predictions/val.parquet"]
    kept = [p for place in ("best", "last") for p in sorted((folder / "checkpoints" / place).iterdir())]
    paths = [*(folder / n for n in names), *kept]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def _calot(words: list[str], log: str, kill_at: int | None, count_to: str | None) -> None:
    """In the forked process: the command line, its output in a file; dies before its `kill_at`-th file event."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    seen = _count_events(kill_at)
    sys.argv = ["calot", *words]
    from calot.cli.main import main

    try:
        main()
    finally:
        if count_to is not None:
            Path(count_to).write_text(str(next(seen)))


def _count_events(kill_at: int | None) -> itertools.count[int]:
    seen, own = itertools.count(), os.getpid()
    for name in EVENTS:
        real = getattr(os, name)

        def counted(*args: Any, real: Any = real, **named: Any) -> Any:
            if os.getpid() == own and next(seen) == kill_at:
                os.kill(own, signal.SIGKILL)
            return real(*args, **named)

        setattr(os, name, counted)
    return seen


@dataclass
class Killer:
    """Runs chains of kills below `home` on the data set `data`."""

    data: Path
    home: Path
    seed: int = 0
    experiment: tuple[str, ...] = EXPERIMENT
    fell: Counter[str] = field(default_factory=Counter)  # where kills fell
    kills: int = 0
    chains: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(WARM))
        self.log = self.home / "output.log"

    def words(self, folder: Path, *, workers: int) -> list[str]:
        """What is typed after `calot`."""
        return command(self.data, folder, workers=workers, experiment=self.experiment)

    def digests(self, folder: Path) -> dict[str, str]:
        """What must be equal byte for byte."""
        return digests(folder)

    def run(self, folder: Path, *, workers: int, seconds: float | None = None, event: int | None = None) -> int:
        """Start (or go on with) a run; kill it after `seconds`, or before a file event. Returns its exit code."""
        words = self.words(folder, workers=workers)
        process = self.context.Process(target=_calot, args=(words, str(self.log), event, str(self.home / "events")))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
        return int(process.exitcode)

    def unkilled(self) -> None:
        """The run to compare with; also takes its time and counts its file events, frame store included."""
        shutil.rmtree(self.data / ".calot", ignore_errors=True)
        self._must_end(self.run(self.home / "warm-up", workers=0))
        shutil.rmtree(self.data / ".calot")
        start = time.monotonic()
        self._must_end(self.run(self.home / "unkilled", workers=0))
        self.lasts = time.monotonic() - start
        self.events = int((self.home / "events").read_text())
        self.expected = self.digests(self.home / "unkilled")
        assert self.digests(self.home / "warm-up") == self.expected

    def chain(self, *, workers: int, kills: int, events: tuple[int, ...] = ()) -> None:
        """One run without a frame store, killed at most `kills` times at random moments (or before the given events,
        each counted from its start), then left to end; raises AssertionError where a byte differs."""
        folder = self.home / f"chain{self.chains}"
        shutil.rmtree(self.data / ".calot", ignore_errors=True)
        self.chains += 1
        for number in range(len(events) or kills):
            if events:
                code = self.run(folder, workers=workers, event=events[number])
            else:
                code = self.run(folder, workers=workers, seconds=float(self.rng.uniform(0, self.lasts)))
            if code == 0:
                break
            assert code == -signal.SIGKILL, self._said(code)
            self.kills += 1
            self.fell[where(folder, store=self.data / ".calot" / "store")] += 1
        else:
            self._must_end(self.run(folder, workers=workers))
        found = self.digests(folder)
        assert found == self.expected, f"{folder}: {[n for n in found if found[n] != self.expected.get(n)]} differ"
        shutil.rmtree(folder)

    def _must_end(self, code: int) -> None:
        assert code == 0, self._said(code)

    def _said(self, code: int) -> str:
        return f"exit code {code}\n{self.log.read_text()[-3000:]}"


def where(folder: Path, *, store: Path) -> str:
    """In words, what a run that was just killed was doing."""
    kept = folder / "checkpoints"
    if list(store.glob("*.part")) if store.exists() else not folder.exists():
        return "building the frame store" if folder.exists() else "before its folder"
    if any((kept / f"{name}.new").exists() for name in ("last", "best")):
        return "writing a checkpoint"
    if not (kept / "last").exists():
        return "before the first checkpoint"
    progress = json.loads((kept / "last" / "state.json").read_text())["progress"]
    if progress["stage"] == 2:
        return "predictions and report"
    return f"training, stage {progress['stage'] + 1}"


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="at random moments")
    parser.add_argument("--events", type=int, default=0, help="and this many right before a file is put in its place")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    from calot.phantom import PhantomSpec, generate

    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        generate(home / "data", PhantomSpec(videos=9, seed=3, mean_frames=45.0, min_frames=30, max_frames=60))
        killer = Killer(data=home / "data", home=home, seed=asked.seed)
        killer.unkilled()
        print(f"unkilled: {killer.lasts:.1f} s, {killer.events} file events", flush=True)
        workers = itertools.cycle((0, 1, 4))
        while killer.kills < asked.kills:
            killer.chain(workers=next(workers), kills=min(5, asked.kills - killer.kills))
            print(f"{killer.kills} kills in {killer.chains} runs, every byte equal", flush=True)
        for event in np.linspace(0, killer.events - 1, asked.events).astype(int).tolist():
            killer.chain(workers=0, kills=1, events=(event,))
        print(f"{killer.kills} kills in {killer.chains} runs, every byte equal; they fell: {dict(killer.fell)}")


if __name__ == "__main__":
    _main()
