"""Commands that write: a user's file, an input and a complete run are never replaced, and what counts counts once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import calot, complete

from calot.provenance.custody import require_sealed


@pytest.fixture(scope="module")
def run(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return complete(phantom, tmp_path_factory.mktemp("outputs") / "run")


def refused(*words: str | Path, cwd: Path, saying: str) -> None:
    done = calot(*words, cwd=cwd)
    assert done.returncode == 2, done.stdout
    assert saying in done.stderr, done.stderr
    assert "bug in calot" not in done.stderr


def test_an_export_replaces_an_export_and_nothing_else(run: Path, tmp_path: Path) -> None:
    export = ("export", run, "--format", "hf", "--clips", "1", "--overwrite", "--out")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    refused(*export, mine, cwd=tmp_path, saying="holds something else (thesis.txt)")
    refused(*export, run, cwd=tmp_path, saying="holds something else")
    require_sealed(run)
    (tmp_path / "F").write_text("hi")
    refused(*export, tmp_path / "F", cwd=tmp_path, saying="F is a file; give a folder")
    out = tmp_path / "exported"
    for _ in range(2):
        done = calot(*export, out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    (out / "notes.md").write_text("mine")
    refused(*export, out, cwd=tmp_path, saying="holds notes.md, which is not a file of an export")
    assert (mine / "thesis.txt").read_text() == "precious"
    assert (out / "notes.md").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["F", "exported", "mine"], "nothing half-written"


def test_explain_takes_nobodys_file_away(run: Path, tmp_path: Path) -> None:
    explain = ("explain", run, "--parts", "samples", "--clips", "1", "--out")
    mine = tmp_path / "mine"
    mine.mkdir()
    for name, text in (("cue.json", '{"my": 1}'), ("cue_survey.csv", "a"), ("samples_patients.csv", "x")):
        (mine / name).write_text(text)
    refused(*explain, mine, cwd=tmp_path, saying="holds something else (cue.json)")
    out = tmp_path / "explained"
    done = calot(*explain, out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (out / "samples_patients.csv").write_text("x")
    assert calot(*explain, out, cwd=tmp_path).returncode == 0
    assert (out / "samples_patients.csv").read_text() == "x"
    (out / "cue.json").write_text('{"my": 1}')
    refused(*explain, out, cwd=tmp_path, saying="cue.json: calot did not write it")
    assert {path.name for path in mine.iterdir()} == {"cue.json", "cue_survey.csv", "samples_patients.csv"}
    refused(*explain, run, cwd=tmp_path, saying="holds something else")


def test_another_runs_findings_stay(run: Path, phantom: Path, tmp_path: Path) -> None:
    other = complete(phantom, tmp_path / "other", seed=7)
    out = tmp_path / "explained"
    words = ("--parts", "samples", "--clips", "1", "--out", out)
    assert calot("explain", run, *words, cwd=tmp_path).returncode == 0
    before = (out / "samples.json").read_bytes()
    refused("explain", other, *words, cwd=tmp_path, saying="holds samples of another run, e02_frozen_probe seed 0")
    assert (out / "samples.json").read_bytes() == before


def test_frozen_values_and_tables_go_over_no_input_and_no_run(run: Path, phantom: Path, tmp_path: Path) -> None:
    table = shutil.copy(run / "predictions" / "val.parquet", tmp_path / "v.parquet")
    (tmp_path / "notes.txt").write_text("mine")
    freeze = ("metrics", table, "--freeze")
    refused(*freeze, table, cwd=tmp_path, saying="is what is read")
    refused(*freeze, tmp_path / "notes.txt", cwd=tmp_path, saying="exists, and calot did not write it")
    refused(*freeze, run / "seal.json", cwd=tmp_path, saying="a file of the run run, which is complete")
    for _ in range(2):
        done = calot(*freeze, tmp_path / "frozen.json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    refused(
        *("predict", run, "--data", phantom, "--out", run / "predictions" / "val.parquet"),
        cwd=tmp_path,
        saying="which is complete",
    )
    imported = ("import", "predictions", table, "--data", phantom, "--split", "val", "--layout", "plain")
    refused(*imported, "--out", table, cwd=tmp_path, saying="is what is read")
    refused(*imported, "--entry", "nosuch", cwd=tmp_path, saying="plain's files have no entries")
    require_sealed(run)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_attention_writes_into_its_own_folder_and_against_another_run(run: Path, phantom: Path, tmp_path: Path) -> None:
    at = tmp_path / "at"
    at.mkdir()
    (at / "heads.csv").write_text("mine")
    refused("attention", run, "--clips", "1", "--out", at, cwd=tmp_path, saying="holds something else (heads.csv)")
    refused("attention", run, "--clips", "1", "--out", phantom, cwd=tmp_path, saying="holds something else")
    refused("attention", run, "--against", run, "--clips", "1", cwd=tmp_path, saying="is the run itself")
    assert (at / "heads.csv").read_text() == "mine"


def test_transfer_counts_each_run_and_data_set_once(run: Path, several_val: Path, tmp_path: Path) -> None:
    where = ("--data", several_val, "--out", tmp_path / "tx")
    refused("transfer", run, run, *where, cwd=tmp_path, saying=f"RUN {run}: given twice")
    refused("transfer", run, *where, "--data", several_val, cwd=tmp_path, saying="given twice; give it once")
    (tmp_path / "tx").mkdir()
    (tmp_path / "tx" / "transfer.json").write_text('{"mine": 1}')
    refused("transfer", run, *where, cwd=tmp_path, saying="holds something else (transfer.json)")


def test_seeds_of_one_experiment_alone_are_averaged_over_sites(
    run: Path, phantom: Path, several_val: Path, tmp_path: Path
) -> None:
    other = complete(phantom, tmp_path / "other", "e03_focal", seed=1)
    words = ("--data", several_val, "--out", tmp_path / "tx")
    refused("transfer", run, other, *words, cwd=tmp_path, saying=f"{other}: is not the experiment of {run}")


def test_a_student_does_not_take_its_teachers_place(run: Path, phantom: Path, tmp_path: Path) -> None:
    distill = ("distill", run, "--student", "tiny", "--data", phantom, "--out")
    refused(*distill, run, "--overwrite", cwd=tmp_path, saying="which teaches")
    targets = tmp_path / "student_targets"
    targets.mkdir()
    (targets / "targets.parquet").write_text("mine")
    refused(*distill, tmp_path / "student", cwd=tmp_path, saying="holds something else (targets.parquet)")
    assert (targets / "targets.parquet").read_text() == "mine"
    require_sealed(run)


def test_documents_and_papers_replace_only_their_own(run: Path, tmp_path: Path) -> None:
    home = tmp_path / "study"
    shutil.copytree(run, home / "e02_frozen_probe" / "s0")
    (home / "study.html").write_text("mine")
    refused("report", home, "--study", cwd=tmp_path, saying="study.html: exists, and calot did not write it")
    (home / "study.html").unlink()
    paper = tmp_path / "paper"
    paper.mkdir()
    (paper / "references.bib").write_text("mine")
    refused("report", home, "--paper", "--out", paper, cwd=tmp_path, saying="holds something else (references.bib)")
    for _ in range(2):
        for words in (("--study",), ("--paper", "--out", tmp_path / "new")):
            done = calot("report", home, *words, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
    limits = [line for line in (tmp_path / "new" / "claim.csv").read_text().splitlines() if "study.md" in line]
    assert limits, "the document is there by now"
    assert (paper / "references.bib").read_text() == "mine"


@pytest.mark.parametrize("value", ["nan", "-5", "inf", "3"])
def test_the_smallest_effect_is_a_share(run: Path, tmp_path: Path, value: str) -> None:
    words = ("compare", run, run, f"--smallest-effect={value}")
    refused(*words, cwd=tmp_path, saying="need a share from 0 to 1")


@pytest.mark.parametrize("stated", [float("nan"), "0.6055", [0.6], True, 1.5])
def test_a_stated_map_is_a_share_or_refused(tmp_path: Path, phantom: Path, stated: object) -> None:
    file = tmp_path / "x_results.json"
    file.write_text(json.dumps({"1": {"preds_prob": [[0.1, 0.2, 0.3]], "true": [[0, 0, 1]], "avg_map": stated}}))
    words = ("import", "predictions", file, "--data", phantom, "--split", "val")
    refused(*words, cwd=tmp_path, saying=f"{file}, 1: avg_map")


@pytest.mark.parametrize(("true", "saying"), [(None, "1 rows of scores and 0 of labels"), (7, "need a list of rows")])
def test_labels_that_are_missing_or_no_list_are_refused(
    tmp_path: Path, phantom: Path, true: object, saying: str
) -> None:
    file = tmp_path / "x_results.json"
    entry = {"preds_prob": [[0.1, 0.2, 0.3]]} | ({} if true is None else {"true": true})
    file.write_text(json.dumps({"1": entry}))
    refused("import", "predictions", file, "--data", phantom, "--split", "val", cwd=tmp_path, saying=saying)
