"""The command to run next: every printed command runs as printed."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path


def say_next(*words: object) -> None:
    """Print one command, with its words quoted for the shell."""
    print(f"\nNext: {command_line(*words)}")


def command_line(*words: object) -> str:
    """`calot` and its words as a shell takes them."""
    text = ["calot", *(f"./{word}" if isinstance(word, Path) and str(word)[:1] == "-" else str(word) for word in words)]
    return subprocess.list2cmdline(text) if os.name == "nt" else shlex.join(text)


def with_results(results: Path) -> tuple[object, ...]:
    """The option that keeps a results root other than the usual one."""
    return () if results == Path("results") else ("--results", results)


def report_of(runs: Iterable[Path]) -> tuple[object, ...]:
    """The command that shows runs on one page: for the folder that holds them all, or for the first if none does."""
    folders = list(runs)
    try:
        common = Path(os.path.commonpath([str(folder) for folder in folders]))
    except ValueError:  # some relative, some not, or on another drive
        common = folders[0]
    above_all = common in (Path(), Path(common.anchor), Path.home())
    return "report", folders[0] if above_all else common
