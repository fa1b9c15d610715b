"""Augmentation family D: one draw a clip, masks along with the frames, answers known beforehand."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import FRAMES, MASK_SIDE, SIDE, batch_of, generators, masks_of, noise, smooth
from torch import Tensor
from torch.nn import functional as F

from calot.data.augmentations import (
    FAMILY_D,
    ColourJitter,
    GaussianBlur,
    RandomErasing,
    RandomResizedCrop,
    Rotation,
    rotate,
    turn_hue,
)
from calot.data.transforms import Augmentation, HorizontalFlip
from calot.errors import CalotError
from calot.types import IGNORED, Batch, Masks

ALWAYS: tuple[Augmentation, ...] = (
    HorizontalFlip(1.0),
    Rotation(),
    ColourJitter(),
    RandomErasing(1.0),
    GaussianBlur(1.0),
    RandomResizedCrop(),
)


def applied(component: Augmentation, batch: Batch, *, seed: int = 0) -> Batch:
    return component(batch, rngs=generators(len(batch), seed=seed))


def masked(clips: int = 6) -> Batch:
    return batch_of(smooth(clips), masks=masks_of(clips))


def masks(batch: Batch) -> Masks:
    assert batch.masks is not None
    return batch.masks


def test_family_d_is_the_documented_one_in_the_documented_order() -> None:
    assert (
        HorizontalFlip(probability=0.5),
        Rotation(degrees=15.0),
        ColourJitter(brightness=0.3, contrast=0.3, saturation=0.2, hue=0.1),
        RandomErasing(probability=0.2, area=(0.05, 0.2), fill="noise"),
        GaussianBlur(probability=0.1, sigma=(0.1, 2.0)),
    ) == FAMILY_D


@pytest.mark.parametrize("component", ALWAYS, ids=lambda c: type(c).__name__)
def test_the_batch_given_stays_as_it_was_and_shapes_and_types_stay(component: Augmentation) -> None:
    before = masked()
    video, values = before.video.clone(), masks(before).values.clone()
    after = applied(component, before)
    assert not torch.equal(after.video, video)
    assert torch.equal(before.video, video)
    assert torch.equal(masks(before).values, values)
    assert (after.video.shape, after.video.dtype) == (video.shape, torch.uint8)
    assert (masks(after).values.shape, masks(after).values.dtype) == (values.shape, torch.uint8)
    assert after.labels is before.labels
    assert masks(after).weight is masks(before).weight
    assert applied(component, replace(before, masks=None)).masks is None


@pytest.mark.parametrize("component", [*FAMILY_D, *ALWAYS], ids=lambda c: type(c).__name__)
def test_a_clip_comes_out_the_same_in_any_company(component: Augmentation) -> None:
    whole = applied(component, masked())
    for i, part in enumerate(masked().split(1)):
        alone = component(part, rngs=generators(6)[i : i + 1])
        assert torch.equal(alone.video[0], whole.video[i])
        assert torch.equal(masks(alone).values[0], masks(whole).values[i])


@pytest.mark.parametrize("component", ALWAYS, ids=lambda c: type(c).__name__)
def test_neither_torchs_nor_numpys_own_chance_is_used(component: Augmentation) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = applied(component, masked()).video
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    before = torch.get_rng_state()
    assert torch.equal(applied(component, masked()).video, first)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_clips_masks_change_nothing_about_its_frames() -> None:
    for component in (HorizontalFlip(1.0), Rotation(), ColourJitter(), GaussianBlur(1.0), RandomResizedCrop()):
        assert torch.equal(applied(component, masked()).video, applied(component, replace(masked(), masks=None)).video)


# --- rotation


def test_rotation_by_nothing_is_the_identity_to_the_bit() -> None:
    before = batch_of(noise(2), masks=masks_of(2))
    after = applied(Rotation(0.0), before)
    assert torch.equal(after.video, before.video)
    assert torch.equal(masks(after).values, masks(before).values)


@pytest.mark.parametrize("side", [8, 9, 32])
def test_rotation_by_a_quarter_turn_is_rot90(side: int) -> None:
    frames = noise(1, side=side)[0]
    assert torch.equal(rotate(frames, degrees=90, mode="bilinear").round().byte(), torch.rot90(frames, dims=(-2, -1)))
    layers = masks_of(1, layers=2, side=side).values[0]
    assert torch.equal(rotate(layers, degrees=90, mode="nearest").byte(), torch.rot90(layers, dims=(-2, -1)))


def test_what_rotation_brings_in_is_black_in_frames_and_ignored_in_masks() -> None:
    class Half(np.random.Generator):
        def uniform(self, low: float, high: float) -> float:  # type: ignore[override]
            return high

    full = batch_of(torch.full((1, 1, 3, SIDE, SIDE), 200, dtype=torch.uint8))
    ones = Masks(
        values=torch.ones(1, 1, MASK_SIDE, MASK_SIDE, dtype=torch.uint8),
        weight=torch.ones(1, 1),
        place=torch.zeros(1, 1, dtype=torch.int64),
        complete=torch.ones(1, dtype=torch.bool),
    )
    after = Rotation(45.0)(replace(full, masks=ones), rngs=[Half(np.random.PCG64(0))])
    values = masks(after).values[0, 0]
    assert (after.video[0, 0, :, 0, 0] == 0).all()
    assert (after.video[0, 0, :, SIDE // 2, SIDE // 2] == 200).all()
    assert set(values.unique().tolist()) == {1, IGNORED}
    assert values[0, 0] == IGNORED
    assert values[MASK_SIDE // 2, MASK_SIDE // 2] == 1


def test_angles_fill_their_range_on_both_sides() -> None:
    """The line of a bright row tells the angle: the tangent of the difference between its ends."""
    count = 60
    video = torch.zeros(count, 1, 3, 65, 65, dtype=torch.uint8)
    video[:, :, :, 32] = 255
    lit = applied(Rotation(15.0), batch_of(video)).video[:, 0, 0].float()
    rows = torch.arange(65.0)[:, None]
    heights = (lit * rows).sum(1) / lit.sum(1)
    angles = torch.atan((heights[:, 12] - heights[:, 52]) / 40).rad2deg()
    assert -15.1 < float(angles.min()) < -12
    assert 12 < float(angles.max()) < 15.1
    assert abs(float(angles.mean())) < 4 * 15 / 3**0.5 / count**0.5


def blob_batch(count: int) -> Batch:
    """An off-centre square, white in the frames and class 3 in the mask."""
    video = torch.zeros(count, FRAMES, 3, 64, 64, dtype=torch.uint8)
    video[..., 12:32, 8:28] = 255
    values = torch.zeros(count, 1, 16, 16, dtype=torch.uint8)
    values[..., 3:8, 2:7] = 3
    place = torch.zeros(count, 1, dtype=torch.int64)
    one = torch.ones(count, 1)
    return batch_of(video, masks=Masks(values=values, weight=one, place=place, complete=one[:, 0] > 0))


def iou(frame: Tensor, layer: Tensor) -> float:
    lit = F.interpolate(frame[None, :1].float(), size=layer.shape, mode="area")[0, 0] > 127
    there = layer == 3
    return float((lit & there).sum() / (lit | there).sum())


def test_pitfall_flip_or_rotation_that_misses_the_masks() -> None:
    before = blob_batch(40)
    assert iou(before.video[0, 0], masks(before).values[0, 0]) == 1.0
    for component in (HorizontalFlip(1.0), Rotation(15.0), Rotation(180.0), RandomResizedCrop(scale=(0.6, 0.9))):
        after = applied(component, before)
        overlaps = [iou(clip[0], layers[0]) for clip, layers in zip(after.video, masks(after).values, strict=True)]
        missed = [iou(clip[0], masks(before).values[0, 0]) for clip in after.video]
        assert min(overlaps) > 0.65
        assert np.mean(overlaps) > 0.85
        assert np.mean(missed) < np.mean(overlaps) - 0.1  # a mask left behind would show


def test_a_flip_mirrors_the_masks_of_the_clips_it_mirrors() -> None:
    before = batch_of(noise(32), masks=masks_of(32, layers=2))
    after = applied(HorizontalFlip(), before)
    flipped = [torch.equal(a, b.flip(-1)) for a, b in zip(after.video, before.video, strict=True)]
    assert 6 < sum(flipped) < 26
    for now, was, flip in zip(masks(after).values, masks(before).values, flipped, strict=True):
        assert torch.equal(now, was.flip(-1) if flip else was)


# --- crops


def test_a_crop_is_the_box_it_drew_made_as_large_as_the_frame() -> None:
    before, component = batch_of(smooth(6, side=64), masks=masks_of(6, side=16)), RandomResizedCrop()
    after = applied(component, before)
    for i, rng in enumerate(generators(6)):
        box = component.draw(rng=rng, height=64, width=64)
        cut = before.video[i][..., box.top : box.bottom, box.left : box.right].float()
        wanted = F.interpolate(cut, size=(64, 64), mode="bilinear", align_corners=False)
        assert float((after.video[i].float() - wanted).abs().max()) <= 0.5
        fine = masks(before).values[i].repeat_interleave(4, 1).repeat_interleave(4, 2)  # a mask pixel is 4 x 4 pixels
        cut = fine[..., box.top : box.bottom, box.left : box.right][None]
        nearest = F.interpolate(cut.float(), size=(16, 16), mode="nearest-exact")[0]
        assert torch.equal(masks(after).values[i].float(), nearest)


def test_a_crop_of_all_is_the_identity_to_the_bit() -> None:
    before = batch_of(noise(2), masks=masks_of(2))
    after = applied(RandomResizedCrop().neutral(), before)
    assert torch.equal(after.video, before.video)
    assert torch.equal(masks(after).values, masks(before).values)


def test_crops_have_the_published_shares_and_shapes() -> None:
    component, rng = RandomResizedCrop(), np.random.default_rng(0)
    boxes = [component.draw(rng=rng, height=256, width=256) for _ in range(4000)]
    whole = [b.share == 1.0 for b in boxes]
    sides = np.array([(b.bottom - b.top, b.right - b.left) for b in boxes])
    shares, aspects = sides.prod(axis=1) / 256**2, sides[:, 1] / sides[:, 0]
    assert 0.29 < shares.min() < 0.31
    assert 0.74 < aspects.min() < 0.76
    assert 1.33 < aspects.max() < 1.36
    assert np.mean(whole) < 0.01
    low = shares < 0.55  # no box of such a share reaches out of the frame: uniform there, places alike
    assert shares[low].mean() == pytest.approx(0.425, abs=0.01)
    assert np.log(aspects[low]).mean() == pytest.approx(np.log(0.75 * 1.35) / 2, abs=0.02)
    free = np.array(
        [(b.top / (256 - h), b.left / (256 - w)) for b, (h, w) in zip(boxes, sides, strict=True) if h < 256 > w]
    )
    assert free.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.02)
    assert all(0 <= b.top < b.bottom <= 256 and 0 <= b.left < b.right <= 256 for b in boxes)


# --- colour


def test_jitter_of_no_strength_is_the_identity_to_the_bit() -> None:
    every_fifth = torch.stack(torch.meshgrid(*[torch.arange(0, 256, 5)] * 3, indexing="ij"))
    video = every_fifth.reshape(1, 1, 3, 52, 52 * 52).to(torch.uint8)
    before = batch_of(video)
    assert torch.equal(applied(ColourJitter(0, 0, 0, 0), before).video, before.video)


@pytest.mark.parametrize("turn", [-0.4, -0.1, 0.05, 0.1, 0.5])
def test_a_turn_of_hue_is_colorsyss(turn: float) -> None:
    pixels = [(200, 30, 40), (10, 250, 120), (90, 80, 230), (255, 255, 0), (7, 9, 8), (128, 128, 128), (0, 0, 0)]
    colours = torch.tensor(pixels, dtype=torch.float64).T.reshape(1, 3, 1, -1) / 255
    turned = turn_hue(colours, turn=turn)[0, :, 0].T
    for pixel, got in zip(pixels, turned, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in pixel))
        expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
        assert got.tolist() == pytest.approx(expected, abs=1e-6)


def test_the_hue_really_turns() -> None:
    red = torch.zeros(24, 1, 3, 4, 4, dtype=torch.uint8)
    red[:, :, 0] = 200
    after = applied(ColourJitter(0, 0, 0, 0.1), batch_of(red)).video[:, 0, :, 0, 0]
    hues = np.array([(colorsys.rgb_to_hsv(*c)[0] + 0.5) % 1 - 0.5 for c in (after / 255).tolist()])
    assert (after[:, 0] == 200).all()
    assert 0.07 < hues.max() < 0.101
    assert -0.101 < hues.min() < -0.07


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        (ColourJitter(0.3, 0, 0, 0), lambda x, f: x * f),
        (ColourJitter(0, 0.3, 0, 0), lambda x, f: (x - 100) * f + 100),
    ],
)
def test_brightness_scales_and_contrast_spreads_about_the_clips_mean_grey(
    component: ColourJitter, expected: object
) -> None:
    greys = torch.tensor([60, 80, 120, 140], dtype=torch.uint8)
    video = greys.view(1, 4, 1, 1, 1).expand(30, 4, 3, 4, 4)  # four frames of flat grey, mean 100
    after = applied(component, batch_of(video)).video[:, :, 0, 0, 0].double()
    factors = (after[:, 3] - after[:, 0]) / 80
    assert 0.69 < float(factors.min()) < 0.8
    assert 1.2 < float(factors.max()) < 1.31
    for row, factor in zip(after, factors, strict=True):
        assert row.tolist() == pytest.approx(expected(greys.double(), factor).tolist(), abs=2)  # type: ignore[operator]


def test_saturation_moves_colours_from_their_own_grey_and_leaves_grey_alone() -> None:
    video = torch.full((30, 1, 3, 2, 2), 90, dtype=torch.uint8)
    video[..., 0, 0, 0] = 150
    after = applied(ColourJitter(0, 0, 0.2, 0), batch_of(video)).video[:, 0].double()
    assert (after[:, :, 1, 1] == 90).all()
    factors = (after[:, 0, 0, 0] - after[:, 1, 0, 0]) / 60
    assert 0.78 < float(factors.min()) < 0.88
    assert 1.12 < float(factors.max()) < 1.22
    grey = after[:, :, 0, 0] @ torch.tensor([0.2989, 0.5870, 0.1140], dtype=torch.float64)
    assert float((grey - (0.2989 * 150 + 0.7011 * 90)).abs().max()) < 1


@pytest.mark.parametrize("component", ALWAYS, ids=lambda c: type(c).__name__)
def test_pitfall_per_frame_colour_jitter(component: Augmentation) -> None:
    """A clip of one frame repeated stays a clip of one frame repeated: nothing flickers, whatever is drawn."""
    still = noise(8)[:, :1].expand(-1, 16, -1, -1, -1)
    after = applied(component, batch_of(still)).video
    assert not torch.equal(after, still)
    assert all(torch.equal(after[:, t], after[:, 0]) for t in range(16))


def test_frames_of_different_brightness_keep_their_order_under_jitter() -> None:
    """The same map of colours in all frames: a mean taken frame by frame would pull them together."""
    video = torch.stack([torch.full((3, 4, 4), v, dtype=torch.uint8) for v in (60, 140)])[None].expand(
        20, -1, -1, -1, -1
    )
    after = applied(ColourJitter(0, 0.3, 0, 0), batch_of(video)).video[:, :, 0, 0, 0].double()
    spread = after[:, 1] - after[:, 0]
    assert float(spread.min()) < 70
    assert float(spread.max()) > 90


# --- erasing


def test_erasing_blacks_out_one_box_of_whole_mask_pixels_and_ignores_the_masks_under_it() -> None:
    white = torch.full((60, FRAMES, 3, SIDE, SIDE), 255, dtype=torch.uint8)
    values = torch.ones(60, 2, MASK_SIDE, MASK_SIDE, dtype=torch.uint8)
    one, first = torch.ones(60, 2), torch.zeros(60, 2, dtype=torch.int64)
    layers = Masks(values=values, weight=one, place=first, complete=one[:, 0] > 0)
    after = applied(RandomErasing(1.0, fill="black"), batch_of(white, masks=layers))
    cell = SIDE // MASK_SIDE
    for clip, marked in zip(after.video, masks(after).values, strict=True):
        gone = clip[0, 0] == 0
        rows, columns = gone.any(1).nonzero(), gone.any(0).nonzero()
        inside = gone[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert inside.all()
        assert (clip == clip[:1, :1]).all()
        ignored = (marked == IGNORED).repeat_interleave(cell, 1).repeat_interleave(cell, 2)
        assert torch.equal(ignored, gone.expand_as(ignored))


def test_what_is_erased_becomes_noise_of_every_level_the_same_in_all_frames() -> None:
    before = batch_of(torch.full((40, FRAMES, 3, SIDE, SIDE), 7, dtype=torch.uint8))
    video = applied(RandomErasing(1.0), before).video
    assert (video == video[:, :1]).all()
    erased = video[:, 0].flatten(2).permute(0, 2, 1)  # clip, pixel, channel
    erased = erased[(erased != 7).any(dim=-1)].double()
    assert abs(float(erased.mean()) - 127.5) < 5
    assert abs(float(erased.std()) - 256 / 12**0.5) < 3
    assert float(erased.T.corrcoef().triu(1).abs().max()) < 0.1  # each channel of its own


def test_erased_boxes_keep_to_area_and_ratio() -> None:
    component, rng = RandomErasing(1.0), np.random.default_rng(0)
    boxes = [component.draw(rng=rng, grid=(256, 256)) for _ in range(2000)]
    shares = np.array([b.share for b in boxes])
    ratios = np.array([(b.bottom - b.top) / (b.right - b.left) for b in boxes])
    assert 0.045 < shares.min() < 0.055
    assert 0.19 < shares.max() < 0.205
    assert shares.mean() == pytest.approx(0.125, abs=4 * 0.15 / 12**0.5 / 2000**0.5)
    assert 0.27 < ratios.min() < 0.35
    assert 2.9 < ratios.max() < 3.6
    assert all(0 <= b.top < b.bottom <= 256 and 0 <= b.left < b.right <= 256 for b in boxes)


@pytest.mark.parametrize(
    "component", [HorizontalFlip(), RandomErasing(), GaussianBlur()], ids=lambda c: type(c).__name__
)
def test_the_dose_given_is_the_dose_asked_for(component: HorizontalFlip | RandomErasing | GaussianBlur) -> None:
    count, p = 1500, component.probability
    before = batch_of(noise(count, frames=1, side=8))
    after = applied(replace(component, sigma=(1.0, 2.0)) if isinstance(component, GaussianBlur) else component, before)
    changed = sum(not torch.equal(a, b) for a, b in zip(after.video, before.video, strict=True))
    assert abs(changed - count * p) < 4 * (count * p * (1 - p)) ** 0.5


# --- blur


def test_blur_spreads_a_point_by_sigma_and_keeps_its_sum() -> None:
    video = torch.full((1, 1, 3, 33, 33), 10, dtype=torch.uint8)
    video[..., 16, 10:23], video[..., 10:23, 16] = 250, 250
    after = applied(GaussianBlur(1.0, sigma=(1.5, 1.5)), batch_of(video)).video[0, 0, 0].double()
    offsets = torch.arange(33, dtype=torch.float64)
    kernel = torch.exp(-((offsets[:, None] - offsets) ** 2) / 2 / 1.5**2)
    kernel[(offsets[:, None] - offsets).abs() > 5] = 0
    kernel /= kernel[16].sum()
    expected = kernel @ (video[0, 0, 0].double() - 10) @ kernel + 10
    assert float((after - expected).abs().max()) < 0.51


def test_blur_and_jitter_leave_masks_alone() -> None:
    for component in (GaussianBlur(1.0), ColourJitter()):
        assert torch.equal(masks(applied(component, masked())).values, masks(masked()).values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rotation(-1), r"Rotation\.degrees=-1"),
        (lambda: ColourJitter(hue=0.6), r"ColourJitter\.hue=0\.6: expected a number from 0 to 0\.5"),
        (lambda: ColourJitter(brightness=-0.1), r"ColourJitter\.brightness"),
        (lambda: RandomErasing(2), r"RandomErasing\.probability=2"),
        (lambda: RandomErasing(area=(0.3, 0.1)), r"RandomErasing\.area"),
        (lambda: RandomResizedCrop(scale=(0.9, 0.3)), r"RandomResizedCrop\.scale=\(0\.9, 0\.3\)"),
        (lambda: RandomResizedCrop(aspect=(1.1, 1.3)), r"a range that holds 1"),
        (lambda: GaussianBlur(-0.5), r"GaussianBlur\.probability"),
        (lambda: GaussianBlur(sigma=(0.0, 1.0)), r"GaussianBlur\.sigma"),
    ],
)
def test_an_impossible_setting_is_refused(make: object, message: str) -> None:
    with pytest.raises(CalotError, match=message):
        make()  # type: ignore[operator]
