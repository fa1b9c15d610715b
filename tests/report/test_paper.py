"""`calot report --paper`: LaTeX balanced and escaped, numbers that are the runs', nothing filled that is unknown."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from make_run import make_run
from typer.testing import CliRunner

from calot.cli.main import app
from calot.report.paper.files import WrittenPaper, write_paper
from calot.report.paper.latex import latex_escaped, latex_paragraph
from calot.report.paper.phrases import grouped, setting_in_words, stages_in_words
from calot.statistics.appearance import Appearance
from calot.statistics.compare import compare
from calot.statistics.intervals import video_intervals
from calot.statistics.predictions import Predictions, load_predictions
from calot.statistics.subgroups import subgroups

BASE, OTHER = "e02_frozen_probe", "e03_focal"


def make_runs(folder: Path) -> Path:
    for number, (name, baseline) in enumerate(((BASE, None), (OTHER, BASE))):
        for seed in (0, 1):
            run = folder / name / f"s{seed}"
            make_run(run, name=name, baseline=baseline, seed=seed, noise=10 * number + seed, videos=16, pictures=False)
    return folder


def tables(folder: Path, name: str) -> list[Predictions]:
    return [load_predictions(folder / name / f"s{s}" / "predictions" / "val.parquet").with_labels() for s in (0, 1)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_runs(tmp_path_factory.mktemp("made") / "100%_of_runs")


@pytest.fixture(scope="module")
def paper(runs: Path) -> WrittenPaper:
    return write_paper(runs, out=runs.parent / "paper")


def read(paper: WrittenPaper, name: str) -> str:
    return next(path for path in paper.files if path.name == name).read_text(encoding="utf-8")


def without_commands(text: str) -> str:
    """LaTeX source without what is escaped."""
    return re.sub(r"\\[&%$#_{}\\]", "", text)


def test_all_files_are_there(paper: WrittenPaper) -> None:
    names = {path.name for path in paper.files}
    assert {f"{name}.tex" for name in ("scores", "differences", "training", "methods", "paper")} <= names
    assert {f"{name}{end}" for name in ("scores", "differences", "curves") for end in (".pdf", ".svg")} <= names
    assert {f"{name}.csv" for name in ("scores", "differences", "subgroups", "decisions")} <= names
    assert {f"{name}{end}" for name in ("claim", "tripod_ai") for end in (".md", ".csv")} <= names
    assert {"references.bib", "methods.md", "model_card.md", "data_card.md"} <= names


def test_every_character_that_latex_reads_as_a_command_is_escaped() -> None:
    assert latex_escaped(r"50 % of a_b & {c} #1 $x^2$ ~ \end") == (
        r"50 \% of a\_b \& \{c\} \#1 \$x\textasciicircum{}2\$ \textasciitilde{} \textbackslash{}end"
    )
    assert latex_escaped("−3.1 “x”") == "$-$3.1 ``x''"
    assert latex_paragraph("LoRA_r [@lora, @vjepa2] 5 %") == r"LoRA\_r \cite{lora,vjepa2} 5 \%"


def test_latex_is_balanced_and_no_name_is_left_raw(paper: WrittenPaper) -> None:
    for name in ("scores", "differences", "training", "methods", "paper"):
        text = read(paper, f"{name}.tex")
        bare = without_commands(text)
        assert bare.count("{") == bare.count("}"), name
        assert bare.count("$") % 2 == 0, name
        assert "%" not in bare, name
        assert "#" not in bare, name
        assert "_" not in re.sub(r"\\(?:label|cite|input|includegraphics)(?:\[[^]]*\])?\{[^}]*\}", "", bare), name
        opened, closed = (re.findall(rf"\\{word}\{{(\w+)\}}", text) for word in ("begin", "end"))
        assert sorted(opened) == sorted(closed), name
        assert text.isascii(), name
    rows = [line for line in read(paper, "scores.tex").splitlines() if line.endswith(r"\\")]
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    assert r"e02\_frozen\_probe" in read(paper, "scores.tex")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs a TeX")
def test_it_compiles(paper: WrittenPaper) -> None:
    folder = paper.files[0].parent
    line = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", done.stdout)]
    assert max(wide, default=0.0) < 20, "a table is wider than the page"


def test_csv_holds_the_numbers_of_the_statistics_in_full(runs: Path, paper: WrittenPaper) -> None:
    scores = {row["experiment"]: row for row in csv.DictReader(io.StringIO(read(paper, "scores.csv")))}
    held = video_intervals(tables(runs, OTHER))
    assert [float(scores[OTHER][name]) for name in ("map", "map_low", "map_high")] == [
        held.map.value,
        held.map.low,
        held.map.high,
    ]
    (row,) = csv.DictReader(io.StringIO(read(paper, "differences.csv")))
    found = compare(tables(runs, OTHER), tables(runs, BASE)).map
    assert [float(row[name]) for name in ("difference", "low", "high")] == [found.value, found.low, found.high]
    assert row["about"] == "these checkpoints"


def test_only_what_the_runs_use_is_cited(paper: WrittenPaper, tmp_path: Path) -> None:
    keys = set(re.findall(r"@\w+\{(\w+),", read(paper, "references.bib")))
    assert {"assran2025", "pytorch", "claim2024", "tripodai", "holm"} <= keys
    assert not {"endoscapes", "lora", "mixup", "dinov3", "cameron"} & keys
    cited = {key for part in re.findall(r"\\cite\{([^}]*)\}", read(paper, "methods.tex")) for key in part.split(",")}
    assert cited <= keys
    real = make_run(tmp_path / "runs" / BASE / "s0", synthetic=False, pictures=False)
    record = json.loads((real / "experiment.json").read_text())
    record["experiment"]["train"] = {"_type": "calot.train.stage.Stage", "adaptation": {"_type": "calot.models.x.LoRA"}}
    record["experiment"]["mixing"] = {"_type": "calot.data.mixing.Mixing", "mixup_alpha": 0.8, "cutmix_alpha": 0.0}
    (real / "experiment.json").write_text(json.dumps(record))
    other = write_paper(tmp_path / "runs", out=tmp_path / "paper")
    keys = set(re.findall(r"@\w+\{(\w+),", read(other, "references.bib")))
    assert {"endoscapes", "lora", "mixup"} <= keys
    assert "cutmix" not in keys
    assert "Phantom" not in read(other, "scores.tex")


def test_checklists_name_what_is_unknown_and_fill_nothing_else(runs: Path, paper: WrittenPaper, tmp_path: Path) -> None:
    for name, count in (("claim", 44), ("tripod_ai", 52)):
        rows = list(csv.DictReader(io.StringIO(read(paper, f"{name}.csv"))))
        assert len(rows) == count
        assert all(bool(row["from the runs"]) == (row["status"] == "from the runs") for row in rows)
        left = [row["item"] for row in rows if not row["from the runs"]]
        assert left == [item.split()[1] for item in paper.unfilled if item.split()[0] == name]
    for authors in ("claim 44", "claim 16", "claim 34", "claim 36", "tripod_ai 17", "tripod_ai 5b", "tripod_ai 14"):
        assert authors in paper.unfilled
    assert "claim 24" not in paper.unfilled
    assert "claim 18" not in paper.unfilled
    poor = shutil.copytree(runs, tmp_path / "poor")
    for path in poor.glob("*/s*/model.json"):
        path.write_text(json.dumps({}))
    for path in poor.glob("*/s*/data.json"):
        data = json.loads(path.read_text())
        for part in data["splits"].values():
            part.pop("rater_agreement")
        path.write_text(json.dumps(data))
    unknown = write_paper(poor, out=tmp_path / "out").unfilled
    assert {"claim 1", "claim 24", "claim 18"} <= set(unknown)


def test_evidence_stands_where_it_is_said_to(runs: Path, paper: WrittenPaper) -> None:
    rows = list(csv.DictReader(io.StringIO(read(paper, "claim.csv"))))
    files = {path.name for path in paper.files} | {path.name for path in (runs / BASE / "s0").rglob("*")}
    for row in rows:
        for place in re.findall(r"[\w/]+\.(?:json|csv|parquet|jsonl)", row["where"]):
            if place != "ledger.jsonl":
                assert Path(place).name in files, row


def test_phantom_data_are_said_to_be(paper: WrittenPaper) -> None:
    for name in ("scores.tex", "differences.tex", "methods.md", "model_card.md", "data_card.md"):
        assert "hantom data: these scores mean nothing clinically" in read(paper, name)
    assert "To be written by the authors" in read(paper, "model_card.md")


def test_the_same_runs_give_the_same_bytes(runs: Path, paper: WrittenPaper, tmp_path: Path) -> None:
    again = write_paper(runs, out=tmp_path / "again")
    assert {p.name: p.read_bytes() for p in again.files} == {p.name: p.read_bytes() for p in paper.files}


def test_the_command_needs_a_folder_for_its_files(runs: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(runs), "--paper"])
    assert done.exit_code != 0
    assert "--out" in str(done.exception)
    made = CliRunner().invoke(app, ["report", "--paper", str(runs), "--out", str(tmp_path / "p"), "--json"])
    assert made.exit_code == 0, made.output
    assert "claim 44" in json.loads(made.stdout)["unfilled"]


def test_the_supplement_holds_the_statistics_of_every_run_in_full(runs: Path, paper: WrittenPaper) -> None:
    parts = list(csv.DictReader(io.StringIO(read(paper, "subgroups.csv"))))
    decided = list(csv.DictReader(io.StringIO(read(paper, "decisions.csv"))))
    assert {(row["experiment"], row["seed"]) for row in parts} == {(n, s) for n in (BASE, OTHER) for s in "01"}
    table = tables(runs, OTHER)[1]
    found = {
        (part.name, name): item
        for part in subgroups(table, appearance=Appearance(reason="")).found
        for name, item in part.criteria.items()
    }
    mine = [row for row in parts if (row["experiment"], row["seed"]) == (OTHER, "1")]
    assert len(mine) == len(found)
    for row in mine:
        item = found[row["subgroup"], row["criterion"]]
        assert row["ap"] == ("" if item.ap.value is None else str(item.ap.value))
        assert int(row["positive_videos"]) == item.positive_videos
    (c1,) = (r for r in decided if (r["experiment"], r["seed"], r["criterion"]) == (OTHER, "1", "two_structures"))
    limit = float(c1["threshold_probability"])
    called = 1 / (1 + np.exp(-table.logits[:, 0].astype(np.float64))) >= limit * (1 - 1e-9)
    positive = table.labels[:, 0] == 1
    assert float(c1["sensitivity"]) == pytest.approx((called & positive).sum() / positive.sum())
    assert float(c1["specificity"]) == pytest.approx((~called & ~positive).sum() / (~positive).sum())
    assert c1["threshold_chosen_on"] == "this same split: optimistic"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"_type": "calot.models.adaptation.Frozen"}, "frozen"),
        ({"_type": "calot.data.geometry.Squash"}, "squash"),
        (
            {"_type": "calot.models.adaptation.LoRA", "rank": 16, "targets": ["q", "v"], "layers": None, "dora": False},
            "LoRA (rank 16, targets q, v)",
        ),
        (
            {"_type": "x.AttentionSupervision", "weight": 0.1, "loss": {"_type": "x.FocalLoss", "gamma": 2.0}},
            "attention supervision (weight 0.1, loss focal loss (gamma 2))",
        ),
        ({"_type": "x.CenterCrop", "exact": True}, "center crop (exact)"),
    ],
)
def test_settings_are_written_in_words(value: dict[str, object], said: str) -> None:
    assert setting_in_words(value) == said


def test_every_stage_is_told_and_equal_recipes_are_told_once() -> None:
    train = {"adaptation": {"_type": "a.Frozen"}, "epochs": 4, "lr": 5e-4}
    then = {"adaptation": {"_type": "a.Unfreeze", "layers": 1}, "epochs": 2, "lr": 1e-5}
    staged = stages_in_words({"train": train, "then": [then]})
    assert staged == "frozen, epochs 4, lr 0.0005; then unfreeze (layers 1), epochs 2, lr 1e-05"
    assert grouped({"a": staged, "b": "x", "c": staged}) == f"a, c: {staged}; b: x"


def test_what_is_not_in_the_files_is_said(runs: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(runs / BASE, alone / BASE)
    (alone / "tuned").mkdir()
    said = write_paper(alone, out=tmp_path / "paper").said
    assert "No figure differences: no run here has anything for it." in said
    assert f"{alone / 'tuned'} stays out of every file" in said
    assert "No figure" not in write_paper(runs, out=tmp_path / "whole").said
