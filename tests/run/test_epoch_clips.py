"""What a run keeps of its epochs: predictions of each, the chosen one's attention by video, under the run's seal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from command_line import calot
from run_requests import requested, trained
from visible_text import visible

from calot.errors import CalotError
from calot.provenance.custody import seal
from calot.report.page import write_report
from calot.statistics.anatomy import attention_file, attention_on_anatomy
from calot.statistics.metrics import mean_ap
from calot.statistics.optimism import epoch_file, optimism_of_run
from calot.statistics.predictions import load_predictions

NAME = "e11_attention_supervision"
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def made(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed run that reads attention, of two epochs."""
    changes = ("loss.terms.attention.first_epoch=1",)
    folder = trained(requested(phantom, tmp_path_factory.mktemp("runs") / "own", NAME, changes=changes))
    seal(folder)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "own"))


def test_each_epochs_predictions_score_what_metrics_csv_says(run: Path) -> None:
    rows = pl.read_csv(run / "metrics.csv")
    assert rows.height == 2
    for row in rows.iter_rows(named=True):
        kept = load_predictions(epoch_file(run, stage=row["stage"], epoch=row["epoch"]))
        assert mean_ap(kept.labels, kept.logits).over_defined == pytest.approx(row["val_map"], abs=1e-12)
    best = int(rows["val_map"].arg_max() or 0) + 1
    kept = load_predictions(epoch_file(run, stage=1, epoch=best))
    assert kept.digest == load_predictions(run / "predictions/val.parquet").digest
    assert optimism_of_run(run, split="val").epochs == 2


def test_attention_by_video_has_the_mean_of_the_chosen_epoch(run: Path) -> None:
    rows = pl.read_csv(run / "metrics.csv")
    row = rows.row(int(rows["val_map"].arg_max() or 0), named=True)
    found = attention_on_anatomy(run, split="val")
    assert found is not None
    assert found.epoch == row["epoch"]
    assert found.mass.value == pytest.approx(row["val_attention_on_anatomy"])
    assert found.area.value == pytest.approx(row["val_anatomy_area"])
    assert found.enrichment.value == pytest.approx(row["val_attention_on_anatomy"] / row["val_anatomy_area"])


def test_both_are_sealed_printed_and_drawn(run: Path) -> None:
    names = {"attention/val.json", "epochs/stage1_epoch001.parquet", "epochs/stage1_epoch002.parquet"}
    assert names <= json.loads((run / "seal.json").read_text())["files"].keys()
    said = calot("metrics", run, cwd=run.parent).stdout
    assert "Optimism: of choosing among epochs not estimated: too few videos" in " ".join(said.split())
    assert "of attention on the anatomy: 0." in said
    fields = json.loads(calot("metrics", run, "--json", cwd=run.parent).stdout)
    assert fields["optimism"]["epochs"] == 2
    assert 0 < fields["attention_on_anatomy"]["mass"]["value"] < 1
    page = visible(write_report(run).read_text(encoding="utf-8"))
    assert "Attention on the anatomy, val split, epoch" in page
    assert "Of choosing among epochs not estimated" in page


@pytest.mark.parametrize("name", ["attention/val.json", "epochs/stage1_epoch001.parquet"])
def test_one_that_was_changed_is_refused_by_name(run: Path, name: str) -> None:
    (run / name).write_bytes((run / name).read_bytes() + b" ")
    done = calot("metrics", run, cwd=run.parent)
    assert done.returncode == 2
    assert name in done.stderr


def test_a_run_that_kept_neither_is_still_read(run: Path) -> None:
    for name in ("attention", "epochs"):
        shutil.rmtree(run / name)
    seal(run)
    assert attention_on_anatomy(run, split="val") is None
    said = " ".join(calot("metrics", run, cwd=run.parent).stdout.split())
    assert "Optimism: of choosing among epochs not estimated: the run kept no predictions of single epochs" in said
    assert "Attention on the anatomy" not in visible(write_report(run).read_text(encoding="utf-8"))


def test_attention_of_another_run_is_refused_without_a_seal_too(run: Path) -> None:
    path = attention_file(run, split="val")
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"run": kept["run"] | {"seed": 7}}))
    with pytest.raises(CalotError, match=r"attention/val\.json: belongs to another run"):
        attention_on_anatomy(run, split="val")
