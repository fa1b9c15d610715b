"""Truths planted in a phantom are found by `calot explain`, each by its command line in docs/explain.md."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from command_line import calot

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.long


def _typed(planted: str, *, cwd: Path) -> dict[str, object]:
    """Run the documented line that begins by drawing this phantom, in `cwd`; the facts of its last command."""
    text = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
    line = next(one for one in text.splitlines() if one.startswith(f"calot data phantom {planted} "))
    (cwd / "tests").mkdir()
    (cwd / "tests" / "helpers").symlink_to(ROOT / "tests" / "helpers")
    commands = [shlex.split(part) for part in line.split(" && ")]
    for words in commands[:-1]:
        done = calot(*words[1:], cwd=cwd)
        assert done.returncode == 0, done.stderr
    done = calot(*commands[-1][1:], "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    parts: dict[str, dict[str, object]] = json.loads(done.stdout)["parts"]
    return next(iter(parts.values()))


def test_exactly_the_criterion_that_is_not_drawn_is_undetectable(tmp_path: Path) -> None:
    found = _typed("blind", cwd=tmp_path)
    assert found["blind"] == ["cystic_plate"]


def test_the_biased_rater_and_no_other_is_named(tmp_path: Path) -> None:
    found = _typed("biased", cwd=tmp_path)
    assert found["named"] == ["2"]
