"""`calot study` as a user runs it: planned, trained, killed, continued, and honest about what failed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from command_line import calot
from run_requests import digests
from swept import ended, jobs, until

QUICK = ("train.epochs=2", "train.batch=8", "train.warmup=0", "compute.train_subset=8")
QUICK = (*QUICK, "compute.checkpoint_every_s=0.05")
TWO = ("--experiments", "e02_frozen_probe,e03_focal", "--seeds", "2")
RUNS = [Path(name, f"s{seed}") for seed in (0, 1) for name in ("e02_frozen_probe", "e03_focal")]

long = pytest.mark.long


def words(phantom: Path, out: Path, *own: str) -> list[str]:
    return ["study", *QUICK, "--data", str(phantom), "--out", str(out), "--workers", "2", *own]


def started(phantom: Path, out: Path, *own: str) -> subprocess.Popen[str]:
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
    line = [sys.executable, "-m", "calot", *words(phantom, out, *own)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


@pytest.fixture(scope="module")
def whole(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments with two seeds, that nobody disturbs."""
    out = tmp_path_factory.mktemp("whole") / "study"
    code, said, noted = ended(started(phantom, out, *TWO, "--no-receipt"))
    assert code == 0, noted
    (out / "said.txt").write_text(said)
    (out / "noted.txt").write_text(noted)
    return out


@long
def test_every_run_is_there_with_a_table_a_comparison_and_where_the_time_went(whole: Path) -> None:
    found = json.loads((whole / "study.json").read_text())
    assert [(row["experiment"], row["seeds"]) for row in found["experiments"]] == [
        ("e02_frozen_probe", [0, 1]),
        ("e03_focal", [0, 1]),
    ]
    assert all((whole / run / "predictions" / "val.parquet").is_file() for run in RUNS)
    probe, focal = found["experiments"]
    assert (probe["against"], focal["against"]["b"]["name"]) == (None, "e02_frozen_probe")
    assert probe["map"]["value"] == pytest.approx(sum(probe["per_seed"]) / 2)
    assert sum(found["costs"]["shares"].values()) == pytest.approx(1)
    assert found["costs"]["total_s"] == pytest.approx(sum(row["seconds"] for row in found["experiments"]), rel=0.01)
    said = (whole / "said.txt").read_text()
    assert "e03_focal: " in said
    assert f"calot report {whole}" in said
    assert " left: " in (whole / "noted.txt").read_text()


@long
def test_a_run_of_a_study_is_that_of_train(
    phantom: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    where = ("--data", phantom, "--scale", "tiny", "--seeds", "1", "--no-receipt", "--results", tmp_path)
    done = calot("train", "e03_focal", *QUICK, *where, "--out", tmp_path / "alone", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "alone") == digests(whole / "e03_focal" / "s1")


@long
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("moment", ["before the first epoch ends", "between two runs", "in the last run"])
def test_killed_with_all_its_workers_it_continues_to_the_same_bytes(
    phantom: Path, whole: Path, tmp_path: Path, moment: str
) -> None:
    out = tmp_path / "study"
    process = started(phantom, out, *TWO, "--no-receipt")
    until(
        {
            "before the first epoch ends": lambda: (out / RUNS[0] / "data.json").exists(),
            "between two runs": lambda: (out / RUNS[0] / "seal.json").exists(),
            "in the last run": lambda: (out / RUNS[-1] / "checkpoints" / "last").exists(),
        }[moment]
    )
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        one.send_signal(signal.SIGKILL)
    ended(process)
    kept = {run: (out / run / "seal.json").stat().st_mtime_ns for run in RUNS if (out / run / "seal.json").exists()}
    refused = calot(*words(phantom, out, *TWO, "--no-receipt"), cwd=tmp_path)
    assert (refused.returncode, "--resume continues it" in refused.stderr) == (2, True)
    code, _, noted = ended(started(phantom, out, *TWO, "--no-receipt", "--resume"))
    assert code == 0, noted
    for run in RUNS:
        assert digests(out / run) == digests(whole / run)
    assert {run: (out / run / "seal.json").stat().st_mtime_ns for run in kept} == kept


BROKEN = """
from dataclasses import dataclass, replace
from calot.experiments import e02_frozen_probe
from calot.train.losses import BCE

@dataclass(frozen=True, kw_only=True)
class Broken(BCE):
    def __call__(self, outputs, batch):
        raise RuntimeError("planted")

experiment = replace(e02_frozen_probe.experiment, name="broken", baseline="e02_frozen_probe", loss=Broken())
"""
INERT = """
from dataclasses import replace
from calot.experiments import e02_frozen_probe
from calot.train.losses import FocalLoss

nothing = FocalLoss(alpha=None, gamma=0.0)
experiment = replace(e02_frozen_probe.experiment, name="inert", baseline="e02_frozen_probe", loss=nothing)
"""


@long
def test_what_fails_is_named_at_the_end_and_stops_no_other(phantom: Path, tmp_path: Path) -> None:
    for name, text in {"broken": BROKEN, "inert": INERT}.items():
        (tmp_path / f"{name}.py").write_text(text)
    names = f"{tmp_path / 'broken.py'},{tmp_path / 'inert.py'},e02_frozen_probe"
    out = tmp_path / "study"
    code, said, noted = ended(started(phantom, out, "--experiments", names, "--seeds", "1", "--retries", "0"))
    assert code == 1, noted
    states = {name: job["state"] for name, job in jobs(out).items()}
    assert states == {"e02_frozen_probe/s0": "done", "broken/s0": "refused", "inert/s0": "refused"}
    assert "Not done: broken/s0 (refused" in said
    assert "planted" in (out / "jobs" / "broken" / "s0.log").read_text()
    assert "INVALID" in (out / "jobs" / "inert" / "s0.log").read_text()
    rows = {row["experiment"]: row for row in json.loads((out / "study.json").read_text())["experiments"]}
    assert rows["inert"]["unfinished"] == {"inert/s0": "refused"}
    assert rows["e02_frozen_probe"]["treatment"]["status"] == "verified"


def test_a_dry_run_says_what_each_experiment_and_the_lot_would_take(phantom: Path, tmp_path: Path) -> None:
    own = ("--experiments", "e02_frozen_probe,e03_focal,e10a_lora_r16", "--seeds", "3", "--dry-run", "--json")
    done = calot(*words(phantom, tmp_path / "study", *own), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    rows = {row["experiment"]: row for row in plan["experiments"]}
    assert {name: row["runs"] for name, row in rows.items()} == dict.fromkeys(rows, 3)
    for row in rows.values():
        assert row["run_s"] == pytest.approx(row["training_s"] + row["evaluation_s"] + row["opening_s"])
        assert row["seconds"] == pytest.approx(3 * row["run_s"] + row["features_s"] + row["receipt_s"])
    total = sum(row["seconds"] for row in rows.values()) + plan["frame_store_s"] + plan["imports_s"]
    assert plan["seconds"] == pytest.approx(total)
    assert plan["wall_s"] == pytest.approx(max(total / 2, max(row["run_s"] for row in rows.values())))
    assert [p.name for p in (tmp_path / "study").iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (("--experiments", "e02_frozen"), "no experiment 'e02_frozen'"),
        (("--seeds", "0"), "--seeds"),
        (("--experiments", "e02_frozen_probe", "train.nothing=1"), "train.nothing"),
        (("e02_frozen_probe",), "experiments are named by --experiments"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    phantom: Path, tmp_path: Path, own: tuple[str, ...], said: str
) -> None:
    done = calot("study", *own, "--data", phantom, "--out", tmp_path / "study", cwd=tmp_path)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "study").exists()
