"""The views of test-time augmentation: each shows the clip as it says, no causal one sees the future, none is idle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batches import masks_of, noise, smooth
from endoscapes_folder import ALL, NO, Folder

from calot.data.clips import AllFrames, CentreLabel, ClipRule, ClipTable, Keyframes, Protocol, build_clips
from calot.data.endoscapes.reader import read_endoscapes
from calot.data.manifest import Manifest
from calot.errors import CalotError
from calot.evaluation.tta import (
    IDENTITY,
    WORDS,
    AugmentedView,
    Cropped,
    Flipped,
    Shifted,
    ViewedClips,
    require_changes,
    views_named,
)
from calot.types import Batch, Tokens

RULE = ClipRule(length=3)
EVERY = tuple(view for views in WORDS.values() for view in views)
OF_PIXELS = tuple(view for view in EVERY if not isinstance(view, Shifted) and view != IDENTITY)


def test_a_flip_mirrors_every_frame_and_nothing_else() -> None:
    video = noise(3)
    flipped = Flipped()(Batch.unlabelled(video)).video
    assert torch.equal(flipped, torch.from_numpy(video.numpy()[..., ::-1].copy()))
    assert not torch.equal(flipped, video)
    assert torch.equal(Flipped().pixels(flipped), video)


def test_the_identity_is_the_clip_as_it_is() -> None:
    video = noise(2)
    assert torch.equal(IDENTITY(Batch.unlabelled(video)).video, video)


@pytest.mark.parametrize("view", OF_PIXELS, ids=lambda view: view.name)
def test_a_view_of_pixels_keeps_shape_and_kind_and_changes_each_clip(view: AugmentedView) -> None:
    for video in (noise(3), noise(3).float() / 255):
        seen = view.pixels(video)
        assert (seen.shape, seen.dtype) == (video.shape, video.dtype)
        assert all(not torch.equal(a, b) for a, b in zip(seen, video, strict=True))


def test_a_crop_of_half_the_side_shows_that_quarter() -> None:
    """Quarters of four colours: a crop to one of them is all of its colour."""
    video = torch.zeros(1, 2, 3, 32, 32, dtype=torch.uint8)
    corners = {"top-left": (0, 0), "top-right": (0, 16), "bottom-left": (16, 0), "bottom-right": (16, 16)}
    for colour, (top, left) in enumerate(corners.values(), start=1):
        video[..., top : top + 16, left : left + 16] = 60 * colour
    for colour, place in enumerate(corners, start=1):
        assert Cropped(place=place, share=0.5).pixels(video).unique().tolist() == [60 * colour]  # type: ignore[arg-type]


def test_a_centre_crop_magnifies_about_the_middle() -> None:
    """Of a ramp, the share of the side that is kept is the share of the range that is left, about the same middle."""
    video = smooth(1, frames=1, side=64)
    seen = Cropped(place="centre", share=0.5).pixels(video)[0, 0, 0, 0].float()
    ramp = video[0, 0, 0, 0].float()
    assert seen.mean().item() == pytest.approx(ramp.mean().item(), abs=1.0)
    assert (seen.max() - seen.min()).item() == pytest.approx(0.5 * (ramp.max() - ramp.min()).item(), abs=4.0)


def test_a_view_acts_on_every_further_video_of_a_clip() -> None:
    batch = replace(Batch.unlabelled(noise(2)), views={"wide": noise(2, side=48)})
    assert torch.equal(Flipped()(batch).views["wide"], batch.views["wide"].flip(-1))


def test_what_holds_more_than_frames_is_refused() -> None:
    tokens = Tokens(values=torch.zeros(2, 1, 4), grid=(1, 1, 1))
    for batch in (Batch.unlabelled(noise(2), masks=masks_of(2)), Batch.unlabelled(noise(2)).with_tokens(tokens)):
        with pytest.raises(CalotError, match="a view changes frames alone"):
            Flipped()(batch)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """A video of 12 frames, 1000 to 1275, and one of 2; keyframes are 1000, 1100, 1275 and 2025."""
    made = Folder(tmp_path)
    made.video(1, split="train", frames=list(range(1000, 1300, 25)), votes={1000: NO, 1100: ALL, 1275: NO})
    made.video(2, split="train", frames=[2000, 2025], votes={2025: NO})
    return read_endoscapes(made.write())


def table(manifest: Manifest, protocol: Protocol) -> ClipTable:
    return build_clips(manifest, split="train", protocol=protocol, rule=RULE, label_rule=CentreLabel(), training=False)


def shifted(manifest: Manifest, protocol: Protocol, strides: int) -> dict[int, list[int]]:
    """The frames that each clip shows, by its labelled frame."""
    part, before = manifest.split("train"), protocol.before(RULE.length)
    seen = Shifted(strides=strides).clips(table(manifest, protocol), part=part, rule=RULE, before=before)
    return dict(zip(seen.frame_numbers.tolist(), seen.clip_frame_numbers.tolist(), strict=True))


def test_a_shift_shows_the_frames_one_stride_earlier_or_later_and_never_leaves_its_video(manifest: Manifest) -> None:
    earlier, later = (shifted(manifest, AllFrames(), strides) for strides in (-1, 1))
    assert (earlier[1100], later[1100]) == ([1050, 1075, 1100], [1100, 1125, 1150])
    assert (earlier[1000], later[1275]) == ([1000, 1000, 1000], [1275, 1275, 1275])
    assert (earlier[2025], later[2000]) == ([2000, 2000, 2025], [2000, 2025, 2025])


def test_a_shift_back_under_a_causal_protocol_ends_one_stride_before_the_scored_frame(manifest: Manifest) -> None:
    assert shifted(manifest, Keyframes(), -1) == {
        1000: [1000, 1000, 1000],  # nothing comes before it
        1100: [1025, 1050, 1075],
        1275: [1200, 1225, 1250],
        2025: [2000, 2000, 2000],
    }


def names(text: str, protocol: Protocol) -> list[str]:
    return [view.name for view in views_named(text, protocol=protocol)]


def test_words_stand_for_what_the_protocol_allows_the_clip_as_it_is_first() -> None:
    assert names("identity", Keyframes()) == ["identity"]
    assert names("shift,flip", Keyframes()) == ["identity", "flip", "shift-1"]
    assert names("flip, shift", AllFrames()) == ["identity", "flip", "shift-1", "shift+1"]
    assert names("crop-centre", Keyframes()) == ["identity", "crop-centre"]
    assert len(names("flip,shift,crops", AllFrames())) == 9
    assert len({view.name for view in EVERY}) == len(EVERY)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flipp", "no view 'flipp'. Did you mean \"flip\""),
        ("", "no view ''"),
        ("flip,flip", "flip is given twice"),
        ("shift+1", "shows frames after the scored one, and keyframes is causal"),
    ],
)
def test_a_word_that_asks_for_nothing_is_refused(text: str, said: str) -> None:
    with pytest.raises(CalotError, match=said.replace("+", r"\+")):
        views_named(text, protocol=Keyframes())


@dataclass(frozen=True)
class Frames:
    """A store of noise."""

    split: str
    pixels: np.ndarray
    path: str = "store"

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.pixels[rows]


@pytest.mark.parametrize("planted", [Cropped(place="centre", share=1.0), Shifted(strides=0), IDENTITY])
def test_a_view_that_changes_nothing_is_caught(manifest: Manifest, planted: AugmentedView) -> None:
    clips, part = table(manifest, Keyframes()), manifest.split("train")
    store: Any = Frames("train", noise(len(part), frames=1)[:, 0].numpy())
    plain = ViewedClips(clips, store)

    def seen(view: AugmentedView) -> ViewedClips:
        return ViewedClips(view.clips(clips, part=part, rule=RULE, before=2), store, view=view)

    said = require_changes([seen(Flipped()), seen(Shifted(strides=-1))], plain=plain)
    assert said == ["flip changes 4 of 4 clips looked at", "shift-1 changes 3 of 4 clips looked at"]
    with pytest.raises(CalotError, match=f"the view .*{planted.name[:4]}.* changes none of 4 clips"):
        require_changes([seen(Flipped()), seen(planted)], plain=plain)
