"""A `calot` command run in this process, as a user would type it."""

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from calot.cli.main import main


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def calot(*words: str | Path, cwd: Path) -> Done:
    """Run `calot WORDS` in `cwd`, in this process: importing torch anew would take most of the time."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        patch.object(sys, "argv", ["calot", *map(str, words)]),
        patch.dict(os.environ, {"COLUMNS": "200"}),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def complete(phantom: Path, out: Path, name: str = "e02_frozen_probe", *, seed: int = 0) -> Path:
    """A run as the command line leaves it, sealed."""
    words = (name, "train.epochs=1", "train.warmup=0", "--scale", "tiny", "--no-receipt", "--no-page")
    done = calot("train", *words, "--data", phantom, "--seeds", str(seed), "--out", out, cwd=out.parent)
    assert done.returncode == 0, done.stderr
    return out
