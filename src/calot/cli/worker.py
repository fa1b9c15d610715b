"""A process that runs one `calot` command after the other, as a study orders them: imports are paid once.

It reads a line of JSON per command (`words`, and the `log` that its output is appended to) from standard input, and
answers each with the command's exit code in a line of its own. It ends with its input, or with code 75 at a signal.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from calot.cli.main import run_words
from calot.errors import Stopped
from calot.run.signals import last_words, never_deaf, stop_on_signal
from calot.terminal import guarded_streams

#: The exit code of a command that a signal stopped after saving.
_SAVED = 75


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    orders = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # until a job's log takes its place: what is printed does not answer an order
    with guarded_streams(), never_deaf(), last_words():
        try:
            with stop_on_signal(), contextlib.suppress(BrokenPipeError):  # whoever ordered is gone
                code = _serve(orders, answers)
        except Stopped:
            code = _SAVED
    os._exit(code) if code else sys.exit(0)


def _serve(orders: TextIO, answers: TextIO) -> int:
    for line in orders:
        order = json.loads(line)
        code = _ordered(list(order["words"]), log=Path(order["log"]))
        answers.write(f"{code}\n")
        answers.flush()
        if code == _SAVED:
            return code
        gc.collect()  # what the run held: its model and optimiser refer to each other
    return 0


def _ordered(words: list[str], *, log: Path) -> int:
    with _output_to(log):
        sys.argv = ["calot", *words]
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {subprocess.list2cmdline(sys.argv)}", flush=True)
        return run_words(words)


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Within it, all that this process writes, libraries in other languages included, goes to the end of a file."""
    before = [os.dup(number) for number in (1, 2)]
    target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        for number in (1, 2):
            os.dup2(target, number)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        for number, old in zip((1, 2), before, strict=True):
            os.dup2(old, number)
            os.close(old)
        os.close(target)


if __name__ == "__main__":
    main()
