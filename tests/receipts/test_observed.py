"""What is seen in a run is measured, not asked for: meters against known doses, bands, and a run that goes on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted.catching import _begun, checks_after
from run_requests import StopAfter, requested, trained

from calot.data.augmentations import FAMILY_D, GaussianBlur, RandomErasing
from calot.data.mixing import Mixing, smooth_labels
from calot.data.transforms import Augmentation
from calot.errors import Stopped
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.classifier import Classifier
from calot.models.heads import LinearHead
from calot.models.pooling import MeanPooling
from calot.provenance.evidence import AblationEvidence, ObservedEvidence
from calot.provenance.receipt import Receipt
from calot.receipts.dropouts import counted
from calot.receipts.meters.band import DoseBand, Tally, add, never, share
from calot.receipts.meters.frames import Meter, meter
from calot.receipts.meters.labels import mixing_meter, smoothing_meter
from calot.receipts.watching import declared_rate
from calot.train.optim import Schedule
from calot.types import Batch


def pictures(count: int = 8, side: int = 64) -> Batch:
    """Clips of one smooth, colourful frame each, and labels that tell most of them apart."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(40, 200, (count, 3, 9, 9)).astype(np.float32))
    video = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 255).byte()
    labels = torch.tensor([[i >> k & 1 for k in range(3)] for i in range(count)], dtype=torch.float32)
    return Batch(video=video[:, None], labels=labels, soft=labels, index=torch.arange(count))


def read(gauge: Meter, change: Any, *, draws: int = 40) -> dict[str, Tally]:
    batch, tallies = pictures(), dict[str, Tally]()
    for draw in range(draws):
        for name, values in gauge.read(batch, change(batch, draw)).items():
            add(tallies, name, values)
    return tallies


def augmented(component: Augmentation) -> Any:
    return lambda batch, draw: component(batch, rngs=[np.random.default_rng([draw, i]) for i in range(len(batch))])


@pytest.mark.parametrize(
    "component",
    [*FAMILY_D, GaussianBlur(probability=1.0), RandomErasing(probability=0.9, area=(0.1, 0.4), fill="black")],
    ids=lambda c: type(c).__name__,
)
def test_an_honest_augmentation_lies_in_its_bands(component: Augmentation) -> None:
    gauge = meter(component)
    found = read(gauge, augmented(component))
    assert {n: (t, b.around(t[0])) for n, b in gauge.bands.items() if (t := found.get(n)) and not b.met(t)} == {}


@pytest.mark.parametrize("component", FAMILY_D, ids=lambda c: type(c).__name__)
def test_its_neutral_form_does_not(component: Any) -> None:
    gauge = meter(component)
    found = read(gauge, augmented(component.neutral()), draws=80)
    assert any(not band.met(found[name]) for name, band in gauge.bands.items() if name in found)


@pytest.mark.parametrize("mixing", [Mixing(), Mixing(per_clip=True), Mixing(mixup_alpha=0.2, cutmix_alpha=4.0)])
def test_honest_mixing_lies_in_its_bands_and_another_shape_does_not(mixing: Mixing) -> None:
    def mixed(how: Mixing) -> Any:
        return lambda batch, draw: how(batch, rng=np.random.default_rng(draw)).batch

    gauge = mixing_meter(mixing)
    found = read(gauge, mixed(mixing), draws=160)
    assert {n: (t, b.around(t[0])) for n, b in gauge.bands.items() if (t := found.get(n)) and not b.met(t)} == {}
    for other, name in (
        (replace(mixing, mixup_probability=0.0), "share of batches under mixup"),
        (replace(mixing, per_clip=not mixing.per_clip), "mixup: spread of the kept share within a batch"),
    ):
        assert gauge.bands[name].met(found[name])
        assert not gauge.bands[name].met(read(gauge, mixed(other), draws=160)[name])


@pytest.mark.parametrize("per_clip", [True, False])
def test_clips_that_are_equal_where_a_box_was_cut_raise_no_alarm(per_clip: bool) -> None:
    """Seven clips share a black half: no pixel of a box there says from which of them it came."""
    mixing, batch = Mixing(per_clip=per_clip), pictures()
    batch.video[1:, :, :, :32] = 0
    gauge, name = mixing_meter(mixing), "difference between the share in frames and in labels"
    found: dict[str, dict[str, Tally]] = {"honest": {}, "labels of other clips": {}}
    for draw in range(60):
        mixed = mixing(batch, rng=np.random.default_rng(draw)).batch
        wrong = replace(mixed, labels=mixed.labels.roll(1, 0))
        for what, after in (("honest", mixed), ("labels of other clips", wrong)):
            add(found[what], name, gauge.read(batch, after)[name])
    assert {what: gauge.bands[name].met(seen[name]) for what, seen in found.items()} == {
        "honest": True,
        "labels of other clips": False,
    }


def test_the_spread_of_shares_is_read_of_several_clips_alone() -> None:
    mixing = Mixing(per_clip=True, mixup_probability=0.0, cutmix_probability=1.0)
    few, many = pictures(count=2), pictures(count=8)
    found = []
    for batch in (few, many):
        mixed = mixing(batch, rng=np.random.default_rng(1)).batch
        found.append("cutmix: spread of the kept share within a batch" in mixing_meter(mixing).read(batch, mixed))
    assert found == [False, True]


def test_smoothing_is_read_off_the_labels() -> None:
    gauge = smoothing_meter(0.1)

    def smoothed(strength: float) -> Any:
        return lambda batch, draw: replace(batch, labels=smooth_labels(batch.labels, strength=strength))

    for strength, honest in ((0.1, True), (0.2, False), (0.0, False)):
        found = read(gauge, smoothed(strength), draws=1)
        assert gauge.bands["share of the way to 1/2"].met(found["share of the way to 1/2"]) is honest


def test_a_band_widens_for_few_draws_and_one_for_each_value_does_not() -> None:
    few, many = (share(0.2).around(n) for n in (10, 1000))
    assert few[0] < 0 < many[0] < 0.2 < many[1] < few[1]
    assert never().met([3, 0.0, 0.0, 0.0])
    assert not never().met([3, 0.0, -1.0, 1.0])
    assert DoseBand.between(1e-3, 1.0).met([2, 1.0, 0.1, 0.9])


@pytest.mark.parametrize(("warmup", "total", "floor"), [(0, 7, 1e-6), (3, 9, 1e-5), (2, 3, 1.0)])
def test_the_declared_rate_is_the_schedules(warmup: int, total: int, floor: float) -> None:
    schedule = Schedule(warmup_steps=warmup, total_steps=total, floor=floor)
    for step in range(total + 2):
        wanted = schedule.lr(peak=1e-3, step=step)
        found = declared_rate(peak=1e-3, floor=floor, step=step, warmup=warmup, total=total)
        assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.long
def test_a_run_that_goes_on_has_seen_the_same(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "calot.pipeline.opening_receipt", lambda request, **how: Receipt.load(request.folder) or _begun(request)
    )
    whole = replace(requested(phantom, tmp_path / "whole", "e12_regularized"), receipt=True)
    cut = replace(requested(phantom, tmp_path / "cut", "e12_regularized"), receipt=True)
    trained(whole)
    with pytest.raises(Stopped):
        trained(cut, StopAfter(3))
    trained(replace(cut, resume=True))
    one, other = (Receipt.load(request.folder) for request in (whole, cut))
    assert one is not None
    assert other is not None
    assert [c.status for c in one.checks if c.name in ("observed", "ablation")] == ["passed", "passed"]
    assert one.check("observed") == other.check("observed")
    assert one.check("ablation") == other.check("ablation")
    evidence = one.check("observed").evidence
    assert isinstance(evidence, ObservedEvidence)
    assert {len(r.by_epoch) for r in evidence.readings[1:]} == {2}


@pytest.mark.slow
def test_an_ablation_says_how_much_the_adapter_changes(phantom: Path, tmp_path: Path) -> None:
    found = {c.name: c for c in checks_after("e10a_lora_r16", (), phantom=phantom, folder=tmp_path / "run")}
    evidence = found["ablation"].evidence
    assert isinstance(evidence, AblationEvidence)
    (adapter,) = evidence.parts
    assert (adapter.part, found["ablation"].status) == ("adapter", "passed")
    assert evidence.floor < adapter.logits < 1


def test_stochastic_depth_counts_while_training_and_while_scoring_only_where_it_drops() -> None:
    spec = VJEPA2(weights=None, size=32, frames=4, patch=8, width=128, layers=3, heads=2, drop_path=0.9)
    model = Classifier(backbone=spec.build(), pooling=MeanPooling(), heads=(LinearHead(),))
    batch = Batch.unlabelled(torch.randint(0, 255, (32, 4, 3, 32, 32), dtype=torch.uint8))
    name = "backbone: last layer's path dropped"
    with counted(model.train()) as training:
        model(batch)
    assert 0.7 < np.mean(training[name]) < 1
    with torch.no_grad(), counted(model.eval()) as scoring:
        model(batch)
    assert scoring == {}
    with torch.no_grad(), counted(model) as planted:
        [m for m in model.modules() if type(m).__name__ == "VJEPA2DropPath"][-1].train()
        model(batch)
    assert name in planted
