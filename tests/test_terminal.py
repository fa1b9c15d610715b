"""What reaches a terminal: nothing that steers it, nothing that its encoding lacks, nothing cut."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prediction_tables import clustered
from rich.table import Table

from calot.cli.main import main
from calot.progress import Ui
from calot.terminal import guarded_streams, print_table, printable

STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def run(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own: its streams and their encoding are what is tested."""
    command = [sys.executable, "-m", "calot", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, env={**os.environ, **environment}, check=False)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    for model in (1, 2):
        clustered(videos=6, frames=8, model=model).frame.write_csv(tmp_path / f"{model}.csv")
    return tmp_path


@given(st.text())
def test_what_is_printed_holds_no_character_that_steers(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if unicodedata.category(c) in STEERING and c not in "\n\t"]
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("\x9b2J", "\\x9b2J"),
        ("one\r\ntwo\tthree", "one\\r\ntwo\tthree"),
        ("zero\u200bwidth \ufeff", "zero\\u200bwidth \\ufeff"),
        ("\udcff", "\\udcff"),
        ("Müller − 手術 é", "Müller − 手術 é"),
    ],
)
def test_steering_characters_are_written_out_and_letters_stay(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("words", [("metrics", "\x1b[31mred.csv"), ("metrics", "--\x1b[2J"), ("\x1b]0;x\x07",)])
def test_an_error_about_a_name_with_escape_codes_shows_them_as_text(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\\x1b" in done.stderr


def test_rich_tables_and_plain_lines_are_cleaned_and_colours_stay(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name", "value")
    table.add_row("\x1b[31mred", "[/bold] :smile:")
    with guarded_streams():
        print_table(table)
        print("\x1b[1mplain")
        print("\x1b[1merror", file=sys.stderr)
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\\x1b[31mred" in out
    assert "[/bold] :smile:" in out


def test_a_progress_line_and_the_log_hold_no_escape_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Ui(log=tmp_path / "train.log").say("video \x1b[2J\u202e of site")
    assert "\x1b" not in capsys.readouterr().err
    assert (tmp_path / "train.log").read_text(encoding="utf-8").endswith("video \\x1b[2J\\u202e of site\n")


def test_work_continues_where_standard_error_cannot_be_written(tmp_path: Path) -> None:
    code = "from pathlib import Path; from calot.progress import Ui; Ui(log=Path('log')).say('an epoch')"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stderr=full, check=False)
    assert done.returncode == 0
    assert "an epoch" in (tmp_path / "log").read_text()


def printed(*words: str, cwd: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code and output of a command whose standard output has this encoding, as a redirect on Windows has."""
    kept = io.BytesIO()
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(kept, encoding=encoding))
    monkeypatch.setattr(sys, "argv", ["calot", *words])
    with pytest.raises(SystemExit) as end:
        main()
    sys.stdout.flush()
    return int(end.value.code or 0), kept.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "cp932", "gbk", "ascii", "latin-1", "koi8-r", "utf-16"])
def test_output_in_any_encoding_is_readable(tables: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (("compare", "1.csv", "2.csv"), ("metrics", "1.csv"), ("--help",), ("metrics", "--help")):
        code, text = printed(*words, cwd=tables, encoding=encoding, monkeypatch=monkeypatch)
        assert code == 0
        assert "?" not in text
        assert "\\" not in text
    _, text = printed("metrics", "1.csv", "--json", cwd=tables, encoding=encoding, monkeypatch=monkeypatch)
    assert json.loads(text)["videos"] == 6


def test_plain_c_has_readable_marks(tables: Path) -> None:
    done = run("compare", "1.csv", "2.csv", cwd=tables, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert done.returncode == 0
    assert b"1.csv - 2.csv: " in done.stdout


def test_a_name_that_the_encoding_lacks_is_written_out(tmp_path: Path) -> None:
    done = run("metrics", "手術.csv", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.stderr.startswith(b"calot: \\u624b\\u8853.csv: no such file")


@pytest.mark.parametrize("columns", [1, 10, 40, 79, 200])
def test_no_number_and_no_name_is_cut_on_a_terminal_of_any_width(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    table = Table(box=None)
    for heading in ("operation", "AP", "95 % over videos"):
        table.add_column(heading, no_wrap=True)
    table.add_row("b3d9c1f2-1111-2222-3333-444455556666", "57.25", "40.1 to 73.2")
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    print_table(table)
    text = "".join(out.getvalue().split())
    for cell in ("b3d9c1f2-1111-2222-3333-444455556666", "57.25", "40.1to73.2"):
        assert cell in text
    assert "…" not in text


def test_into_a_file_of_no_stated_width_a_wide_table_keeps_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table(box=None)
    table.add_column("id", no_wrap=True)
    table.add_column("score", no_wrap=True)
    table.add_row("x" * 120, "0.5")
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    print_table(table)
    assert out.getvalue().splitlines()[1].split() == ["x" * 120, "0.5"]


def test_an_unread_pipe_ends_without_a_word(tables: Path) -> None:
    command = f"'{sys.executable}' -m calot metrics 1.csv 2>err | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tables, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "141"
    assert (tables / "err").read_text() == ""


def test_a_full_standard_output_is_named(tables: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "calot", "metrics", "1.csv"]
        done = subprocess.run(command, cwd=tables, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "standard output: the disk is full" in done.stderr
