"""What every shipped experiment does in its first steps is what it did when its golden values were recorded."""

import copy
import json
from pathlib import Path
from typing import Any

import comparing
import pytest
import steps
import torch
from comparing import EXACT, differences

from calot.experiments import find, names

#: One of each kind, looked at on every run of the suite; the others take their turn with the long tests.
AT_ONCE = {
    *(
        "e00_finetune",
        "e02_frozen_probe",
        "e03_focal",
        "e04_balanced",
        "e06_c2_weighted",
        "e08_multitask",
        "e09_staged",
    ),
    *("e10a_lora_r16", "e11_attention_supervision", "e12_regularized", "e12_attention_bias", "clip5_majority"),
    *("dinov3_per_frame_lora", "videomae_lora", "lora_dora", "e13_window_vit", "e14_hybrid", "e15_window_parallel"),
    *("swincvs_frozen", "multires_fusion", "key_moments", "feature_pyramid"),
}


def test_every_shipped_experiment_has_golden_values_and_nothing_else_has() -> None:
    assert sorted(path.stem for path in comparing.RECORDED.glob("*.json")) == names()


def test_every_fingerprint_is_the_recorded_one() -> None:
    recorded = json.loads(comparing.FINGERPRINTS.read_text())["fingerprints"]
    assert {name: steps.fingerprint(name) for name in names()} == recorded


@pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="dropout draws from MKL's generator where it is there"
)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in AT_ONCE else [pytest.mark.long, pytest.mark.slow]) for n in names()]
)
def test_the_first_steps_are_the_recorded_ones(name: str, golden_phantom: Path) -> None:
    golden = comparing.load(name)
    problems = differences(golden, steps.record(name, phantom=golden_phantom))
    made = f"{name}.json was made with {golden['made_with']}; here is {steps.made_with()}"
    remedy = "If this change was meant, see tests/golden/README.md."
    assert not problems, "\n".join([f"{len(problems)} differences. {made}.", *problems[:20], remedy])


@pytest.mark.parametrize("name", names())
def test_the_golden_values_are_no_blind_ones(name: str) -> None:
    """Each trained group has a gradient in each step, rates (unless declared constant) and logits move, and 3 steps a
    stage were made."""
    train = find(name).experiment.train
    rates = 1 if train.warmup == 0 and train.min_lr == train.lr else 2
    for stage in comparing.load(name)["stages"]:
        assert len(stage["steps"]) == steps.STEPS
        for step in stage["steps"]:
            assert step["gradient"].keys() == {"total", *step["rates"]}
            assert min(step["gradient"].values()) > 0
            assert min(step["terms"].values()) > 0
        assert len({json.dumps(step["batch"]["pixels"]) for step in stage["steps"]}) == steps.STEPS
        assert len({json.dumps(step["rates"]) for step in stage["steps"]}) >= rates
        assert stage["logits before"] != stage["logits after"]


def test_the_clips_hold_both_answers_to_each_criterion_and_clips_without_a_mask() -> None:
    clips = comparing.load("e12_regularized")["clips"]
    for split in ("train", "val"):
        assert all(0 < sum(column) < steps.CLIPS for column in zip(*clips[split]["labels"], strict=True))
        assert {0.0, 1.0} == {weight for row in clips[split]["weight"] for weight in row}


def _changed(**where: Any) -> list[str]:
    """What is said of one experiment's own values after a change of some of them."""
    golden = comparing.load("e12_regularized")
    found = copy.deepcopy(golden)
    for path, value in where.items():
        *place, last = path.split("__")
        at: Any = found
        for key in place:
            at = at[int(key) if key.isdigit() else key]
        at[last] = value(at[last]) if callable(value) else value
    return differences(golden, found)


def test_values_are_at_no_distance_from_themselves() -> None:
    assert _changed() == []


def test_a_number_is_held_to_the_tolerance_of_equal_inputs() -> None:
    assert _changed(stages__0__steps__1__loss=lambda v: v * (1 + EXACT / 2)) == []
    (said,) = _changed(stages__0__steps__1__loss=lambda v: v * (1 + EXACT * 2))
    assert "1 steps 2 loss" in said


def test_clips_rounded_otherwise_loosen_the_tolerance_and_no_more() -> None:
    rounded = {"clips__val__digest": "other", "clips__val__pixels": lambda v: [x + 0.1 for x in v]}
    assert _changed(**rounded, stages__0__steps__1__loss=lambda v: v * 1.0001) == []
    assert len(_changed(**rounded, stages__0__steps__1__loss=lambda v: v * 1.01)) == 2


def test_changed_clips_are_told_from_changed_arithmetic() -> None:
    other = {"clips__val__digest": "other", "clips__val__pixels": lambda v: [x + 10 for x in v]}
    said = _changed(**other, stages__0__steps__1__loss=1.0)
    assert said[0] == "the clips changed, before any arithmetic"
    assert not any("loss" in line for line in said)
