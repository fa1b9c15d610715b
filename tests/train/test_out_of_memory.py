"""Where memory runs out a step is done again with fewer clips at a time: the same result, said, and no further."""

from pathlib import Path

import pytest
import torch
from run_requests import digests, requested, trained

from calot.models.classifier import Classifier
from calot.types import Batch, Outputs

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
