"""What `calot study` spares at tiny scale, and what it leaves to whoever typed it."""

import pytest

from calot.experiments import resolve
from calot.studying.listed import LISTS, STUDY
from calot.studying.sparing import shortened, sparing


@pytest.mark.parametrize("name", LISTS["all"])
def test_every_experiment_resolves_with_stages_of_at_most_five_epochs_and_short_warm_ups(name: str) -> None:
    own = sparing((), scale="tiny")
    words = [*own, *shortened(name, own, scale="tiny")]
    assert len({word.partition("=")[0] for word in words}) == len(words), words
    for stage in resolve(name, overrides=words, scale="tiny").experiment.stages:
        assert stage.epochs <= 5
        assert stage.warmup <= 2
        assert stage.scored == 1


def test_a_short_experiment_stays_as_short_as_it_is() -> None:
    assert shortened("e10b_recipe", (), scale="tiny") == ["train.score_every=5"]
    assert resolve("e10b_recipe", scale="tiny").experiment.train.epochs == 2


def test_a_long_warm_up_is_cut_to_two_epochs() -> None:
    length, once = "train.epochs=5", "train.score_every=5"
    assert shortened("e13_window_vit", (), scale="tiny") == [length, "train.warmup=2", once]
    assert shortened("e13_window_vit", ("train.warmup=1",), scale="tiny") == [length, once]
    assert shortened("e13_window_vit", ("train.score_every=2",), scale="tiny") == [length, "train.warmup=2"]


def test_a_later_stage_is_shortened_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calot.studying.sparing._EPOCHS", 4)
    first, then = ["train.epochs=4", "train.score_every=4"], ["then.0.epochs=4", "then.0.score_every=4"]
    assert shortened("e09_staged", (), scale="tiny") == [*first, *then]
    assert resolve("e09_staged", overrides=["then.0.epochs=4"], scale="tiny").experiment.then[0].epochs == 4


@pytest.mark.parametrize("name", STUDY)
def test_full_scale_and_what_was_typed_stay(name: str) -> None:
    assert sparing(("compute=Compute()",), scale="tiny") == ["compute=Compute()"]
    assert sparing(("train.epochs=9",), scale="tiny") == ["train.epochs=9", "compute.train_subset=32"]
    assert shortened(name, ("train.epochs=9",), scale="tiny") == []
    assert sparing((), scale="full") == shortened(name, (), scale="full") == []
