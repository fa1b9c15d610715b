"""`--dry-run`: real steps, real numbers, and nothing left behind."""

import json
import math
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from run_requests import beside

from calot.cli.main import main
from calot.config.overrides import apply_overrides
from calot.experiment import scaled
from calot.experiments import find
from calot.progress import Ui
from calot.run.data import OpenData
from calot.run.estimate import RunCost, dry_run
from calot.run.request import Request
from calot.run.sample import SampledData, SampledStore, sampled_data

#: 48 pixels, so that no other test has built the frame store.
QUICK = ("train.epochs=3", "train.batch=8", "compute.train_subset=8", "backbone.size=48")


def _request(phantom: Path, folder: Path, *changes: str, name: str = "e02_frozen_probe") -> Request:
    found = find(name)
    experiment = apply_overrides(scaled(found.experiment, "tiny"), beside(QUICK, changes))
    return Request(found=found, experiment=experiment, scale="tiny", data=phantom, folder=folder, seed=0)


def _files(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def cost(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> RunCost:
    home = tmp_path_factory.mktemp("dry")
    scratch = tmp_path_factory.mktemp("scratch")
    before = _files(phantom, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(scratch))
        found = dry_run(_request(phantom, home / "run"), ui=Ui())
    assert _files(phantom, home) == before, "a dry run left something behind"
    assert not list(scratch.glob("calot-*"))
    return found


def test_hours_are_epochs_times_steps_and_evaluation(cost: RunCost) -> None:
    (stage,) = cost.stages
    assert stage.steps_per_epoch == math.ceil(cost.clips["train"] / 8)
    assert stage.evaluation_clips == cost.clips["val"] + 8
    assert stage.hours == pytest.approx(3 * (stage.steps_per_epoch * stage.step_s + stage.evaluation_s) / 3600)
    last = cost.clips["val"] * stage.evaluation_s / stage.evaluation_clips / 3600
    assert cost.hours == pytest.approx(stage.hours + last)
    two = cost.to_dict(runs=2, price_per_hour=2.5)
    assert two["hours"] == pytest.approx(2 * cost.hours + cost.store_hours)
    assert two["cost"] == pytest.approx(2.5 * two["hours"])


def test_every_number_is_finite_and_positive_and_the_counts_are_the_runs_own(cost: RunCost, phantom: Path) -> None:
    request = _request(phantom, Path("unused"))
    data = OpenData.of(phantom, experiment=request.experiment, ui=Ui())
    assert cost.clips == {s: len(data.clips(s, training=False)) for s in ("train", "val")}
    frames = sum(len(data.manifest.split(s)) for s in ("train", "val"))
    assert cost.disk.frame_store == frames * 3 * 48 * 48
    numbers = [v for s in cost.stages for v in asdict(s).values()] + list(asdict(cost.disk).values())
    assert all(math.isfinite(v) and v > 0 for v in [*numbers, cost.hours, cost.memory_bytes, cost.store_hours])
    assert 100e6 < cost.memory_bytes < 50e9
    from calot.run.build import parameter_counts

    counts = parameter_counts(request.experiment)
    assert (cost.parameters, cost.stages[0].trainable) == (counts["total"], counts["trainable"])


def test_a_micro_batch_is_measured_and_scaled_and_a_second_stage_counted(phantom: Path, tmp_path: Path) -> None:
    request = _request(phantom, tmp_path, "compute.micro_batch=2", "train.epochs=1")
    stages = (request.experiment.train,)
    found = dry_run(replace(request, experiment=replace(request.experiment, then=stages)), ui=Ui())
    assert [(s.clips_measured, s.batch) for s in found.stages] == [(2, 8), (2, 8)]
    assert found.hours > sum(s.hours for s in found.stages)


def test_a_samples_frames_are_the_stores_own(bare_phantom: Path, tmp_path: Path) -> None:
    phantom = bare_phantom
    experiment = _request(phantom, tmp_path, "backbone.size=32").experiment
    whole = OpenData.of(phantom, experiment=experiment, ui=Ui())
    with sampled_data(phantom, experiment=experiment, ui=Ui(), kind=SampledData) as data:
        table = data.clips("val", training=False)
        pixels = data.store("val").read(table.frames)
        assert len(data.store("val")) == len(whole.manifest.split("val"))
        assert isinstance(data.store("val"), SampledStore)
    assert np.array_equal(pixels, whole.store("val").read(table.frames))


def test_weights_that_are_not_here_are_not_fetched_and_said(phantom: Path, tmp_path: Path) -> None:
    found = dry_run(_request(phantom, tmp_path, "backbone.weights=nobody/nothing-here"), ui=Ui())
    assert found.weights == "nobody/nothing-here: not here, measured with random ones"
    frozen = sum(s.trainable for s in found.stages)
    assert found.disk.checkpoints < 4 * 4 * 3.5 * frozen, "frozen published weights are in no checkpoint"


def test_the_command_prints_json_and_makes_no_folder(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["calot", "train", "e02_frozen_probe", *QUICK, "--data", str(phantom), "--scale", "tiny"]
    monkeypatch.setattr("sys.argv", [*words, "--seeds", "1,2", "--dry-run", "--price-per-hour", "2.5", "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["runs"], row["experiment"]) == (2, "e02_frozen_probe")
    assert row["cost"] == pytest.approx(2.5 * row["hours"])
    assert list(tmp_path.iterdir()) == []
