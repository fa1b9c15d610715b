"""One operation has one id however it was written, and what names none is refused with its row."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from command_line import calot
from hypothesis import given
from hypothesis import strategies as st

from calot.cli.paths import at_home
from calot.errors import CalotError
from calot.identity import hidden_file, ids_in_words, split_name, user_path, video_id, video_ids, whole_number


def ids(*cells: str | None) -> list[str]:
    return video_ids(cells, where=lambda row: f"t.csv: data row {row + 1}")


@pytest.mark.parametrize("text", ["7", "07", "007", "7.0", "7.", " 7 ", "7.000000000e+00", "+7"])
def test_a_number_is_one_id_however_it_is_written(text: str) -> None:
    assert video_id(text) == "7"


@pytest.mark.parametrize("text", ["7a", "7.5", "12e4", "1_0", "-7", "op 7", "0x7", "7e-1", "1e400"])
def test_what_is_no_whole_number_stays_as_it_is_written(text: str) -> None:
    assert video_id(text) == text


def test_a_hash_that_looks_like_a_number_with_an_exponent_is_no_number() -> None:
    assert ids("12e4", "120000") == ["12e4", "120000"]


@pytest.mark.parametrize(
    "text", ["nan", "NaN", "None", "NA", "n/a", "null", "NULL", "<NA>", "NaT", "", "  ", None, "-"]
)
def test_a_word_for_a_lost_value_is_no_id(text: str | None) -> None:
    with pytest.raises(CalotError, match=r"t\.csv: data row 2: video is"):
        ids("1", text)


@pytest.mark.parametrize("text", ["１", "①", "ｏｐ１", "op\u200b1", "op\x1b[31m1", "op\t1", "a\u202eb", "x\u00ad", "½"])
def test_characters_that_stand_for_others_or_cannot_be_seen_are_refused(text: str) -> None:
    with pytest.raises(CalotError, match="data row 1: video is") as caught:
        ids(text)
    assert str(caught.value).isascii()


def test_an_accent_is_one_character_or_two() -> None:
    assert ids("op\u00e9ration", "ope\u0301ration") == ["op\u00e9ration"] * 2


@pytest.mark.parametrize(("first", "second"), [("OP1", "op1"), ("case 1", "case  1"), ("Straße", "STRASSE")])
def test_ids_that_differ_in_capitals_or_spaces_alone_are_refused(first: str, second: str) -> None:
    with pytest.raises(CalotError, match=r"data row 3: .* differs from"):
        ids(first, "other", second)


@given(st.text(max_size=8))
def test_any_text_is_an_id_that_is_its_own_or_is_refused(text: str) -> None:
    try:
        name = video_id(text)
    except ValueError:
        return
    assert video_id(name) == name == unicodedata.normalize("NFC", name)
    assert name.isprintable()


@given(st.integers(0, 2**70))
def test_a_whole_number_comes_back(number: int) -> None:
    assert whole_number(f"{number}") == whole_number(f"000{number}") == whole_number(f"{number}.00") == number


def test_splits_are_three_whatever_their_capitals() -> None:
    assert [split_name(name) for name in ("test", "Test", " VAL ")] == ["test", "test", "val"]
    with pytest.raises(ValueError, match='Did you mean "test"'):
        split_name("testing")


def test_the_ids_are_said_in_words() -> None:
    assert ids_in_words(["1", "13", "1"]) == "2 videos, numbered 1 to 13"
    assert ids_in_words(["a1"]) == "1 video, named a1 to a1"
    assert ids_in_words(["1", "b"]) == "2 videos, 1 of them numbers, named 1 to b"


def test_files_that_systems_leave_are_known() -> None:
    left = ["._1_25.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", "1_25.jpg"]
    assert [hidden_file(name) for name in left] == [True, True, True, True, False]


def test_a_home_in_any_word_of_a_command_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["train", "--out=~/o", "--data", "~/d", "compute.cache=~/c", "backbone.weights=~", "a=b~", "./~"]
    home = str(tmp_path)
    assert at_home(words) == [
        *("train", f"--out={home}/o", "--data", f"{home}/d", f"compute.cache={home}/c", f"backbone.weights={home}"),
        *("a=b~", "./~"),
    ]
    assert user_path(Path("x/~")) == Path("x/~")


@pytest.mark.parametrize("word", ["--out=~nobody-of-this-name/o", "~nobody-of-this-name", "masks.synthetic=~nobody-x"])
def test_a_home_that_is_nobodys_is_refused_and_no_folder_is_made(word: str, tmp_path: Path) -> None:
    done = calot("data", "store", tmp_path, word, cwd=tmp_path)
    assert done.returncode == 2
    assert "no such home" in done.stderr
    assert list(tmp_path.iterdir()) == []
