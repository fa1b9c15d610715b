"""Where commands may write: nobody's file is replaced, and no input, and no file of a complete run."""

import json
import os
from pathlib import Path

import polars as pl
import pytest

from calot.destination import require_folder, require_free_file, written_by_calot
from calot.errors import CalotError


def test_a_new_folder_an_empty_one_and_calots_own_are_taken(tmp_path: Path) -> None:
    require_folder(tmp_path / "new" / "deep", records=["a.json"])
    (tmp_path / "empty").mkdir()
    require_folder(tmp_path / "empty", records=["a.json"])
    (tmp_path / "empty" / ".DS_Store").write_text("x")
    require_folder(tmp_path / "empty", records=["a.json"])
    own = tmp_path / "own"
    own.mkdir()
    (own / "a.json").write_text(json.dumps({"format": 1}))
    (own / "table.csv").write_text("1")
    require_folder(own, records=["b.json", "a.json"])


@pytest.mark.parametrize("content", ['{"my": 1}', "[1]", "not json", ""])
def test_a_folder_with_anything_else_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(CalotError, match=r"holds something else \(a.json\)"):
        require_folder(tmp_path, records=["a.json"])


def test_a_file_in_place_of_a_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "F").write_text("hi")
    for place in (tmp_path / "F", tmp_path / "F" / "below" / "it"):
        with pytest.raises(CalotError, match="F is a file; give a folder"):
            require_folder(place, records=[])


def test_an_input_a_users_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    table, notes = tmp_path / "v.csv", tmp_path / "notes.txt"
    table.write_text("video\n")
    notes.write_text("mine")
    os.link(table, tmp_path / "same.csv")
    for out in (table, tmp_path / "same.csv"):
        with pytest.raises(CalotError, match="is what is read"):
            require_free_file(out, inputs=[table])
    with pytest.raises(CalotError, match="exists, and calot did not write it"):
        require_free_file(notes, option="--freeze")
    with pytest.raises(CalotError, match="a folder stands where a file must be"):
        require_free_file(tmp_path)
    require_free_file(tmp_path / "new.json", inputs=[table])


def test_a_file_of_a_complete_run_is_refused_and_a_new_one_beside_it_is_not(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "predictions").mkdir(parents=True)
    (run / "seal.json").write_text(json.dumps({"format": 1}))
    (run / "predictions" / "val.parquet").write_bytes(b"calot")
    for name in ("seal.json", "predictions/val.parquet"):
        with pytest.raises(CalotError, match="a file of the run run, which is complete"):
            require_free_file(run / name)
    require_free_file(run / "frozen.json")


def test_what_calot_wrote_is_known_by_what_it_says(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("x" * 200_000 + "Written by calot 0.1.0 from run.")
    assert written_by_calot(page)
    page.write_text("mine")
    assert not written_by_calot(page)
    table = tmp_path / "t.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(table, metadata={"calot.fingerprint": "x"})
    assert written_by_calot(table)
    pl.DataFrame({"a": [1]}).write_parquet(table)
    assert not written_by_calot(table)
    assert not written_by_calot(tmp_path / "absent.json")
    assert not written_by_calot(tmp_path)
