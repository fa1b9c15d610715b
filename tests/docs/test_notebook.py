"""The notebook in docs/ is its text, executed by this code: what is deterministic in it comes out again."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
KEPT: dict[str, Any] = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))
CODE = [cell for cell in KEPT["cells"] if cell["cell_type"] == "code"]

#: From this cell on, outputs are those of training, whose last digits are the machine's.
TRAINED = next(i for i, cell in enumerate(CODE) if "calot.train(" in "".join(cell["source"]))


def _said(cells: list[dict[str, Any]]) -> list[list[str]]:
    """What each cell gave as text."""
    given = []
    for cell in cells:
        parts = [output.get("data", {}).get("text/html") or output.get("text", "") for output in cell["outputs"]]
        parts += [output.get("data", {}).get("text/plain", "") for output in cell["outputs"] if not any(parts)]
        given.append(["".join(part) for part in parts])
    return given


def test_the_kept_notebook_is_the_text_executed_in_order() -> None:
    source = DOCS / "notebook.py"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert KEPT["metadata"]["calot"]["source_sha256"] == digest, "docs/notebook.py has changed: make notebook"
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    whole = source.read_text(encoding="utf-8")
    assert [c for c in CODE if "".join(c["source"]) not in whole] == []
    assert [o for cell in CODE for o in cell["outputs"] if o["output_type"] == "error"] == []


def test_the_kept_notebook_is_small_and_names_no_machine() -> None:
    text = json.dumps(KEPT)
    assert len(text) < 40_000
    assert re.findall(r"/(?:tmp|home|Users|root|work)/[^ \"\\]*", text) == []


@pytest.mark.slow
def test_the_cells_before_training_give_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executed here without a kernel: tables and messages are the present code's."""
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for cell, kept in zip(CODE[:TRAINED], _said(CODE[:TRAINED]), strict=True):
        *before, last = "".join(cell["source"]).rstrip().splitlines()
        if re.fullmatch(r"[a-z]+", last):
            exec("\n".join(before), scope)
            assert [scope[last]._repr_html_()] == kept
        else:
            exec("\n".join([*before, last]), scope)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not importlib.util.find_spec("nbclient"), reason="`make docs` installs what executes it")
def test_the_whole_notebook_runs_and_gives_the_same_where_no_digit_is_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("execute", DOCS / "site" / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    again = [cell for cell in module.executed().cells if cell.cell_type == "code"]

    def shape(cells: list[dict[str, Any]]) -> list[list[str]]:
        return [[re.sub(r"[-+]?\d+(\.\d+)?", "#", text) for text in texts] for texts in _said(cells)]

    assert _said(again)[:TRAINED] == _said(CODE)[:TRAINED]
    assert shape(again) == shape(CODE)
