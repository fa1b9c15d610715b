"""Jobs that take no training, and `calot sweep` as processes that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from calot.progress import Ui
from calot.run.signals import Stopper
from calot.sweeping.jobs import DONE, Job, JobBook
from calot.sweeping.local import LocalRunner
from calot.sweeping.pool import Pool

QUICK = (
    *("e02_frozen_probe", "train.epochs=2", "train.batch=8", "train.warmup=0", "compute.train_subset=8"),
    *("compute.checkpoint_every_s=0.05", "compute.threads=1"),
)


def script(home: Path, name: str, code: str) -> Job:
    """A job that runs Python code; the run counts as complete once the code has written `complete` in its folder."""
    folder = home / name
    folder.mkdir(parents=True, exist_ok=True)
    begin = f"import os, pathlib, signal, sys, time; here = pathlib.Path({str(folder)!r})\n"
    begin += "tries = here / 'tries'; tries.open('a').write('x'); attempt = len(tries.read_text())\n"
    return Job(
        name=name, folder=folder, command=(sys.executable, "-c", begin + code), log=home / "jobs" / f"{name}.log"
    )


def pool(home: Path, *places: str | None, retries: int = 3, stopper: Stopper | None = None) -> Pool:
    """A pool of scripts, which has no val mAP to read."""

    def state_of(job: Job) -> str | None:
        return DONE if (job.folder / "complete").exists() else None

    return Pool(
        runner=LocalRunner(places or (None,)),
        book=JobBook.opened(home / "jobs.json"),
        retries=retries,
        state_of=state_of,
        ui=Ui(),
        stopper=stopper or Stopper(),
    )


def words(data: Path, out: Path, *own: str, command: str = "sweep") -> list[str]:
    """A quick sweep's command line."""
    where = ("--data", str(data), "--scale", "tiny", "--no-receipt", "--results", str(out.parent / "ledger"))
    return [sys.executable, "-m", "calot", command, *QUICK, *where, "--out", str(out), *own]


def sweeping(data: Path, out: Path, *own: str) -> subprocess.Popen[str]:
    """A sweep as a process, which no GPU distracts."""
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words(data, out, *own), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def ended(process: subprocess.Popen[str], *, within_s: float = 300.0) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = process.communicate(timeout=within_s)
    return process.returncode, out, err


def until(true: Callable[[], object], *, within_s: float = 240.0) -> None:
    """Wait."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def jobs(out: Path) -> dict[str, dict[str, object]]:
    """What `jobs.json` says, by job."""
    return {one["name"]: one for one in json.loads((out / "jobs.json").read_text())["jobs"]}


def training(folder: Path) -> psutil.Process:
    """The process that trains the run in a folder, whoever started it."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "train" in line and str(folder) in line:
            return process
    raise AssertionError(f"nobody trains {folder}")
