"""Ctrl-C, SIGTERM and SIGHUP end a command at once, whatever it waits for: exit code 75, and how to continue.

Only within `Stopper.held` does a signal wait: for the training step in progress, and for a limited time.
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

#: How long a step may take to react to a signal before it is interrupted; batch systems kill after 10 to 30 seconds.
GRACE_S = 8.0
#: How long ending may take, and ending with a save, before the signal is sent again: something may have swallowed it.
_AGAIN_S, _SAVING_S = 5.0, 120.0

#: Set in the environment of a sweep's jobs; such a job ends with this code where the machine failed it, not its input.
SWEEP, MACHINE_FAILED = "CALOT_SWEEP", 71
#: A launcher or a sweep passes on the signal that a terminal or a batch system has sent to all: within so long, it is
#: the same one.
_SAME_S = 2.0

#: How long the main thread may ignore signals, deep in a library, before the process is ended anyway.
_DEAF_S = 10.0

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_heard = 0.0  # when the main thread last heard a signal

_SAYING = "stopped by a signal; what was written is whole. Run the same command again."


class Stopper:
    """Remembers that a signal came, and says what the user should do then."""

    def __init__(self, saying: str = _SAYING) -> None:
        self.saying = saying
        self._came = False
        self._held = False
        self._first = 0.0

    def asked(self) -> bool:
        """Whether a signal came. The caller then ends its work, and may take time to save it."""
        if self._came:
            _remind_in(0.0)
        return self._came

    def ask(self) -> None:
        """What a signal does: end at once, or remember it for the step in progress; a second signal ends that step."""
        now = time.monotonic()
        launched = "TORCHELASTIC_RUN_ID" in os.environ or SWEEP in os.environ
        if self._came and launched and now - self._first < _SAME_S:
            return
        again, self._came = self._came, True
        self._first = self._first if again else now
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
    """Within it, the first signal raises Stopped in the main thread, with this message, or is held by the stopper.

    A signal that the process was set to ignore (nohup) stays ignored. Signals belong to the main thread: elsewhere
    the stopper receives none.
    """
    stopper = Stopper(saying)
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return

    def handle(number: int, frame: FrameType | None) -> None:
        global _heard
        _heard = time.monotonic()
        stopper.ask()

    before: dict[int, Any] = {number: signal.signal(number, handle) for number in _heeded()}
    if hasattr(signal, "SIGALRM"):
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, handle)
    try:
        yield stopper
    finally:
        _remind_in(0.0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def last_words() -> Iterator[None]:
    """Within it, and outside `stop_on_signal`, a signal changes nothing: the command is over and says how it ended.

    A launcher sends SIGTERM to the processes that are left as soon as one is dead, just when they want to say so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.signal(number, lambda *_: None) for number in _heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def never_deaf() -> Iterator[None]:
    """Within it, a signal ends the process with exit code 75 also where the main thread cannot hear it.

    Python handles signals only between its own instructions: a library that waits forever in its own code (a thread
    pool that got no memory, a device that does not answer) would outlive any but SIGKILL.
    """
    if os.name == "nt" or threading.current_thread() is not threading.main_thread():
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    with contextlib.suppress(RuntimeError):  # no thread available: do without
        threading.Thread(target=_watch, args=(read,), name="calot signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write)


def _watch(pipe: int) -> None:
    """End the process some seconds after a signal that the main thread did not handle."""
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


def _heeded() -> list[int]:
    """The signals that end a command, less those that the process was set to ignore."""
    numbers = [number for name in _NAMES if (number := getattr(signal, name, None)) is not None]
    return [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]


def _remind_in(seconds: float) -> None:
    """Send the signal again after a delay; 0 cancels that. Windows has no such timer: there a second Ctrl-C does it."""
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, seconds)
