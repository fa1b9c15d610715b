"""What `calot study` spares at tiny scale, and what it leaves to whoever typed it."""

import pytest

from calot.experiments import resolve
from calot.studying.listed import LISTS, STUDY
from calot.studying.sparing import shortened, sparing


@pytest.mark.parametrize("name", LISTS["all"])
def test_every_experiment_resolves_with_stages_a_third_as_long_and_scored_once(name: str) -> None:
    own = sparing((), scale="tiny")
    words = [*own, *shortened(name, own, scale="tiny")]
    assert len({word.partition("=")[0] for word in words}) == len(words), words
    whole = resolve(name, overrides=own, scale="tiny").experiment.stages
    short = resolve(name, overrides=words, scale="tiny").experiment.stages
    assert [s.epochs for s in short] == [-(-s.epochs // 3) for s in whole]
    assert [s.warmup for s in short] == [round(s.warmup / 3, 2) for s in whole]
    assert {s.scored for s in short} == {1}


def test_a_shorter_recipe_stays_shorter() -> None:
    """Twelve epochs, ten and two: how long they are is what tells these experiments apart."""
    names = ("e10b_lora_r32_qkv", "e10b_ten_epochs", "e10b_recipe")
    words = {name: shortened(name, (), scale="tiny") for name in names}
    lengths = [resolve(name, overrides=words[name], scale="tiny").experiment.train for name in names]
    assert [(stage.epochs, stage.warmup) for stage in lengths] == [(4, 0.67), (4, 0.33), (1, 0.17)]


def test_what_was_typed_of_a_stage_stays() -> None:
    length, warmup, once = "train.epochs=4", "train.warmup=1.67", "train.score_every=4"
    assert shortened("e13_window_vit", (), scale="tiny") == [length, warmup, once]
    assert shortened("e13_window_vit", ("train.warmup=1",), scale="tiny") == [length, once]
    assert shortened("e13_window_vit", ("train.score_every=2",), scale="tiny") == [length, warmup]


def test_a_later_stage_is_shortened_too() -> None:
    first = ["train.epochs=4", "train.warmup=0.33", "train.score_every=4"]
    then = ["then.0.epochs=2", "then.0.warmup=0", "then.0.score_every=2"]
    assert shortened("e09_staged", (), scale="tiny") == [*first, *then]
    stages = resolve("e09_staged", overrides=[*first, *then], scale="tiny").experiment.stages
    assert [stage.epochs for stage in stages] == [4, 2]


@pytest.mark.parametrize("name", STUDY)
def test_full_scale_and_what_was_typed_stay(name: str) -> None:
    assert sparing(("compute=Compute()",), scale="tiny") == ["compute=Compute()"]
    assert sparing(("train.epochs=9",), scale="tiny") == ["train.epochs=9", "compute.train_subset=32"]
    assert shortened(name, ("train.epochs=9",), scale="tiny") == []
    assert sparing((), scale="full") == shortened(name, (), scale="full") == []
