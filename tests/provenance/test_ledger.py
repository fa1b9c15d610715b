"""The ledger: nothing lost between processes, nothing glued to a broken line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from calot.errors import CalotError
from calot.provenance import ledger


def test_several_processes_lose_no_line(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from calot.provenance import ledger\n"
        "for i in range(50):\n"
        "    ledger.append(Path(sys.argv[1]), ledger.make_entry('e', who=sys.argv[2], i=i, pad='x' * 5000))\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(who)]) for who in range(4)]
    assert [process.wait(timeout=120) for process in started] == [0] * 4
    lines = (tmp_path / ledger.NAME).read_text().splitlines()
    pairs = sorted((fields["who"], fields["i"]) for fields in map(json.loads, lines))
    assert pairs == sorted((str(who), i) for who in range(4) for i in range(50))


@pytest.mark.parametrize("line", ["{", "[]", '{"event": "e"}', "", "null"])
def test_a_corrupt_line_is_named(tmp_path: Path, line: str) -> None:
    ledger.append(tmp_path, ledger.make_entry("e"))
    with (tmp_path / ledger.NAME).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(CalotError, match=r"ledger\.jsonl, line 2: not an entry"):
        ledger.read(tmp_path)


def test_nothing_is_appended_to_an_unfinished_line(tmp_path: Path) -> None:
    ledger.append(tmp_path, ledger.make_entry("e"))
    with (tmp_path / ledger.NAME).open("a") as stream:
        stream.write('{"event": "cut')
    before = (tmp_path / ledger.NAME).read_bytes()
    with pytest.raises(CalotError, match="line 2: unfinished"):
        ledger.append(tmp_path, ledger.make_entry("f"))
    with pytest.raises(CalotError, match="line 2: unfinished"):
        ledger.read(tmp_path)
    assert (tmp_path / ledger.NAME).read_bytes() == before


def test_facts_that_are_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalotError, match="JSON values"):
        ledger.append(tmp_path, ledger.make_entry("e", value=float("nan")))
    assert ledger.read(tmp_path) == ()
