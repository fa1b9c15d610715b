"""A plan's memory and work are those of a real pass; it keeps the effective batch and says when nothing fits."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import calot
from run_requests import digests, requested, trained

from calot.errors import CalotError
from calot.experiment import scaled
from calot.experiments import find
from calot.progress import Ui
from calot.run.build import build_classifier
from calot.run.footprint import clip_flop, stage_footprint
from calot.run.plan import DEVICES, RESERVED, USABLE, Device, Plan, device_named, plan
from calot.types import Batch

GB = 1_000_000_000


def device(*, memory: int) -> Device:
    return Device(name="a device", memory=memory, tflops=1.0, precision="fp32")


def really_kept(name: str, *, clips: int, half: bool, checkpointing: bool) -> int:
    """Bytes that a real pass over real numbers keeps, weights and their copies left out."""
    experiment = scaled(find(name).experiment, "tiny")
    experiment = replace(experiment, compute=replace(experiment.compute, gradient_checkpointing=checkpointing))
    model = build_classifier(experiment)
    experiment.train.adapt(model.backbone)
    model.train()
    kept: dict[int, torch.Tensor] = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(x: torch.Tensor) -> torch.Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept.setdefault(x.untyped_storage().data_ptr(), x)
        return x

    spec = model.backbone.spec
    batch = Batch.unlabelled(torch.zeros(clips, spec.frames, 3, spec.size, spec.size, dtype=torch.uint8))
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half), hooks:
        outputs = model(batch)
    del outputs
    return sum(x.untyped_storage().nbytes() for x in kept.values())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", ["e00_finetune", "e10a_lora_r16", "e08_multitask", "videomae_lora"])
def test_a_clip_keeps_what_a_real_pass_keeps(name: str, half: bool, checkpointing: bool) -> None:
    experiment = scaled(find(name).experiment, "tiny")
    experiment = replace(experiment, compute=replace(experiment.compute, gradient_checkpointing=checkpointing))
    found = stage_footprint(experiment, stage=0, half=half).activations
    one, two = (really_kept(name, clips=n, half=half, checkpointing=checkpointing) for n in (1, 2))
    assert found == pytest.approx(two - one, rel=0.02)


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        ("e02_frozen_probe", 1.656, 0.0),
        ("e00_finetune", 1.656, 3.31),
        ("lora_layers_18_23", 1.656, 0.51),
    ],
)
def test_work_is_that_of_the_full_size_encoder(name: str, forward: float, backward: float) -> None:
    """TFLOP per clip, against the arithmetic by hand: 24 layers over 2,048 tokens of 1,024."""
    tokens, width, layers = 2048, 1024, 24
    by_hand = layers * (24 * tokens * width**2 + 4 * tokens**2 * width) / 1e12
    found = clip_flop(find(name).experiment, stage=0)
    assert by_hand == pytest.approx(forward, rel=0.005)
    assert found[0] / 1e12 == pytest.approx(by_hand, rel=0.01)
    assert found[1] / 1e12 == pytest.approx(backward, abs=0.01)


def planned(
    phantom: Path, tmp_path: Path, *, memory: int, name: str = "e00_finetune", changes: tuple[str, ...] = ()
) -> Plan:
    return plan(requested(phantom, tmp_path / "run", name, changes=changes), device(memory=memory), ui=Ui())


def test_less_memory_means_fewer_clips_at_a_time_and_the_same_effective_batch(phantom: Path, tmp_path: Path) -> None:
    sizes, found = [], stage_footprint(requested(phantom, tmp_path / "run").experiment, stage=0, half=False)
    fixed = RESERVED + found.weights + 3 * found.trained
    for clips in (20.0, 4.5, 2.5, 1.5, 0.9):
        room = clips * found.activations
        (stage,) = planned(phantom, tmp_path, memory=int((fixed + room) / USABLE)).stages
        assert stage.batch == 8
        assert stage.passes * stage.micro_batch >= stage.batch > (stage.passes - 1) * stage.micro_batch
        assert stage.memory <= fixed + room
        sizes.append((stage.micro_batch, stage.checkpointing))
    assert sizes[0] == (8, False)
    assert sizes == sorted(sizes, key=lambda s: (s[1], -s[0]))
    assert sizes[-1][1]
    with pytest.raises(CalotError, match=r"e00_finetune does not fit a device: .* even with gradient checkpointing"):
        planned(phantom, tmp_path, memory=int((fixed + 0.1 * found.activations) / USABLE))


def test_the_experiments_own_micro_batch_is_the_most(phantom: Path, tmp_path: Path) -> None:
    (stage,) = planned(phantom, tmp_path, memory=64 * GB, changes=("compute.micro_batch=3",)).stages
    assert (stage.micro_batch, stage.passes) == (3, 3)


@pytest.mark.parametrize(
    ("name", "changes", "wanted"),
    [
        ("e02_frozen_probe", ("train.epochs=6",), "tokens in 2 views, fp32"),
        ("e02_frozen_probe", ("train.epochs=1",), "none: they would not pay"),
        ("e02_frozen_probe", ("compute.features=off",), "none: compute.features=off"),
        ("lora_layers_18_23", ("train.epochs=6", "augment=[HorizontalFlip()]"), "what enters layer 3 in 2 views, fp32"),
        ("lora_layers_18_23", ("train.epochs=6",), "none: Rotation shows clips in endless ways"),
        ("e10a_lora_r16", (), "none: nothing is frozen below what trains"),
    ],
)
def test_it_says_which_features_the_run_will_cache(
    phantom: Path, tmp_path: Path, name: str, changes: tuple[str, ...], wanted: str
) -> None:
    (stage,) = planned(phantom, tmp_path, memory=64 * GB, name=name, changes=changes).stages
    assert stage.features.startswith(wanted)
    assert (stage.features_bytes > 0) is not wanted.startswith("none")


def test_known_devices_hold_the_studys_treatments(phantom: Path, tmp_path: Path) -> None:
    with pytest.raises(CalotError, match=r"--for a100: .*a100-80gb"):
        device_named("a100")
    assert all(1e10 < d.memory < 2e11 and d.precision == "bf16" for d in DEVICES.values())


def test_another_device_is_planned_for_and_nothing_is_trained(phantom: Path, tmp_path: Path) -> None:
    words = ["train", "e02_frozen_probe", "e00_finetune", "--data", phantom, "--scale", "tiny", "--out", tmp_path / "r"]
    done = calot(*words, "--plan", "--for", "rtx3080-12gb", "--price-per-hour", "2", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert [p["experiment"] for p in found] == ["e02_frozen_probe", "e00_finetune"]
    assert all(p["cost"] == pytest.approx(2 * p["hours"]) and p["hours"] > 0 for p in found)
    assert not (tmp_path / "r").exists()
    done = calot(*words, "--plan", "--for", "rtx3080-12gb", cwd=tmp_path)
    assert "RTX 3080" in done.stdout
    assert "nothing was trained" in done.stdout
    for wrong in (["--for", "rtx3080-12gb"], ["--plan", "--for", "x"], ["--plan", "--dry-run", "--json"]):
        assert calot(*words, *wrong, cwd=tmp_path).returncode == 2


def test_a_planned_run_is_the_run_and_resumes_without_the_plan(phantom: Path, tmp_path: Path) -> None:
    quick = ["train.epochs=2", "train.batch=8", "train.warmup=0.5", "compute.train_subset=8"]
    plain = trained(requested(phantom, tmp_path / "plain"))
    words = ["train", "e00_finetune", *quick, "--data", phantom, "--scale", "tiny", "--seeds", "0", "--no-receipt"]
    words += ["--results", tmp_path, "--out", tmp_path / "planned"]
    done = calot(*words, "--plan", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "planned") == digests(plain)
    compute = json.loads((tmp_path / "planned" / "experiment.json").read_text())["experiment"]["compute"]
    assert compute["micro_batch"] == 8
    assert calot(*words, "--resume", cwd=tmp_path).returncode == 0
