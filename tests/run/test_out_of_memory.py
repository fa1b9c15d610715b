"""Where memory runs out a step is done again with fewer clips at a time: the same result, said, and no further."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from run_requests import digests, requested, trained

from calot.models.backbones.protocol import Backbone
from calot.models.classifier import Classifier
from calot.types import Batch, Outputs, Tokens

TOO_MANY = "CUDA out of memory. Tried to allocate 20.00 GiB"


class Device:
    """Holds so many clips in training, from some forward pass on; the failure comes late, as a real one does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, clips: int, error: BaseException, after: int = 0) -> None:
        self.sizes: list[int] = []
        whole = Classifier.forward

        def forward(model: Classifier, batch: Batch) -> Outputs:
            found = whole(model, batch)
            if model.training:
                self.sizes.append(len(batch))
                if len(batch) > clips and len(self.sizes) > after:
                    raise error
            return found

        monkeypatch.setattr(Classifier, "forward", forward)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(TOO_MANY),
        pytest.param(
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
            marks=(pytest.mark.slow, pytest.mark.long),
        ),
        pytest.param(MemoryError(), marks=(pytest.mark.slow, pytest.mark.long)),
    ],
    ids=["gpu", "cpu", "python"],
)
def test_a_step_that_does_not_fit_is_the_step_of_a_smaller_micro_batch(
    phantom: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
) -> None:
    name = "e10a_lora_r16"
    wanted = trained(requested(phantom, tmp_path / "four", name, changes=("compute.micro_batch=4",)))
    with monkeypatch.context() as limited:
        device = Device(limited, clips=4, error=error)
        found = trained(requested(phantom, tmp_path / "eight", name))
    assert digests(found) == digests(wanted)
    assert device.sizes[:2] == [8, 4]
    assert max(device.sizes[1:]) == 4
    said = capsys.readouterr().err
    assert said.count("out of memory in stage 1, epoch 1, batch 1 with 8 clips at a time") == 1
    assert "continuing with 4" in said
    assert "compute.micro_batch=4 spares" in (found / "train.log").read_text()


def test_it_halves_again_in_a_later_step_and_keeps_the_effective_batch(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(monkeypatch, clips=3, error=torch.OutOfMemoryError(TOO_MANY), after=3)
    trained(requested(phantom, tmp_path / "run"))
    assert device.sizes[:8] == [8, 8, 8, 8, 4, 2, 2, 2]
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3


def test_one_clip_that_does_not_fit_ends_the_run(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(monkeypatch, clips=0, error=torch.OutOfMemoryError(TOO_MANY))
    with pytest.raises(torch.OutOfMemoryError):
        trained(requested(phantom, tmp_path / "run"))
    assert device.sizes == [8, 4, 2, 1]


def test_another_error_is_not_retried(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, clips=0, error=RuntimeError("shapes (3, 4) and (5, 6)"))
    with pytest.raises(RuntimeError, match="shapes"):
        trained(requested(phantom, tmp_path / "run"))
    assert device.sizes == [8]


@pytest.mark.parametrize(
    ("experiment", "where"), [("e02_frozen_probe", "encoding train"), ("e10a_lora_r16", "scoring val")]
)
def test_clips_that_do_not_fit_are_scored_and_encoded_in_parts(
    phantom: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    experiment: str,
    where: str,
) -> None:
    """As many clips, each once, and as near as another batch size comes; said once, with the setting to change, and
    what is scored afterwards begins with what fitted."""
    changes = ("backbone.size=32", "train.epochs=1", "compute.evaluation_batch=8", "compute.features=fp32")

    def run(name: str) -> Path:
        own = (*changes, f"compute.cache={tmp_path / name}_cache")
        return trained(requested(phantom, tmp_path / name, experiment, changes=own))

    whole = run("whole")
    sizes: list[int] = []
    encode = Backbone.forward

    def forward(self: Backbone, video: torch.Tensor) -> Tokens:
        found = encode(self, video)
        if not torch.is_grad_enabled():
            sizes.append(len(video))
            if len(video) > 3:
                raise torch.OutOfMemoryError(TOO_MANY)
        return found

    monkeypatch.setattr(Backbone, "forward", forward)
    capsys.readouterr()
    parts = run("parts")
    said = capsys.readouterr().err
    assert sizes[:3] == [8, 4, 2]
    assert max(sizes[2:]) == 2
    assert said.count("out of memory in") == 2
    assert f"out of memory in {where} with 8 clips at a time" in said
    assert f"out of memory in {where} with 4 clips at a time" in said
    assert "compute.evaluation_batch=2 spares the next run this" in said
    assert "effective batch" not in said
    tables = [pl.read_parquet(run / "predictions" / "val.parquet") for run in (whole, parts)]
    keys = ["video", "frame"]
    assert tables[0].select(keys).rows() == tables[1].select(keys).rows()
    logits = [table.select(pl.col("^logit_.*$")).to_numpy() for table in tables]
    assert np.abs(logits[0] - logits[1]).max() < 1e-3
