"""What a command asks for: changes and a scale, alike from the command line and from a file."""

from dataclasses import replace

import pytest

from calot.errors import CalotError
from calot.experiment import scaled
from calot.experiments import find, resolve
from calot.models.adaptation import LoRA

E10B = find("e10b_lora_r32_qkv").experiment


@pytest.mark.parametrize(
    "typed",
    ["train.adaptation=LoRA(layers=(18,23))", "train.adaptation=LoRA(layers=[18,23])"],
)
def test_a_component_typed_is_scaled_as_in_a_file(typed: str) -> None:
    in_a_file = replace(E10B, train=replace(E10B.train, adaptation=LoRA(layers=(18, 23))))
    assert resolve("e10b_lora_r32_qkv", overrides=[typed], scale="tiny").experiment == scaled(in_a_file, "tiny")
    assert resolve("e10b_lora_r32_qkv", overrides=[typed]).experiment == in_a_file


def test_numbers_of_layers_are_scaled_wherever_they_are_typed() -> None:
    tiny = resolve("e10b_lora_r32_qkv", overrides=["train.adaptation.layers=(18,23)"], scale="tiny").experiment
    assert tiny.train.adaptation.layers == (3,)
    with pytest.raises(CalotError, match=r"train\.adaptation\.layers=\(18, 24\): .*there is no layer 24"):
        resolve("e10b_lora_r32_qkv", overrides=["train.adaptation.layers=(18,24)"], scale="tiny")


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("train.epochs=20", lambda e: e.train.epochs == 20),
        ("train.batch=64", lambda e: e.train.batch == 64),
        ("head.hidden=48", lambda e: e.head.hidden == 48),
        ("backbone.width=192", lambda e: (e.backbone.width, e.head.hidden) == (192, 96)),
        ("backbone.frames=4", lambda e: (e.backbone.frames, e.clip.length) == (4, 4)),
        ("backbone.layers=6", lambda e: e.backbone.layers == 6),
        ("backbone.weights=some/model", lambda e: e.backbone.weights == "some/model"),
    ],
)
def test_a_number_typed_by_its_own_key_is_kept_at_any_scale(typed: str, value: object) -> None:
    assert value(resolve("e02_frozen_probe", overrides=[typed], scale="tiny").experiment)


def test_layers_of_a_file_follow_a_depth_that_was_typed() -> None:
    tiny = resolve("lora_layers_18_23", overrides=["backbone.layers=8"], scale="tiny").experiment
    assert tiny.train.adaptation.layers == (6, 7)


@pytest.mark.parametrize("scale", ["tiny"])
def test_changes_that_make_sense_together_alone_are_taken_in_any_order(scale: str) -> None:
    typed = ["clip.length=1", "clip.pad_to=8"]
    one, other = (resolve("e02_frozen_probe", overrides=t, scale=scale).experiment for t in (typed, typed[::-1]))
    assert one == other
    assert (one.clip.length, one.clip.frames) == (1, 8)
    with pytest.raises(CalotError, match=r"clip\.length=1: .*backbone\.frames=8"):
        resolve("e02_frozen_probe", overrides=typed[:1], scale=scale)


def test_what_was_typed_is_what_came_of_it() -> None:
    resolved = resolve("e02_frozen_probe", overrides=["loss=FocalLoss(gamma=5)", "train.lr=1e-3"])
    assert [(o.typed, o.field, o.value) for o in resolved.overrides] == [
        ("loss=FocalLoss(gamma=5)", "loss", resolved.experiment.loss),
        ("train.lr=1e-3", "train.lr", 0.001),
    ]
    assert resolved.experiment.loss.gamma == 5.0
