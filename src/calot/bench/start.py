"""How soon a command answers, against a script that imports torch first; and how soon training takes its first step."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from calot.bench.epochs import footage_folder
from calot.bench.side_by_side import Aside, Contest, ExactnessCheck, Outcome, compete, seconds
from calot.config.overrides import apply_overrides
from calot.experiment import scaled
from calot.experiments import find, names
from calot.progress import Ui
from calot.receipts.receipt import opening_receipt
from calot.run.data import OpenData
from calot.run.request import Request
from calot.run.signals import Stopper
from calot.run.trainer import Trainer
from calot.train.loop import optimise
from calot.train.progress import Progress

NAME, TARGET = "e02_frozen_probe", 3.0
_IMPORTS = "import torch, transformers, peft, accelerate; from transformers import AutoModel"


def bench_start(*, data: Path | None = None, frames: int = 300, repeats: int = 3, first_step: bool = True) -> Outcome:
    """`calot experiments list` in a process of its own; the first training step is an aside."""

    def listed() -> str:
        return _python("-m", "calot", "experiments", "list")

    def checks() -> tuple[ExactnessCheck, ...]:
        missing = [name for name in names() if name not in listed()]
        return (ExactnessCheck(what="experiments that the list lacks", difference=float(len(missing)), tolerance=0.0),)

    def asides() -> tuple[Aside, ...]:
        helped = min(seconds(lambda: _python("-m", "calot", "--help")) for _ in range(repeats))
        found = (Aside(name="help", what="calot --help", seconds=helped),)
        return (*found, _first_step(data, frames=frames)) if first_step else found

    return compete(
        Contest(
            bench="start",
            work="answer a command that needs no model: calot experiments list",
            naive_way="a script's imports before it reads its arguments: torch, transformers, peft, accelerate",
            our_way="each command imports what it needs when it needs it",
            target=TARGET,
            repeats=repeats,
            plain=False,
            checks=checks,
            naive=lambda: _python("-c", _IMPORTS),
            ours=listed,
            asides=asides,
        )
    )


def _python(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    return done.stdout


def _first_step(data: Path | None, *, frames: int) -> Aside:
    """As `calot train` begins, on frames that nobody has decoded yet."""
    with footage_folder(data, frames=frames) as (root, scratch):
        found = find(NAME)
        experiment = apply_overrides(scaled(found.experiment, "tiny"), [f"compute.cache={scratch / 'cache'}"])
        request = Request(found=found, experiment=experiment, scale="tiny", data=root, folder=scratch / "run", seed=0)
        start = time.perf_counter()
        opened = OpenData.of(root, experiment=experiment, ui=Ui())
        trainer = Trainer.start(request, data=opened, ui=Ui(), stopper=Stopper())
        opening_receipt(request, ui=Ui())
        fit = trainer.fit(experiment.train)
        optimise(fit, next(iter(fit.data.batches(epoch=0, start=0))), progress=Progress())
        count = len(opened.store("train")) + len(opened.store("val"))
        what = f"to the first step of {NAME} at tiny scale: {count} frames decoded, the receipt, a step"
        return Aside(name="first step", what=what, seconds=time.perf_counter() - start)
