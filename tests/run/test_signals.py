"""One signal ends whatever a command waits for; a step under way is let finish, for a while."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from calot.errors import Stopped
from calot.run import signals
from calot.run.signals import Stopper, stop_on_signal

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no SIGTERM")


def signalled(after_s: float = 0.2, number: int = signal.SIGTERM) -> None:
    """Have this process signalled from another one."""
    subprocess.Popen(
        [sys.executable, "-c", f"import os, time; time.sleep({after_s}); os.kill({os.getpid()}, {number})"]
    )


def _read_a_pipe() -> None:
    read, _ = os.pipe()
    os.read(read, 1)


def _working() -> None:
    while True:
        pass


def _swallowing() -> None:
    while True:
        try:
            time.sleep(60)
        except Exception:
            continue


WAITS: dict[str, Callable[[], object]] = {
    "sleep": lambda: time.sleep(60),
    "queue": lambda: queue.Queue().get(timeout=60),
    "lock": lambda: threading.Event().wait(60),
    "pipe": _read_a_pipe,
    "process": lambda: subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], check=False),
    "work": _working,
    "what handles any failure": _swallowing,
}


def said(work: Callable[[Stopper], object], *, held: bool = False) -> str | None:
    """What the end said, where a signal ended the work."""
    try:
        with stop_on_signal("run the same again") as stopper, stopper.held() if held else nullcontext():
            work(stopper)
    except Stopped as stop:
        return str(stop)
    return None


def signal_now(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_any_wait_at_once(wait: str, number: signal.Signals) -> None:
    start = time.monotonic()
    assert said(lambda _: (signalled(number=number), WAITS[wait]())) == "run the same again"
    assert time.monotonic() - start < 10


def test_a_held_signal_waits_for_the_step_and_is_then_heard() -> None:
    seen: list[object] = []

    def step(stopper: Stopper) -> None:
        signal_now()
        time.sleep(0.2)
        seen.extend([stopper.asked(), signal.getitimer(signal.ITIMER_REAL)])
        stopper.check()

    assert said(step, held=True) == "run the same again"
    assert seen == [True, (0.0, 0.0)]  # nothing breaks off whoever has heard it and saves


def test_a_held_signal_that_nobody_asks_about_is_heard_at_the_end() -> None:
    assert said(signal_now, held=True) is not None


def test_a_step_that_never_ends_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "GRACE_S", 0.3)
    assert said(lambda _: (signal_now(), time.sleep(60)), held=True) is not None


def test_a_second_signal_ends_a_held_step_at_once() -> None:
    assert said(lambda _: (signal_now(), signal_now(), time.sleep(60)), held=True) is not None


def test_a_signal_that_a_launcher_passes_on_is_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "some run")
    ended: list[bool] = []
    assert said(lambda _: (signal_now(), signal_now(), ended.append(True)), held=True) is not None
    assert ended == [True]
    monkeypatch.setattr(signals, "_SAME_S", 0.0)
    assert said(lambda _: (signal_now(), signal_now(), ended.append(True)), held=True) is not None
    assert ended == [True], "later, it is one"


def test_an_end_that_something_swallowed_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_AGAIN_S", 0.3)

    def swallows(_: Stopper) -> None:
        try:
            signal_now()
        except BaseException:
            time.sleep(60)

    assert said(swallows) is not None


def test_handlers_and_timer_are_put_back() -> None:
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)]
    assert said(signal_now) is not None
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_signal_that_the_process_was_told_to_ignore_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal() as stopper:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopper.asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_elsewhere_than_in_the_main_thread_nothing_is_heard_and_nothing_breaks() -> None:
    heard: list[bool] = []

    def work() -> None:
        with stop_on_signal() as stopper:
            heard.append(stopper.asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [False]


DEAF = """
import ctypes, os, signal, sys
from calot.run import signals
signals._DEAF_S = 0.5
lib, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
with signals.never_deaf(), signals.stop_on_signal():
    lib.pthread_mutex_lock(lock)
    print("waiting", flush=True)
    lib.pthread_mutex_lock(lock)  # for ever, in code that is not Python's
"""


def test_a_signal_while_a_command_says_how_it_ended_takes_no_word_of_it(tmp_path: Path) -> None:
    """torchrun sends SIGTERM to the others as soon as one process is dead, just when they say so."""
    program = (
        "import os, signal, calot.cli.main as m\n"
        "def said(error): os.kill(os.getpid(), signal.SIGTERM); return 'another process ended'\n"
        "m._message = said\nm.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "report", "nowhere"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (2, "calot: another process ended\n")


def test_a_main_thread_that_never_comes_back_to_python_is_ended_all_the_same() -> None:
    process = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    time.sleep(1.0)  # the second lock is one call away
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 75
    assert "stopped by a signal" in said
