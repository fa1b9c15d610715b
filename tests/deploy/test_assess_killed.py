"""`calot assess` killed with SIGKILL: the same command goes on, and ends in the bytes of one never killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import calot
from recordings import LOSSY, blended, record
from theatres import Theatre

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="SIGKILL")]


def killed(words: list[str], *, when: Callable[[], bool], cwd: Path) -> None:
    """Start the command and kill it as soon as something is so."""
    process = subprocess.Popen([sys.executable, "-m", "calot", *words], cwd=cwd, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 300
    while not when():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_kills_while_reading_and_while_scoring_lose_nothing(theatre: Theatre, tmp_path: Path) -> None:
    pictures = [theatre.pictures[i % len(theatre.pictures)] for i in range(200)]
    film = record(tmp_path / "film.mp4", blended(pictures, rate=4), **LOSSY)
    words = ["assess", str(theatre.seeds[0]), str(film), "--out"]
    done = calot(*words, tmp_path / "unkilled", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    work = tmp_path / "killed" / "work"
    journal = work / "journal.jsonl"

    def read(lines: int) -> Callable[[], bool]:
        return lambda: journal.is_file() and journal.read_bytes().count(b"\n") >= lines

    words.append(str(tmp_path / "killed"))
    seen = []
    for when in (lambda: (work / "plan.json").exists(), read(1), read(3), lambda: any(work.glob("logits_0"))):
        killed(words, when=when, cwd=tmp_path)
        seen.append(journal.read_bytes().count(b"\n") if journal.is_file() else 0)
    assert seen == sorted(seen), "nothing that was read is read again"
    assert seen[-1] == 4  # of 64 seconds each, and the rest
    assert calot(*words, cwd=tmp_path).returncode == 0
    assert files_in(tmp_path / "killed") == files_in(tmp_path / "unkilled")
    assert not work.exists()
