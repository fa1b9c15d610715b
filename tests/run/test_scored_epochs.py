"""`train.score_every`: which epochs validation is scored after, what may be chosen, and that training is untouched."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import calot
from run_requests import StopAfter, digests, requested, trained
from safetensors.torch import load_file
from torch import equal

from calot.errors import Stopped
from calot.provenance.run_facts import RunFacts
from calot.report.run_folder import read_run
from calot.train.loop import epochs_without_gain
from calot.train.stage import Stage

CHANGES = ("train.epochs=5", "train.patience=5", "train.warmup=0")


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def runs(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same run, scored after every epoch and after every second."""
    root = tmp_path_factory.mktemp("scored")
    return {
        every: trained(
            requested(phantom, root / str(every), "e02_frozen_probe", changes=(*CHANGES, f"train.score_every={every}"))
        )
        for every in (1, 2)
    }


def test_scored_after_every_second_epoch_and_the_last(runs: dict[int, Path]) -> None:
    assert [bool(row["val_map"]) for row in _rows(runs[2])] == [False, True, False, True, True]
    assert all(row["train_loss"] for row in _rows(runs[2]))
    assert RunFacts.of(runs[2]).epochs == 3
    assert RunFacts.of(runs[1]).epochs == 5


def test_training_is_that_of_a_run_scored_after_every_epoch(runs: dict[int, Path]) -> None:
    every, second = (_rows(runs[number]) for number in (1, 2))
    for name in ("train_loss", "lr", "step"):
        assert [row[name] for row in second] == [row[name] for row in every]
    for row, other in zip(second, every, strict=True):
        if row["val_map"]:
            assert {k: row[k] for k in other} == other
    last = [load_file(runs[number] / "checkpoints" / "last" / "model.safetensors") for number in (1, 2)]
    assert last[0].keys() == last[1].keys()
    assert all(equal(last[0][name], last[1][name]) for name in last[0])


def test_the_best_of_the_scored_epochs_is_kept(runs: dict[int, Path]) -> None:
    rows = _rows(runs[2])
    scored = {int(row["epoch"]): float(row["val_map"]) for row in rows if row["val_map"]}
    state = json.loads((runs[2] / "checkpoints" / "best" / "state.json").read_text())["progress"]
    assert state["best_epoch"] + 1 == max(scored, key=lambda epoch: scored[epoch])
    read = read_run(runs[2])
    assert read.best_row == state["best_epoch"]
    assert (runs[2] / "epochs").is_dir()
    assert len(list((runs[2] / "epochs").glob("*.parquet"))) == 3


def test_its_page_draws_lines_through_the_scored_epochs(runs: dict[int, Path]) -> None:
    done = calot("report", runs[2], cwd=runs[2].parent)
    assert done.returncode == 0, done.stderr
    assert (runs[2] / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_stopped_in_an_epoch_that_is_not_scored_it_resumes_to_the_same_bytes(
    steps: int, runs: dict[int, Path], phantom: Path, tmp_path: Path
) -> None:
    request = requested(
        phantom, tmp_path / "run", "e02_frozen_probe", changes=(*CHANGES, "train.score_every=2", "train.batch=16")
    )
    whole = trained(replace(request, folder=tmp_path / "whole"))
    with pytest.raises(Stopped):
        trained(request, StopAfter(steps))
    trained(replace(request, resume=True))
    assert digests(tmp_path / "run") == digests(whole)


def test_patience_counts_epochs_and_ends_a_stage_only_where_it_is_scored() -> None:
    def trains(*, epochs: int, patience: int, every: int) -> int:
        stage = Stage(epochs=epochs, patience=patience, score_every=every)
        assert epochs_without_gain(stage) == min(epochs, stage.without_gain)
        assert stage.patience_binds == (epochs_without_gain(stage) < epochs)
        return epochs_without_gain(stage)

    assert trains(epochs=15, patience=5, every=1) == 6
    assert trains(epochs=15, patience=5, every=4) == 12  # the first is 4; at 8 four have passed, at 12 eight
    assert trains(epochs=15, patience=4, every=4) == 8
    assert trains(epochs=15, patience=1, every=4) == 8
    assert trains(epochs=3, patience=1, every=4) == 3
    assert trains(epochs=12, patience=20, every=5) == 12


def test_numbers_of_scored_epochs() -> None:
    stage = Stage(epochs=12, score_every=5)
    assert [epoch + 1 for epoch in range(12) if stage.scores(epoch=epoch)] == [5, 10, 12]
    assert stage.scored == 3
    assert Stage(epochs=12, score_every=20).scored == 1


def test_a_pretraining_is_watched_in_every_epoch(tmp_path: Path) -> None:
    done = calot(
        "pretrain", tmp_path, "p01_masked_prediction", "train.score_every=2", "--out", tmp_path / "out", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "train.score_every=2: a pretraining is watched for collapse after every epoch" in done.stderr


@pytest.mark.slow
def test_a_receipt_finds_that_the_field_acts(phantom: Path, tmp_path: Path) -> None:
    words = ("train.epochs=4", "train.score_every=2", "train.batch=8", "compute.train_subset=8")
    done = calot(
        *("train", "e03_focal", *words, "--data", phantom, "--scale", "tiny", "--seeds", "0"),
        *("--out", tmp_path / "run", "--results", tmp_path),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    receipt = json.loads((tmp_path / "run" / "receipt.json").read_text())
    text = json.dumps(receipt)
    assert "train.score_every" in text
    assert '"negligible"' not in text
