"""A run's files were swapped, edited or damaged: refused by name, wherever the run is read."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import calot
from run_requests import requested, trained

from calot.errors import CalotError, Stopped
from calot.pipeline import load_run, predict_run
from calot.progress import Ui
from calot.provenance.audit import audit_run
from calot.provenance.custody import SEAL, seal
from calot.report.run_folder import read_run
from calot.statistics.predictions import load_predictions

READERS = ("report", "metrics", "evaluate", "compare")
OTHERS = ("seed", "experiment")


@pytest.fixture(scope="module")
def runs(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sealed run, one of another seed, and one of another experiment."""
    home = tmp_path_factory.mktemp("runs")
    asked = {
        "own": requested(phantom, home / "own", "e02_frozen_probe"),
        "seed": requested(phantom, home / "seed", "e02_frozen_probe", seed=1),
        "experiment": requested(phantom, home / "experiment", "e03_focal"),
    }
    folders = {name: trained(request) for name, request in asked.items()}
    for folder in folders.values():
        seal(folder)
    return folders


@pytest.fixture
def run(runs: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs["own"], tmp_path / "own"))


def refused(run: Path, name: str, *, readers: tuple[str, ...] = READERS) -> None:
    """Every reader ends with 2 and one line that names the file; the audit finds it, too."""
    words: dict[str, tuple[str | Path, ...]] = {
        "report": ("report", run),
        "metrics": ("metrics", run),
        "evaluate": ("evaluate", run, "--results", run.parent / "results"),
        "compare": ("compare", run, run),
    }
    for reader in readers:
        done = calot(*words[reader], cwd=run.parent)
        assert done.returncode == 2, (reader, done.stdout, done.stderr)
        assert name in done.stderr, (reader, done.stderr)
        assert "a bug in calot" not in done.stderr, (reader, done.stderr)
    found = audit_run(run).broken
    assert any(name in line for line in found), found


def unsealed(run: Path) -> Path:
    """As a run that never had a seal: what its files themselves say must then be enough."""
    (run / SEAL).unlink()
    return run


def test_a_sealed_run_is_whole_and_every_command_reads_it(run: Path) -> None:
    found = audit_run(run)
    assert (found.broken, found.sealed, found.tables) == ((), True, 1)
    for words in (("report", run), ("metrics", run), ("evaluate", run, "--results", run.parent), ("audit", run)):
        done = calot(*words, cwd=run.parent)
        assert done.returncode == 0, done.stderr
    assert audit_run(run).broken == ()  # evaluating it again left it sealed


def _stop() -> None:
    raise Stopped


def test_what_is_refused_or_stopped_leaves_the_seal(run: Path, phantom: Path) -> None:
    """Only who is about to change a file takes the seal off, once nothing can be refused any more."""
    asked = replace(requested(phantom, run, "e02_frozen_probe"), resume=True)
    with pytest.raises(CalotError, match="nowhere"):
        trained(replace(asked, data=phantom.parent / "nowhere"))
    with pytest.raises(Stopped):
        predict_run(run, split="val", data=phantom, ui=Ui(), check=_stop)
    found = audit_run(run)
    assert (found.sealed, found.broken) == (True, ())


@pytest.mark.parametrize("other", OTHERS)
def test_anothers_best_epoch_is_refused(run: Path, runs: dict[str, Path], other: str) -> None:
    shutil.rmtree(run / "checkpoints" / "best")
    shutil.copytree(runs[other] / "checkpoints" / "best", run / "checkpoints" / "best")
    refused(run, "checkpoints/best")
    refused(unsealed(run), "belongs to another run", readers=("evaluate",))


@pytest.mark.parametrize("other", OTHERS)
def test_anothers_predictions_are_refused(run: Path, runs: dict[str, Path], other: str) -> None:
    shutil.copy(runs[other] / "predictions" / "val.parquet", run / "predictions" / "val.parquet")
    refused(run, "predictions/val.parquet")
    refused(unsealed(run), "belongs to another run", readers=("report", "metrics", "compare"))


@pytest.mark.parametrize("other", OTHERS)
def test_a_run_is_not_resumed_from_anothers_checkpoints(
    runs: dict[str, Path], phantom: Path, run: Path, other: str
) -> None:
    for name in ("last", "previous", "best"):
        shutil.rmtree(run / "checkpoints" / name)
        shutil.copytree(runs[other] / "checkpoints" / name, run / "checkpoints" / name)
    with pytest.raises(CalotError, match="belongs to another run"):
        trained(replace(requested(phantom, unsealed(run), "e02_frozen_probe"), resume=True))


def _edited(key: str, value: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        data = json.loads(path.read_text())
        place = data
        *inner, last = key.split(".")
        for name in inner:
            place = place[name]
        assert place[last] != value
        place[last] = value
        path.write_text(json.dumps(data))

    return edit


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("experiment.json", _edited("seed", 7)),
        ("experiment.json", _edited("experiment.train.lr", 0.25)),
        ("experiment.json", _edited("name", "e99")),
        ("data.json", _edited("manifest_hash", "0" * 64)),
        ("data.json", _edited("protocol", "all-frames")),
        ("data.json", _edited("synthetic", False)),
        ("model.json", _edited("weights", "facebook/vjepa2-vitl-fpc16-256-ssv2")),
        ("environment.json", _edited("command", "calot train something-else")),
        ("metrics.csv", lambda path: path.write_text(path.read_text().replace("0.", "1."))),
    ],
)
def test_an_edited_file_is_refused(run: Path, name: str, edit: Callable[[Path], None]) -> None:
    edit(run / name)
    refused(run, name)


def test_logits_replaced_by_the_labels_are_refused(run: Path) -> None:
    """By a program that keeps every word of metadata, and with the digest made again."""
    path = run / "predictions" / "val.parquet"
    table = load_predictions(path)
    labels = {
        c.replace("label_", "logit_"): pl.col(c).cast(pl.Float32) for c in table.frame.columns if c[:6] == "label_"
    }
    replace(table, frame=table.frame.with_columns(**labels)).write(path)
    refused(run, "predictions/val.parquet")


def test_a_file_that_was_taken_away_or_added_is_named(run: Path, runs: dict[str, Path]) -> None:
    (run / "model.json").unlink()
    shutil.copy(runs["own"] / "predictions" / "val.parquet", run / "predictions" / "test.parquet")
    refused(run, "model.json: is missing", readers=())
    refused(run, "predictions/test.parquet: was added", readers=())


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2, "files": {}}', '{"format": 1, "files": {"../x": "0"}}', ""])
def test_a_damaged_seal_is_refused(run: Path, text: str) -> None:
    (run / SEAL).write_text(text)
    with pytest.raises(CalotError, match=r"seal\.json|missing|added"):
        read_run(run)


@pytest.mark.slow
def test_no_flipped_byte_goes_unnoticed(run: Path) -> None:
    """200 flips over all that a result rests on: the audit names the file, and reading the run never guesses."""
    files = sorted(p for p in run.rglob("*") if p.is_file() and "figures" not in p.parts)
    files = [p for p in files if p.name not in ("train.log", "run.lock", "report.html")]
    rng = np.random.default_rng(0)
    for flip in range(200):
        path = files[flip % len(files)]
        before = path.read_bytes()
        data = bytearray(before)
        place = int(rng.integers(len(data)))
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(data))
        broken = audit_run(run).broken
        assert broken, (path, place)
        if path.parent.name != "best" and "checkpoints" not in path.parts:
            with pytest.raises(CalotError):
                read_run(run)
        if path.parent.name == "best":
            with pytest.raises(CalotError):
                load_run(run)
        path.write_bytes(before)
    assert audit_run(run).broken == ()
