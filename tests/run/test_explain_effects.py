"""`calot explain`: occlusion, a suspected cue, pooled vectors and the feature gap, on runs as a user has them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import polars as pl
import pytest
from command_line import calot
from run_requests import requested, trained

from calot.report.explaining.page import write_explain_page
from calot.statistics.findings import Findings

pytestmark = pytest.mark.slow
PARTS = "occlusion,cue,embeddings,feature_gap"


@pytest.fixture(scope="module")
def run(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-task run, whose decoder draws masks."""
    changes = ("train.epochs=1", "compute.train_subset=8")
    return trained(requested(phantom, tmp_path_factory.mktemp("effects") / "run", "e08_multitask", changes=changes))


@pytest.fixture(scope="module")
def folder(run: Path) -> Path:
    """All four parts, asked for once."""
    pytest.importorskip("captum")
    done = calot("explain", run, "--parts", PARTS, "--clips", "2", "--json", cwd=run.parent)
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["folder"])


def test_occlusion_and_gradients_have_rows_curves_maps_and_a_sanity_check(folder: Path) -> None:
    found = Findings.read(folder, name="occlusion")
    clips = found.tables["clips"]
    assert clips.height == 2 * 2 * 3
    assert clips["correlation"].is_not_null().any()
    assert {"share_anatomy", "area_cystic_duct", "share_border"} <= set(clips.columns)
    assert found.arrays["occlusion"].shape == found.arrays["integrated_gradients"].shape == (2, 3, 2, 8, 8)
    assert found.arrays["frames"].shape == (2, 2, 64, 64, 3)
    curves = found.tables["curves"]
    assert set(curves["order"]) == {"occlusion", "integrated gradients", "random"}
    whole = curves.filter((pl.col("curve") == "deletion") & (pl.col("share") == 0))
    assert whole["value"].abs().max() < 1e-4, "nothing covered is the whole clip"
    ends = (("deletion", 1.0), ("insertion", 0.0))
    covered = [curves.filter((pl.col("curve") == k) & (pl.col("share") == s))["value"].to_numpy() for k, s in ends]
    assert abs(covered[0] - covered[1]).max() < 1e-4, "everything covered is the same clip in both"


def test_the_gap_and_the_vectors_are_of_the_same_split(folder: Path, run: Path) -> None:
    gap, vectors = (Findings.read(folder, name=name) for name in ("feature_gap", "embeddings"))
    scores = gap.tables["scores"]
    kinds = [
        "true masks",
        "predicted masks",
        "tokens inside the true mask",
        "all tokens averaged",
        "the run’s own head",
    ]
    assert scores["features"].unique(maintain_order=True).to_list() == kinds
    assert gap.facts["clips"] <= vectors.facts["clips"]
    assert vectors.tables["clips"].height == pl.read_parquet(run / "predictions" / "val.parquet").height
    assert vectors.facts["width"] == 128
    assert gap.facts["sentences"]


def test_the_page_says_what_cannot_be_asked_and_every_picture_has_words(folder: Path) -> None:
    text = write_explain_page(folder).read_text(encoding="utf-8")
    assert "The data has no folder cue/" in text
    for heading in ("Occlusion and integrated gradients", "Pooled vectors", "The feature-classification gap"):
        assert heading in text
    pictures = re.findall(r"<(?:img src|svg class=.figure)[^>]*>", text)
    assert len(pictures) > 15
    assert [one[:80] for one in pictures if not re.search(r'(?:alt|aria-label)="[^"]{20,}"', one)] == []
    assert not [w for w in ("nan", "None") if f">{w}<" in text]


def test_without_captum_the_other_parts_work_and_one_line_says_what_to_install(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    words = ("--parts", "occlusion,embeddings", "--clips", "2", "--out", tmp_path / "out")
    done = calot("explain", run, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pip install 'calot[explain]'" in done.stdout
    assert "Video identity:" in done.stdout
    assert "absent" in Findings.read(tmp_path / "out", name="occlusion").facts
