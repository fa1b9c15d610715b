"""Every JSON file of a run's folder, damaged in every way that was thought of: one clear line in every command."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command_line
import pytest
from run_requests import requested, trained

from calot.errors import CalotError
from calot.provenance.receipt import CHECKS, Receipt, ReceiptCheck
from calot.report.run_folder import read_run

FILES = ("experiment.json", "data.json", "environment.json", "model.json", "receipt.json", "import.json")
NESTED = 10_000

DAMAGE = {
    "nested lists": b"[" * NESTED + b"]" * NESTED,
    "nested objects": b'{"a":' * NESTED + b"1" + b"}" * NESTED,
    "nested where a value was": b'{"name": ' + b"[" * NESTED + b"]" * NESTED + b"}",
    "empty": b"",
    "cut": b'{"name": "e02',
    "not an object": b"[1, 2]",
    "null": b"null",
    "two of a name": b'{"name": "a", "name": "b"}',
    "not a number": b'{"name": NaN}',
    "endless": b'{"name": 1e999}',
    "minus endless": b'{"name": -Infinity}',
    "a huge number": b'{"name": ' + b"9" * 100_000 + b"}",
    "utf-16": '{"name": "e02"}'.encode("utf-16"),
    "latin-1": '{"name": "\xe9"}'.encode("latin-1"),
    "half a character": b'{"name": "\\ud800"}',
    "zeros": b"\x00" * 100,
    "binary": bytes(range(256)),
}

COMMANDS = {
    "experiment.json": ("evaluate", "predict", "report", "resume"),
    "data.json": ("evaluate", "report", "resume"),
    "environment.json": ("report", "resume"),
    "model.json": ("report",),
    "receipt.json": ("report", "metrics", "compare"),
    "import.json": ("report",),
}


@pytest.fixture(scope="module")
def whole(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every file that a run can have."""
    folder = trained(requested(phantom, tmp_path_factory.mktemp("whole") / "run", "e02_frozen_probe"))
    fingerprint = json.loads((folder / "experiment.json").read_text())["fingerprint"]
    checks = tuple(ReceiptCheck(name=name, status="passed", why="made up") for name in CHECKS)
    Receipt(experiment="e02_frozen_probe", baseline=None, fingerprint=fingerprint, checks=checks).write(folder)
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def _words(command: str, run: Path, phantom: Path) -> tuple[Any, ...]:
    if command == "resume":
        quick = ("train.epochs=2", "train.batch=8", "train.warmup=0.5", "compute.train_subset=8", "--no-receipt")
        where = ("--scale", "tiny", "--seeds", "0", "--data", phantom, "--out", run, "--resume")
        return ("train", "e02_frozen_probe", *quick, *where)
    return {
        "evaluate": ("evaluate", run, "--results", run.parent),
        "predict": ("predict", run, "--data", phantom, "--out", run.parent / "val.parquet"),
        "report": ("report", run),
        "metrics": ("metrics", run),
        "compare": ("compare", run, run),
    }[command]


def _refused(run: Path, phantom: Path, name: str) -> None:
    for command in COMMANDS[name]:
        done = command_line.calot(*_words(command, run, phantom), cwd=run.parent)
        said = [line for line in done.stderr.splitlines() if line.startswith("calot: ")]
        assert (done.returncode, len(said)) == (2, 1), (command, done.stderr)
        assert name in said[0], (command, said)
        assert "a bug in calot" not in said[0], (command, said)
        assert len(said[0]) < 1000, (command, said)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_damage_of_any_kind_is_one_clear_line_in_every_command(
    run: Path, phantom: Path, name: str, damage: str
) -> None:
    (run / name).write_bytes(DAMAGE[damage])
    _refused(run, phantom, name)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside a JSON value, but those that a file may fill as it likes."""
    if path[-1:] == ("experiment",) or (path[-2:-1] == ("difference",) and len(path) > 3):
        return
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, part in inner:
        yield from _leaves(part, (*path, key))


def _refusal(run: Path) -> str | None:
    try:
        read_run(run)
    except CalotError as error:
        return str(error)
    return None


@pytest.mark.long
@pytest.mark.parametrize(("turn", "other"), list(enumerate([None, True, -1, "x", [[1]], {"x": {"y": 1}}])))
def test_another_type_in_any_place_is_one_clear_line_or_can_be_shown(run: Path, turn: int, other: Any) -> None:
    """Of each file, every third place by itself; then all that was taken, in all files at once, on one page."""
    for name in FILES[:5]:
        content = json.loads((run / name).read_text())
        for path in list(reversed(list(_leaves(content))))[
            turn % 3 :: 3
        ]:  # the inner places first, while they are there
            changed = json.loads(json.dumps(content))
            place: Any = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = other
            (run / name).write_text(json.dumps(changed))
            if (refusal := _refusal(run)) is None:
                content = changed  # a place that nothing reads, as the page below proves
            else:
                assert name in refusal, (path, refusal)
        (run / name).write_text(json.dumps(content))
    done = command_line.calot("report", run, cwd=run.parent)
    assert "a bug in calot" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 50, b"a,b\n1,2\n", b"stage,epoch\n" * 3, bytes(range(256)), b"[" * 10_000, b"epoch\nx\n"],
)
def test_a_metrics_file_that_is_none_is_one_clear_line(run: Path, phantom: Path, content: bytes) -> None:
    (run / "metrics.csv").write_bytes(content)
    done = command_line.calot("report", run, cwd=run.parent)
    assert "a bug in calot" not in done.stderr
    assert done.returncode == 0 if not content else (done.returncode, "metrics.csv" in done.stderr) == (2, True)
