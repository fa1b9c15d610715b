"""What lies beside a data set is listed with its size, and removed by kind; nothing else is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import calot


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, size in (("store/a/frames.raw", 3000), ("features/x/tokens.raw", 2000), ("features/y/tokens.raw", 500)):
        path = tmp_path / "data" / ".calot" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size))
    (tmp_path / "data" / ".calot" / "features" / "x.lock").touch()
    return tmp_path / "data"


def listed(root: Path, *words: str | Path) -> dict[str, tuple[int, int, bool]]:
    done = calot("data", "cache", root, *words, "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    return {row["kind"]: (row["entries"], row["bytes"], row["removed"]) for row in json.loads(done.stdout)}


def test_each_kind_is_listed_with_its_entries_and_bytes(root: Path) -> None:
    assert listed(root) == {"features": (2, 2500, False), "store": (1, 3000, False)}
    assert "features" in calot("data", "cache", root, cwd=root).stdout


def test_a_kind_is_removed_and_the_others_stay(root: Path) -> None:
    assert listed(root, "--clear", "features") == {"features": (2, 2500, True), "store": (1, 3000, False)}
    assert listed(root) == {"store": (1, 3000, False)}


def test_an_unknown_kind_or_folder_is_refused_and_removes_nothing(root: Path) -> None:
    done = calot("data", "cache", root, "--clear", "features", "--clear", "frames", cwd=root)
    assert (done.returncode, "--clear frames" in done.stderr, "features, store" in done.stderr) == (2, True, True)
    assert len(listed(root)) == 2
    assert calot("data", "cache", root / "nowhere", cwd=root).returncode == 2


def test_a_cache_elsewhere_and_none_at_all(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    assert listed(root, "--cache", elsewhere) == {}
    assert "nothing is kept" in calot("data", "cache", root, "--cache", elsewhere, cwd=root).stdout
    (elsewhere / "masks" / "one").mkdir(parents=True)
    assert listed(root, "--cache", elsewhere) == {"masks": (1, 0, False)}
