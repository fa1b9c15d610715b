"""The document of a study from made-up runs: its numbers, what it says is missing, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from browser import CHROMIUM, FITS, WIDTHS, probed, visit
from make_run import make_run
from typer.testing import CliRunner
from visible_text import visible

from calot.cli.main import app
from calot.errors import CalotError
from calot.report.paper.files import write_paper
from calot.report.study.answers import study_command
from calot.report.study.folder import read_study
from calot.report.study.page import WrittenStudy, write_study
from calot.report.study.tables import epoch_table
from calot.statistics.compare import compare
from calot.statistics.predictions import Predictions, load_predictions

SEEDS = range(5)
#: By experiment: its baseline, and how well its made-up scores follow the labels.
SKILLS = {
    "e02_frozen_probe": (None, 0.4),
    "e03_focal": ("e02_frozen_probe", 0.4),
    "e06_c2_weighted": ("e02_frozen_probe", 1.4),
}


def make_study(folder: Path, *, seeds: range = SEEDS) -> Path:
    """Three experiments: one no better than the baseline, one far better, whose last seed's receipt failed; beside
    them one that was asked for and died."""
    for number, (name, (baseline, skill)) in enumerate(SKILLS.items()):
        for seed in seeds:
            failed = "dose" if name == "e06_c2_weighted" and seed == 4 else None
            knobs = {"skill": skill, "noise": 100 * number + seed, "videos": 24, "failed": failed}
            make_run(folder / name / f"s{seed}", name=name, baseline=baseline, seed=seed, pictures=False, **knobs)
    asked = {"name": "e13_window_vit/s0", "folder": "moved/e13_window_vit/s0", "state": "died"}
    (folder / "jobs" / "e13_window_vit").mkdir(parents=True)
    (folder / "jobs" / "e13_window_vit" / "s0.log").write_text("epoch 1\nout of memory\n")
    (folder / "jobs.json").write_text(json.dumps({"jobs": [asked]}))
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> WrittenStudy:
    return write_study(make_study(tmp_path_factory.mktemp("made") / "study"))


@pytest.fixture(scope="module")
def text(written: WrittenStudy) -> str:
    return visible(written.html.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def twin(written: WrittenStudy) -> str:
    return written.markdown.read_text(encoding="utf-8")


def tables(folder: Path, name: str, *, seeds: range) -> list[Predictions]:
    paths = [folder / name / f"s{seed}" / "predictions" / "val.parquet" for seed in seeds]
    return [load_predictions(path).with_labels() for path in paths]


def test_each_verdict_is_that_of_compare_with_failed_seeds_left_out(written: WrittenStudy, text: str) -> None:
    folder = written.html.parent
    base = tables(folder, "e02_frozen_probe", seeds=SEEDS)
    for name, seeds, verdict in (
        ("e03_focal", SEEDS, "No evidence of a difference between e03_focal and e02_frozen_probe"),
        ("e06_c2_weighted", range(4), "e06_c2_weighted is better than e02_frozen_probe"),
    ):
        found = compare(tables(folder, name, seeds=seeds), base).map
        assert verdict in text
        for value in (found.value, found.low, found.high):
            assert value is not None
            assert f"{100 * value:+.1f}".replace("-", "−") in text
    assert "e06_c2_weighted seed 4 left out: receipt check dose failed" in text
    assert "about these checkpoints, not about the treatment" in text


def test_page_and_markdown_hold_the_same_numbers(text: str, twin: str) -> None:
    numbers = re.compile(r"[+−]?\d+\.\d\d(?!\d)")
    drawn = numbers.findall(text)
    assert len(drawn) > 150
    assert set(drawn) == set(numbers.findall(twin))


def test_what_is_missing_is_said_by_name_with_the_command(written: WrittenStudy, text: str) -> None:
    assert written.missing == ("e13_window_vit s0 (died: out of memory)",)
    assert "e13_window_vit: s0 (died: out of memory)" in text
    assert "Needs e06_cystic_plate:" in text
    assert "--experiments e06_cystic_plate --resume" in text
    assert "Not run: windows within a temporal bin, not global (e15_vjepa_window minus e12_regularized)" in text
    assert "calot attention study/e02_frozen_probe/s0 --split val" in text
    assert "--split val --parts criteria,feature_gap" in text
    assert "No gap is given: these runs are of phantom data" in text


def test_phantom_data_and_the_rules_are_said_first(text: str) -> None:
    assert text.startswith("study: a study by calot") or "Phantom data" in text[:400]
    for fact in ("Selection best epoch by val macro mAP", "Test openings", "Encoder weights", "Frame manifest, sha256"):
        assert fact in text


def test_nothing_is_requested_and_every_figure_has_words(written: WrittenStudy) -> None:
    page = written.html.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", page)
    assert not re.search(r"https?://", page.replace("http-equiv", ""))
    figures = re.findall(r'<svg class="figure"[^>]*>', page)
    assert len(figures) == 6
    assert all(re.search(r'aria-label="[^"]{40,}"', figure) for figure in figures)
    anchors = set(re.findall(r'href="#([^"]+)"', page))
    assert anchors <= set(re.findall(r'id="([^"]+)"', page))


def test_two_protocols_two_scales_and_two_treatments_of_one_name_are_refused(tmp_path: Path) -> None:
    first = make_run(tmp_path / "study" / "e02_frozen_probe" / "s0", pictures=False)
    other = make_run(tmp_path / "study" / "e02_frozen_probe" / "s1", seed=1, manifest="b" * 64, pictures=False)
    with pytest.raises(CalotError, match="2 different sets of frames"):
        write_study(tmp_path / "study")
    record = json.loads((other / "experiment.json").read_text())
    data = json.loads((other / "data.json").read_text())
    (other / "data.json").write_text(
        json.dumps(data | {"manifest_hash": json.loads((first / "data.json").read_text())["manifest_hash"]})
    )
    (other / "experiment.json").write_text(json.dumps(record | {"scale": "full"}))
    (other / "predictions" / "val.parquet").unlink()
    with pytest.raises(CalotError, match="at the scales full and tiny"):
        write_study(tmp_path / "study")
    typed = [{"typed": "train.lr=1e-2", "field": "train.lr", "value": 0.01}]
    (other / "experiment.json").write_text(json.dumps(record | {"overrides": typed}))
    with pytest.raises(CalotError, match="two treatments bear the name e02_frozen_probe"):
        write_study(tmp_path / "study")


def test_an_empty_folder_and_a_study_without_a_finished_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalotError, match="holds no run of a study"):
        write_study(tmp_path)
    make_run(tmp_path / "e02_frozen_probe" / "s0", finished=False, pictures=False)
    with pytest.raises(CalotError, match="no run of this study is finished yet"):
        write_study(tmp_path)
    (tmp_path / "jobs.json").write_text('{"jobs": [3]}')
    with pytest.raises(CalotError, match="not a list of jobs"):
        write_study(tmp_path)


def test_what_was_not_begun_is_told_in_spans_and_the_command_has_every_seed_that_was_asked_for(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", seeds=range(1))
    states = {0: "done", 1: "waiting", 2: "waiting", 3: "died", 4: "waiting", 6: "waiting"}
    jobs = [{"name": f"e03_focal/s{seed}", "state": state} for seed, state in states.items()]
    (folder / "jobs.json").write_text(json.dumps({"jobs": [*jobs, {"name": "e03_focal/mine", "state": "waiting"}]}))
    study = read_study(folder)
    spans = ["s1 to s2 (waiting)", "s3 (died)", "s4 (waiting)", "s6 (waiting)", "mine (waiting)"]
    assert study.experiments["e03_focal"].absent == spans
    assert study.experiments["e02_frozen_probe"].absent == []
    assert "--seeds 0,1,2,3,4,6 " in study_command(study, ["e03_focal"])


def test_the_command_writes_both_and_says_what_is_missing(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path / "e02_frozen_probe" / f"s{seed}", seed=seed, pictures=False)
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--study", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [Path(path).name for path in found["files"]] == ["study.html", "study.md"]
    assert found["missing"] == []


def test_epochs_that_were_not_scored_have_a_training_loss_and_no_point_on_a_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "e02_frozen_probe" / "s0", pictures=False)
    table = pl.read_csv(run / "metrics.csv")
    scored = [name for name in table.columns if name.startswith(("val_", "train_clean"))]
    kept = pl.int_range(table.height) % 3 == 2
    table.with_columns(pl.when(kept).then(pl.col(name)).alias(name) for name in scored).write_csv(run / "metrics.csv")
    study = read_study(tmp_path)
    (one,) = study.experiments.values()
    shown = epoch_table(one)
    assert shown is not None
    at = [column.name for column in shown.columns].index("val mAP")
    assert [row.cells[0] for row in shown.rows if row.cells[at]] == ["3", "6", "9"]
    assert all(str(row.cells[3]) for row in shown.rows)
    assert shown.note == "Val was not scored after the epochs without its figures."
    page = write_study(tmp_path).html.read_text(encoding="utf-8")
    assert "in epoch 6, " in page
    assert "nan" not in visible(page).lower().split()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")
def test_the_document_fits_each_width_and_sorts_without_a_word_on_the_console(
    written: WrittenStudy, tmp_path: Path
) -> None:
    page = written.html.read_text(encoding="utf-8")
    for width in WIDTHS.values():
        assert probed(page, FITS, folder=tmp_path, width=width) == "true "
    assert visit(written.html, dark=True, picture=tmp_path / "dark.png").console == []
    code = 'return document.querySelectorAll("table.sortable thead button").length > 20;'
    assert probed(page, code, folder=tmp_path) == "true"


def test_runs_that_were_scored_once_have_no_curve_and_say_so(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", seeds=range(1))
    for path in folder.glob("*/s0/metrics.csv"):
        table = pl.read_csv(path)
        last = pl.int_range(table.height) == table.height - 1
        scored = [name for name in table.columns if name.startswith("val_") or name == "train_clean_map"]
        table.with_columns(pl.when(last).then(pl.col(name)).alias(name) for name in scored).write_csv(path)
    written = write_study(folder)
    page, text = (written.html.read_text(encoding="utf-8"), visible(written.html.read_text(encoding="utf-8")))
    assert text.count("Val was scored after the last epoch alone: there is no curve to draw.") == len(SKILLS)
    assert '<svg class="figure"' not in page
    assert "Selection last epoch, the only one that was scored: val chose none" in text
    assert "curves" not in {path.stem for path in write_paper(folder, out=tmp_path / "paper").files}
