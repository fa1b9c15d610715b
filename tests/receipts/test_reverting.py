"""Putting a declared field back takes what a rule says goes with it, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from calot import experiment as rules
from calot.errors import CalotError
from calot.experiment import Experiment, scaled
from calot.experiments import find, names
from calot.models.backbones.vjepa2 import VJEPA2
from calot.receipts.reverting import at, changes, reverted


def _pair(name: str) -> tuple[Experiment, Experiment]:
    experiment = scaled(find(name).experiment, "tiny")
    assert experiment.baseline is not None
    return experiment, scaled(find(experiment.baseline).experiment, "tiny")


DECODER = ("heads", "segmentation")
WITH_BASELINE = [name for name in names() if find(name).experiment.baseline]


@pytest.mark.parametrize("name", WITH_BASELINE)
def test_every_difference_of_every_shipped_experiment_can_be_put_back(name: str) -> None:
    experiment, baseline = _pair(name)
    paths = changes(experiment, baseline)
    for path in paths:
        back, together = reverted(experiment, baseline, path, among=paths)
        assert together[0] == path
        assert all(at(back, p) == at(baseline, p) for p in together)
        assert set(changes(experiment, back)) == set(together)


def test_what_stands_alone_goes_back_alone() -> None:
    experiment, baseline = _pair("e12_regularized")
    paths = changes(experiment, baseline)
    assert [reverted(experiment, baseline, p, among=paths)[1] for p in paths] == [(p,) for p in paths]


def test_a_decoder_goes_back_with_its_term_and_with_the_masking_that_needs_it() -> None:
    experiment, baseline = _pair("e08_multitask")
    paths = changes(experiment, baseline)
    assert set(reverted(experiment, baseline, DECODER, among=paths)[1]) == {DECODER, ("loss",)}
    assert set(reverted(experiment, baseline, ("loss",), among=paths)[1]) == {DECODER, ("loss",)}
    masked, _ = _pair("e12_regularized")
    masked = replace(masked, train=baseline.train)
    paths = changes(masked, baseline)
    _, together = reverted(masked, baseline, DECODER, among=paths)
    assert set(together) == {DECODER, ("loss",), ("masking",)}
    assert reverted(masked, baseline, ("masking",), among=paths)[1] == (("masking",),)


def test_clip_and_backbone_go_back_together() -> None:
    baseline = Experiment(name="a")
    longer = replace(baseline, clip=replace(baseline.clip, length=8), backbone=VJEPA2(frames=8))
    paths = changes(longer, baseline)
    for path in paths:
        assert set(reverted(longer, baseline, path, among=paths)[1]) == set(paths)


def test_fields_that_no_rule_joins_are_an_error_that_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, baseline = _pair("e08_multitask")
    named = tuple(replace(r, fields=("masking",)) if r.fields == ("heads", "loss") else r for r in rules.TOGETHER)
    monkeypatch.setattr(rules, "TOGETHER", named)
    with pytest.raises(CalotError, match=r"heads\.segmentation cannot be put back alone, and no rule says with what"):
        reverted(experiment, baseline, DECODER, among=changes(experiment, baseline))
