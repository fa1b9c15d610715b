"""Ctrl-C and SIGTERM ask a run to end at its next step; a second Ctrl-C ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from calot.errors import Stopped
from calot.progress import Advance


class Stopper:
    """Remembers that a signal came."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def asked(self) -> bool:
        return self._event.is_set()

    def ask(self) -> None:
        self._event.set()

    def check(self) -> None:
        """Raises Stopped once a signal came: for work between steps, which has nothing to save."""
        if self.asked():
            raise Stopped

    def between(self, advance: Advance, *, saying: str) -> Advance:
        """The same report of progress, which ends the work with Stopped(`saying`) once a signal came."""

        def heard(done: int, total: int) -> None:
            advance(done, total)
            if self.asked():
                raise Stopped(saying)

        return heard


@contextmanager
def stop_on_signal() -> Iterator[Stopper]:
    """Within it, SIGINT and SIGTERM set the stopper instead of ending the process."""
    stopper = Stopper()

    def handle(number: int, frame: FrameType | None) -> None:
        if stopper.asked():
            raise KeyboardInterrupt
        stopper.ask()

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopper
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
