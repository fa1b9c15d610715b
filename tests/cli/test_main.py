"""The command itself: help, version, completion, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import calot

from calot import __version__


@pytest.mark.parametrize("words", [("--version",), ("-h",), ("--help",), ("train", "-h"), ("data", "store", "-h")])
def test_version_and_help_end_well(words: tuple[str, ...], tmp_path: Path) -> None:
    done = calot(*words, cwd=tmp_path)
    assert done.returncode == 0
    assert (f"calot {__version__}" if words == ("--version",) else "Usage: calot") in done.stdout


def test_python_dash_m_calot_is_calot(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "calot", "--version"], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode().strip() == f"calot {__version__}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nosuch",), "No such command 'nosuch'"),
        (("metrics", "--nosuch"), "`calot metrics --help`"),
        (("metrics",), "Missing argument"),
        (("data", "store", ".", "--size", "x"), "--size"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_line_and_exit_code_2(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = calot(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("columns", ["1", "40", "not a number"])
@pytest.mark.parametrize("words", [("--help",), ("train", "--help")])
def test_help_on_a_narrow_terminal(columns: str, words: tuple[str, ...], tmp_path: Path) -> None:
    environment = {**os.environ, "COLUMNS": columns, "TERM": "dumb"}
    command = [sys.executable, "-m", "calot", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_shell_completes_commands(tmp_path: Path) -> None:
    environment = {**os.environ, "_CALOT_COMPLETE": "complete_bash", "COMP_WORDS": "calot metr", "COMP_CWORD": "1"}
    code = "from calot.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["metrics"]
