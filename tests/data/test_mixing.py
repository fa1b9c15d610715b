"""MixUp, CutMix and label smoothing: inputs, targets and masks all mixed by the same share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import FRAMES, MASK_SIDE, SIDE, batch_of, masks_of, noise

from calot.data.mixing import Mixed, Mixing, smooth_labels
from calot.errors import CalotError
from calot.types import IGNORED, Batch, Masks

CELL = SIDE // MASK_SIDE
MIXUP = Mixing(mixup_probability=1.0, cutmix_probability=0.0)
CUTMIX = Mixing(mixup_probability=0.0, cutmix_probability=1.0)
EACH = (MIXUP, CUTMIX, replace(MIXUP, per_clip=True), replace(CUTMIX, per_clip=True))


def mixed(mixing: Mixing, batch: Batch, *, seed: int = 1) -> Mixed:
    return mixing(batch, rng=np.random.default_rng(seed))


def masked(clips: int = 6) -> Batch:
    return batch_of(noise(clips), masks=masks_of(clips))


def partners(count: int, *, seed: int = 1) -> list[int]:
    """Whom each clip is mixed with, read off one-hot labels."""
    one_hot = replace(batch_of(noise(count)), labels=torch.eye(count), soft=torch.eye(count))
    made = mixed(MIXUP, one_hot, seed=seed)
    apart = made.batch.labels - torch.eye(count) * torch.from_numpy(made.lam)[:, None]
    return [int(row.argmax()) for row in apart]


def masks(batch: Batch) -> Masks:
    assert batch.masks is not None
    return batch.masks


def test_each_batch_gets_one_kind_or_none_in_the_shares_asked_for() -> None:
    batch, draws = batch_of(noise(2, frames=1, side=8)), 2000
    mixing = Mixing(mixup_probability=0.5, cutmix_probability=0.3)
    kinds = [mixed(mixing, batch, seed=i).kind for i in range(draws)]
    for kind, share in (("mixup", 0.5), ("cutmix", 0.3), (None, 0.2)):
        assert abs(kinds.count(kind) - draws * share) < 4 * (draws * share * (1 - share)) ** 0.5
    documented = {mixed(Mixing(), batch, seed=i).kind for i in range(200)}
    assert documented == {"mixup", "cutmix"}


@pytest.mark.parametrize(("mixing", "alpha"), [(MIXUP, 0.8), (replace(MIXUP, mixup_alpha=0.1), 0.1), (CUTMIX, None)])
def test_shares_come_from_the_beta_asked_for(mixing: Mixing, alpha: float | None) -> None:
    batch, draws = batch_of(noise(2, frames=1, side=64)), 1500
    lam = np.array([mixed(mixing, batch, seed=i).lam[0] for i in range(draws)])
    if alpha is None:
        # Beta(1, 1), and a box cut off at the edges keeps more of the clip: E[1 - lam] = E[(b(1 - b/4))^2] with
        # b = sqrt(1 - u) the box's side before the cut, = 1/2 - 1/5 + 1/48.
        mean, spread = 1 - (1 / 2 - 1 / 5 + 1 / 48), 0.25
    else:
        mean, spread = 0.5, (0.25 / (2 * alpha + 1)) ** 0.5
        assert lam.std() == pytest.approx(spread, rel=0.06)
    assert abs(lam.mean() - mean) < 4 * spread / draws**0.5 + 0.005


def test_mixup_mixes_pixels_and_labels_by_one_share_and_leaves_soft_alone() -> None:
    before = batch_of(noise(6))
    made, other = mixed(MIXUP, before), partners(6)
    share = float(made.lam[0])
    assert made.kind == "mixup"
    assert (made.lam == share).all()
    expected = share * before.video.double() + (1 - share) * before.video[other].double()
    assert float((made.batch.video.double() - expected).abs().max()) < 0.5 + 1e-3
    assert torch.allclose(made.batch.labels, share * before.labels + (1 - share) * before.labels[other])
    assert made.batch.soft is before.soft
    assert made.batch.index is before.index
    assert sorted(other) == list(range(6))


@pytest.mark.parametrize("per_clip", [False, True])
def test_cutmix_pastes_one_box_of_whole_mask_pixels_into_all_frames(per_clip: bool) -> None:
    count = 8
    video = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1, 1).expand(-1, FRAMES, 3, SIDE, SIDE).contiguous()
    before = batch_of(video, masks=masks_of(count))
    made, boxes = mixed(replace(CUTMIX, per_clip=per_clip), before, seed=3), []
    for i, clip in enumerate(made.batch.video):
        assert (clip == clip[:1, :1]).all()
        other = clip[0, 0] != i
        if not other.any():  # its own partner
            continue
        cells = other.view(MASK_SIDE, CELL, MASK_SIDE, CELL)
        assert (cells == cells[:, :1, :, :1]).all()
        rows, columns = other.any(1).nonzero(), other.any(0).nonzero()
        assert other[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        assert clip[0, 0][other].unique().numel() == 1
        partner = int(clip[0, 0][other][0])
        assert made.lam[i] == pytest.approx(1 - float(other.float().mean()))
        kept = float(made.lam[i])
        assert torch.allclose(made.batch.labels[i], kept * before.labels[i] + (1 - kept) * before.labels[partner])
        boxes.append((int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())))
    assert len(boxes) >= 4
    assert (len(set(boxes)) > 1) == per_clip
    assert (len(set(made.lam.tolist())) > 1) == per_clip


@pytest.mark.parametrize("mixing", EACH)
def test_types_and_shapes_stay_and_the_batch_given_is_untouched(mixing: Mixing) -> None:
    before = masked()
    video, values, labels = before.video.clone(), masks(before).values.clone(), before.labels.clone()
    made = mixed(mixing, before).batch
    assert torch.equal(before.video, video)
    assert torch.equal(masks(before).values, values)
    assert torch.equal(before.labels, labels)
    assert not torch.equal(made.video, video)
    assert (made.video.dtype, made.labels.dtype, masks(made).weight.dtype) == (
        torch.uint8,
        torch.float32,
        torch.float32,
    )
    assert made.video.shape == video.shape
    assert masks(made).values.shape == (6, 2, MASK_SIDE, MASK_SIDE)
    assert masks(made).values.dtype == torch.uint8
    assert masks(made).place.shape == masks(made).weight.shape == (6, 2)


def test_mixup_keeps_both_masks_as_layers_weighted_by_share() -> None:
    before = masked()
    made, other = mixed(MIXUP, before), partners(6)
    share, was, now = float(made.lam[0]), masks(before), masks(made.batch)
    assert torch.equal(now.values, torch.cat([was.values, was.values[other]], dim=1))
    assert torch.allclose(now.weight, torch.cat([share * was.weight, (1 - share) * was.weight[other]], dim=1))
    assert torch.equal(now.place, torch.cat([was.place, was.place[other]], dim=1))
    assert now.complete.tolist() == [1 not in (i, j) for i, j in enumerate(other)]  # clip 1 has no mask


def test_cutmix_keeps_each_mask_where_its_clip_is_seen() -> None:
    before = masked()
    video = torch.arange(6, dtype=torch.uint8).view(-1, 1, 1, 1, 1).expand(-1, FRAMES, 3, SIDE, SIDE)
    made, other = mixed(CUTMIX, replace(before, video=video), seed=2), partners(6, seed=2)
    was, now = masks(before), masks(made.batch)
    seen = {i: made.batch.video[i, 0, 0, ::CELL, ::CELL] for i in range(6)}
    moved = [i for i in range(6) if i != other[i]]
    box = seen[moved[0]] != moved[0]
    assert 0 < int(box.sum()) < MASK_SIDE**2
    for i, j in enumerate(other):
        assert torch.equal(now.values[i, 0], was.values[i, 0].masked_fill(box, IGNORED))
        assert torch.equal(now.values[i, 1], was.values[j, 0].masked_fill(~box, IGNORED))
    assert torch.equal(now.weight, torch.cat([was.weight, was.weight[other]], dim=1))
    assert torch.equal(now.place, torch.cat([was.place, was.place[other]], dim=1))


@pytest.mark.parametrize("mixing", EACH)
def test_a_batch_without_masks_stays_without_and_mixes_alike(mixing: Mixing) -> None:
    bare = mixed(mixing, batch_of(noise(6)))
    assert bare.batch.masks is None
    assert bare.kind == mixed(mixing, masked()).kind


@pytest.mark.parametrize("mixing", EACH)
def test_a_batch_of_one_passes_unmixed(mixing: Mixing) -> None:
    one = masked(1)
    made = mixed(mixing, one)
    assert made.batch is one
    assert made.kind is None
    assert made.lam.tolist() == [1.0]


def test_an_unmixed_batch_keeps_its_one_layer() -> None:
    before = masked()
    made = mixed(Mixing(mixup_probability=0.0, cutmix_probability=0.0), before)
    assert made.batch is before
    assert made.lam.tolist() == [1.0] * 6


def test_per_clip_draws_a_share_for_each_clip() -> None:
    before = batch_of(noise(6))
    made = mixed(replace(MIXUP, per_clip=True), before)
    assert len(set(made.lam.tolist())) == 6


def test_the_same_generator_gives_the_same_mix_and_torchs_chance_has_no_part() -> None:
    state = torch.get_rng_state()
    one, two = mixed(Mixing(), masked(), seed=4), mixed(Mixing(), masked(), seed=4)
    assert torch.equal(one.batch.video, two.batch.video)
    assert torch.equal(torch.get_rng_state(), state)


def test_pitfall_label_smoothing_at_twice_its_strength() -> None:
    smoothed = smooth_labels(torch.tensor([[0.0, 1.0, 0.5]]), strength=0.1)
    assert smoothed.tolist() == [pytest.approx([0.05, 0.95, 0.5])]
    assert torch.equal(smooth_labels(torch.eye(3), strength=0.0), torch.eye(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixup_probability": 0.8}, "only one of the two"),
        ({"cutmix_probability": -0.1}, "expected a number from 0 to 1"),
        ({"mixup_alpha": 0.0}, r"Mixing\.mixup_alpha=0\.0: expected a number from 0.001"),
    ],
)
def test_an_impossible_mixing_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(CalotError, match=message):
        Mixing(**change)  # type: ignore[arg-type]
