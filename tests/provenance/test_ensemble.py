"""`calot ensemble`: a run made of other runs' sealed tables, which every command reads, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command_line import Done, calot
from make_run import make_predictions, make_run

from calot.criteria import CRITERIA
from calot.provenance.audit import audit_run
from calot.provenance.custody import seal
from calot.provenance.data_ledger import STATE
from calot.statistics.average import mean_logits
from calot.statistics.calibration import choose_thresholds
from calot.statistics.predictions import Predictions, load_predictions

EXPERIMENTS = ("e02_frozen_probe", "e03_focal")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own ledger that no other test writes to."""
    monkeypatch.setenv(STATE, str(tmp_path / "state"))


def sealed(path: Path, **knobs: Any) -> Path:
    run = make_run(path, pictures=False, **knobs)
    seal(run)
    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two seeds of one experiment, val and test."""
    return [sealed(tmp_path / f"s{seed}", seed=seed, splits=("val", "test")) for seed in (0, 1)]


def ensemble(*words: str | Path, out: Path) -> Done:
    return calot("ensemble", *words, "--out", out, cwd=out.parent)


def table(run: Path, split: str = "val") -> Predictions:
    return load_predictions(run / "predictions" / f"{split}.parquet")


def logits(run: Path) -> bytes:
    return table(run).frame.select(pl.col("^logit_.*$")).to_numpy().tobytes()


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_an_ensemble_of_one_run_is_that_run_exactly(runs: list[Path], tmp_path: Path, mean: str) -> None:
    done = ensemble(runs[0], "--mean", mean, out=tmp_path / "one")
    assert done.returncode == 0, done.stderr
    assert logits(tmp_path / "one") == logits(runs[0])
    assert "1 forward pass per clip" in done.stdout


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_an_ensemble_is_the_mean_of_its_members_whatever_their_order(
    runs: list[Path], tmp_path: Path, mean: Any
) -> None:
    for name, order in (("a", runs), ("b", runs[::-1])):
        assert ensemble(*order, "--mean", mean, out=tmp_path / name).returncode == 0
    expected = mean_logits([table(run).logits for run in runs], mean=mean)
    assert np.array_equal(table(tmp_path / "a").logits, expected)
    assert logits(tmp_path / "a") == logits(tmp_path / "b")
    assert table(tmp_path / "a").fingerprint == table(tmp_path / "b").fingerprint not in ("f" * 64, "unknown")


def test_every_command_reads_it_and_says_what_it_is_and_costs(runs: list[Path], tmp_path: Path) -> None:
    made = tmp_path / "ensemble"
    done = ensemble(*runs, "--json", out=made)
    facts = json.loads(done.stdout)
    assert [(m["name"], m["seed"], m["fingerprint"]) for m in facts["members"]] == [
        ("e02_frozen_probe", seed, "f" * 64) for seed in (0, 1)
    ]
    assert (facts["passes"], facts["fingerprint"], facts["run"]) == (2, table(made).fingerprint, str(made))
    said = "ensemble of 2 runs (e02_frozen_probe seed 0 (ffffffffffff); e02_frozen_probe seed 1 (ffffffffffff)), "
    said += "mean of logits: 2 forward passes per clip"
    for words in (("metrics", made), ("compare", made, runs[0]), ("report", tmp_path), ("report", made)):
        shown = calot(*words, cwd=tmp_path)
        assert (shown.returncode, said in shown.stdout) == (0, True), (words, shown.stdout, shown.stderr)
    assert json.loads(calot("metrics", made, "--json", cwd=tmp_path).stdout)["passes"] == 2
    assert json.loads(calot("metrics", runs[0], "--json", cwd=tmp_path).stdout)["passes"] == 1
    compared = json.loads(calot("compare", made, runs[0], "--json", cwd=tmp_path).stdout)["comparisons"][0]
    assert (compared["a"]["passes"], compared["a"]["combined"], compared["b"]["passes"]) == ([2], [said], [1])
    for page in (made / "report.html", tmp_path / "report.html"):
        assert said in page.read_text(encoding="utf-8"), page
    assert "Learning curves</h2>" not in (made / "report.html").read_text(encoding="utf-8")
    assert (audit_run(made).broken, audit_run(made).sealed, audit_run(made).tables) == ((), True, 1)


def test_it_prints_the_command_that_scores_it(runs: list[Path], tmp_path: Path) -> None:
    done = ensemble(*runs, out=tmp_path / "made")
    assert f"Next: calot metrics {tmp_path / 'made' / 'predictions' / 'val.parquet'}" in done.stdout


def test_it_is_proven_where_every_member_is(tmp_path: Path) -> None:
    proven = [sealed(tmp_path / f"s{seed}", seed=seed) for seed in (0, 1)]
    bare = sealed(tmp_path / "bare", seed=2, receipt=False)
    assert ensemble(*proven, out=tmp_path / "proven").returncode == 0
    assert ensemble(*proven, bare, out=tmp_path / "not").returncode == 0
    told = [json.loads(calot("metrics", tmp_path / n, "--json", cwd=tmp_path).stdout) for n in ("proven", "not")]
    assert [one["treatment"]["status"] for one in told] == ["verified", "unverified"]
    assert told[1]["treatment"]["why"].startswith("no receipt in e02_frozen_probe seed 2")
    assert calot("report", tmp_path / "proven", cwd=tmp_path).returncode == 0
    assert "treatment verified" in (tmp_path / "proven" / "report.html").read_text(encoding="utf-8")


def refused(done: Done, *parts: str) -> None:
    """One line that names what is wrong, exit code 2."""
    assert done.returncode == 2, done.stdout
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(part in done.stderr for part in parts), done.stderr


def test_a_member_of_another_manifest_is_refused_in_one_line(runs: list[Path], tmp_path: Path) -> None:
    other = sealed(tmp_path / "other", seed=2, manifest="0" * 64)
    refused(ensemble(*runs, other, out=tmp_path / "made"), "ensemble refused: manifest_hash is", "other")
    assert not (tmp_path / "made").exists()


def test_a_member_with_other_clips_is_refused_in_one_line(runs: list[Path], tmp_path: Path) -> None:
    other = sealed(tmp_path / "other", seed=2, videos=7)
    refused(ensemble(runs[0], other, out=tmp_path / "made"), "ensemble refused", "rows only in the first")


def test_a_failed_receipt_is_no_member(runs: list[Path], tmp_path: Path) -> None:
    wrong = sealed(tmp_path / "wrong", seed=2, failed="dose")
    refused(ensemble(runs[0], wrong, out=tmp_path / "made"), "wrong: INVALID: receipt check dose failed")


def test_a_tampered_member_is_refused(runs: list[Path], tmp_path: Path) -> None:
    path = runs[1] / "predictions" / "val.parquet"
    frame = table(runs[1]).frame
    labels = {f"logit_{c}": pl.col(f"label_{c}").cast(pl.Float32) for c in CRITERIA}
    replace(table(runs[1]), frame=frame.with_columns(**labels)).write(path)
    refused(ensemble(*runs, out=tmp_path / "made"), "predictions/val.parquet: was changed after the run was complete")


def test_anothers_table_in_an_unsealed_run_is_refused(runs: list[Path], tmp_path: Path) -> None:
    shutil.copy(runs[0] / "predictions" / "val.parquet", runs[1] / "predictions" / "val.parquet")
    (runs[1] / "seal.json").unlink()
    refused(ensemble(*runs, out=tmp_path / "made"), "s1/predictions/val.parquet", "belongs to another run")


def test_one_run_twice_and_equal_predictions_are_not_two_members(runs: list[Path], tmp_path: Path) -> None:
    refused(ensemble(runs[0], runs[0], out=tmp_path / "made"), "are the same run")
    equal = sealed(tmp_path / "equal", seed=5, noise=0)
    assert table(equal).digest == table(runs[0]).digest
    refused(ensemble(runs[0], equal, out=tmp_path / "made"), "hold equal predictions, bit for bit")


def test_what_is_not_a_run_is_named(runs: list[Path], tmp_path: Path) -> None:
    refused(ensemble(tmp_path / "nowhere", out=tmp_path / "made"), "nowhere: not a run's folder")
    waiting = make_run(tmp_path / "waiting", finished=False, pictures=False)
    refused(ensemble(waiting, out=tmp_path / "made"), "no predictions/val.parquet; make it with: calot evaluate")


def test_another_run_in_its_place_is_kept(runs: list[Path], tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in runs[1].rglob("*") if p.is_file()}
    refused(ensemble(runs[0], out=runs[1]), "holds the run e02_frozen_probe", "take another --out")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    refused(ensemble(*runs, out=tmp_path / "notes"), "holds something that is not a run")
    assert {p: p.read_bytes() for p in runs[1].rglob("*") if p.is_file()} == before


def test_made_again_it_is_the_same_bytes(runs: list[Path], tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        assert ensemble(*runs, out=tmp_path / "made").returncode == 0
        seen.append((tmp_path / "made" / "predictions" / "val.parquet").read_bytes())
    assert seen[0] == seen[1]
    assert audit_run(tmp_path / "made").broken == ()


def test_an_ensemble_that_was_changed_is_refused(runs: list[Path], tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert ensemble(*runs, out=made).returncode == 0
    record = json.loads((made / "experiment.json").read_text())
    record["combination"]["members"].pop()
    (made / "experiment.json").write_text(json.dumps(record))
    for words in (("metrics", made), ("report", made), ("compare", made, runs[0])):
        refused(calot(*words, cwd=tmp_path), "experiment.json: was changed")
    assert calot("audit", made, cwd=tmp_path).returncode == 1


def test_test_comes_after_val_is_counted_and_uses_vals_thresholds(runs: list[Path], tmp_path: Path) -> None:
    made = tmp_path / "made"
    refused(ensemble(*runs, "--split", "test", out=made), "has no val predictions, which choose the thresholds")
    assert ensemble(*runs, out=made).returncode == 0
    refused(ensemble(runs[0], "--split", "test", out=made), "take another --out")
    done = ensemble(*runs, "--split", "test", out=made)
    assert (done.returncode, "test opened for this data set: 1 time," in done.stderr) == (0, True), done.stderr
    scored = json.loads(calot("metrics", made, "--split", "test", "--json", cwd=tmp_path).stdout)
    assert scored["test_openings"] == 1
    assert scored["thresholds"]["values"] == choose_thresholds(table(made)).values
    assert scored["thresholds"]["fingerprint"] == table(made).fingerprint
    assert audit_run(made).tables == 2


def test_it_counts_as_a_candidate_and_is_no_twin_of_its_member(runs: list[Path], tmp_path: Path) -> None:
    """An ensemble of one has its member's predictions; the member stays a valid run."""
    assert ensemble(runs[0], out=tmp_path / "one").returncode == 0
    assert ensemble(*runs, out=tmp_path / "two").returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "results" / "ledger.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["combined", "combined"]
    told = json.loads(calot("metrics", tmp_path / "two", "--json", cwd=tmp_path).stdout)
    assert (told["candidates"]["settings"], told["candidates"]["results"]) == (2, 2)


BLOCKED = """
import importlib.machinery, sys
class Refuse:
    def find_spec(self, name, *rest):
        if name.split('.')[0] in ('torch', 'transformers', 'accelerate', 'jaxtyping', 'simplejpeg', 'cv2'):
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        raise ImportError(spec.name + ' is blocked')
    def exec_module(self, module): ...
sys.meta_path.insert(0, Refuse())
from calot.cli.main import main
main()
"""


def test_it_needs_no_torch(runs: list[Path], tmp_path: Path) -> None:
    words = [sys.executable, "-c", BLOCKED, "ensemble", *map(str, runs), "--out", str(tmp_path / "made")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert make_predictions().digest != table(tmp_path / "made").digest
