"""Progress of long work: a rich bar on a terminal, an occasional line elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calot.terminal import console, printable
from calot.writing import clear_disk_errors

if TYPE_CHECKING:
    from rich.console import Console

#: Called with what is done and the total.
Advance = Callable[[int, int], None]

_LINE_EVERY_S = 15.0


@dataclass(frozen=True)
class Ui:
    """Where a command writes for a person: standard error, so that `--json` keeps standard output to itself."""

    log: Path | None = None

    def say(self, text: str) -> None:
        """One line, also to the log file if there is one, there with the time.

        Work never ends because nobody reads it: a closed or full standard error is ignored, a failing log is not.
        """
        text = printable(text)
        _tell(text)
        if self.log is not None:
            with clear_disk_errors(self.log), self.log.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    @contextmanager
    def task(self, label: str) -> Iterator[Advance]:
        """Work with a known end: call the yielded function with (done, total) as it goes."""
        screen = console(stderr=True)
        if screen.is_terminal and not screen.is_dumb_terminal:
            with _bar(screen) as bar:
                task = bar.add_task(printable(label), total=None)
                yield lambda done, total: bar.update(task, completed=done, total=total)
            return
        yield _Lines(label)


class Silent(Ui):
    """For a process whose work another one reports."""

    def say(self, text: str) -> None:
        pass

    @contextmanager
    def task(self, label: str) -> Iterator[Advance]:
        yield lambda done, total: None


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _bar(screen: Console) -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=screen, transient=True)


class _Lines:
    """The same for a log: a line at most every few seconds, with the time left."""

    def __init__(self, label: str) -> None:
        self.label, self.start = label, time.monotonic()
        self.last = self.start

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last < _LINE_EVERY_S or done == 0:
            return
        self.last = now
        left = (now - self.start) * (total - done) / done
        _tell(f"{printable(self.label)}: {done} of {total}, about {left:.0f} s left")
