"""`calot demo --overwrite` starts again in a demo's folder, and deletes nothing that a demo did not make."""

from __future__ import annotations

from pathlib import Path

import pytest

from calot.cli.demo import _claim
from calot.errors import CalotError


def left(folder: Path) -> Path:
    """What a demo leaves."""
    for name in ("data/phantom.json", "results/e02_frozen_probe/s42/experiment.json", "first_look.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def test_a_demo_makes_way_for_the_next_one(tmp_path: Path) -> None:
    out = left(tmp_path / "demo")
    with pytest.raises(CalotError, match="exists: --overwrite starts the demo again"):
        _claim(out, overwrite=False)
    _claim(out, overwrite=True)
    assert list(out.iterdir()) == []
    _claim(tmp_path / "new", overwrite=False)
    assert (tmp_path / "new").is_dir()


@pytest.mark.parametrize(
    "mine",
    ["thesis.txt", ".hidden", "results/e03_focal/s0/experiment.json", "results/e02_frozen_probe/s1/experiment.json"],
)
def test_what_no_demo_made_stays(tmp_path: Path, mine: str) -> None:
    """The demo's own last words are to train `e03_focal` into its results."""
    out = left(tmp_path / "demo")
    (out / mine).parent.mkdir(parents=True, exist_ok=True)
    (out / mine).write_text("precious")
    with pytest.raises(CalotError, match="which no demo made and --overwrite would delete"):
        _claim(out, overwrite=True)
    assert (out / mine).read_text() == "precious"
    assert (out / "data" / "phantom.json").is_file()


def test_data_that_are_no_phantom_stay(tmp_path: Path) -> None:
    (tmp_path / "demo" / "data").mkdir(parents=True)
    with pytest.raises(CalotError, match="holds data, which no demo made"):
        _claim(tmp_path / "demo", overwrite=True)


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("mine")
    for out in (tmp_path / "demo", tmp_path / "demo" / "within"):
        with pytest.raises(CalotError, match="demo is a file; give a folder"):
            _claim(out, overwrite=True)
