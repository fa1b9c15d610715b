"""Ctrl-C, SIGTERM and SIGHUP end a command at once, whatever it waits for: exit code 75, and how to continue.

Only within `Stopper.held` a signal waits: for the training step that is under way, and for a while only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from calot.errors import Stopped

#: How long a step may take to heed a signal before it is broken off; batch systems kill after 10 to 30 seconds.
GRACE_S = 8.0
#: How long an end may take, and one that saves a run, before it is asked for again: something may have swallowed it.
_AGAIN_S, _SAVING_S = 5.0, 120.0

#: How long the main thread may be deaf, deep in a library, before the process is ended over its head.
_DEAF_S = 10.0

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_heard = 0.0  # when the main thread last heard a signal

_SAYING = "stopped by a signal; what was written is whole. Run the same command again."


class Stopper:
    """Remembers that a signal came, and says what a person does then."""

    def __init__(self, saying: str = _SAYING) -> None:
        self.saying = saying
        self._came = False
        self._held = False

    def asked(self) -> bool:
        """Whether a signal came. Whoever hears so ends its work, and may take its time to save it."""
        if self._came:
            _remind_in(0.0)
        return self._came

    def ask(self) -> None:
        """What a signal does: end at once, or remember it for the step that is under way; a second one ends that."""
        again, self._came = self._came, True
        if self._held and not again:
            _remind_in(GRACE_S)
            return
        _remind_in(_SAVING_S if self._held else _AGAIN_S)
        raise Stopped(self.saying)

    def check(self) -> None:
        """Raises Stopped once a signal came: for work between steps, which has nothing to save."""
        if self.asked():
            raise Stopped(self.saying)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it, a signal waits for `asked` or `check`, for `GRACE_S` seconds at most."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self.check()


@contextmanager
def stop_on_signal(saying: str = _SAYING) -> Iterator[Stopper]:
    """Within it, the first signal raises Stopped in the main thread, with this saying, or is held by the stopper.

    A signal that the process was told to ignore (nohup) stays ignored. Signals belong to the main thread: elsewhere
    the stopper hears of none.
    """
    stopper = Stopper(saying)
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return

    def handle(number: int, frame: FrameType | None) -> None:
        global _heard
        _heard = time.monotonic()
        stopper.ask()

    numbers = [number for name in _NAMES if (number := getattr(signal, name, None)) is not None]
    heard = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before: dict[int, Any] = {number: signal.signal(number, handle) for number in heard}
    if hasattr(signal, "SIGALRM"):
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, handle)
    try:
        yield stopper
    finally:
        _remind_in(0.0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def never_deaf() -> Iterator[None]:
    """Within it, a signal ends the process with exit code 75 also where the main thread cannot hear it.

    Python hears signals between its own instructions alone: a library that waits for ever in code of its own (a thread
    pool that got no memory, a device that does not answer) would outlive any but SIGKILL.
    """
    if os.name == "nt" or threading.current_thread() is not threading.main_thread():
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    with contextlib.suppress(RuntimeError):  # no thread to be had: then without
        threading.Thread(target=_watch, args=(read,), name="calot signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write)


def _watch(pipe: int) -> None:
    """End the process some seconds after a signal that the main thread did not hear of."""
    ours = {int(getattr(signal, name)) for name in (*_NAMES, "SIGALRM") if hasattr(signal, name)}
    while came := os.read(pipe, 1):
        if came[0] not in ours:
            continue
        at = time.monotonic()
        time.sleep(_DEAF_S)
        if _heard < at - 1:
            os.write(2, b"calot: stopped by a signal, in the middle of a library's own work. Run the same again.\n")
            os._exit(75)
    os.close(pipe)


def _remind_in(seconds: float) -> None:
    """Have the signal come again; 0 calls that off. Windows has no such timer: there a second Ctrl-C does it."""
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, seconds)
