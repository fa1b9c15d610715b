"""Features of masks and tokens, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from endoscapes_folder import ALL, Folder
from PIL import Image

from calot.analysis.cue_places import CuePlaces
from calot.analysis.explaining.cue import token_shares
from calot.analysis.explaining.feature_gap import class_places, pooled_inside
from calot.data.clip_rules import ClipRule
from calot.data.clips import AllFrames, CentreLabel, build_clips
from calot.data.geometry import Squash
from calot.data.readers import open_folder
from calot.errors import CalotError
from calot.types import IGNORED, MASK_PIXELS, Tokens


def test_a_mask_is_its_areas_places_and_spreads() -> None:
    mask = np.zeros((1, 8, 8), dtype=np.uint8)
    mask[0, 0:4, 6:8] = 2
    mask[0, 7, :] = IGNORED
    plate, triangle, artery, _ = class_places(mask).reshape(4, 6)
    assert triangle.tolist() == pytest.approx([1.0, 8 / 56, 0.25, 0.875, np.std([0.5, 1.5, 2.5, 3.5]) / 8, 0.0625])
    assert plate.tolist() == artery.tolist() == [0.0, 0.0, 0.5, 0.5, 0.0, 0.0]
    assert class_places(np.full((2, 8, 8), IGNORED, dtype=np.uint8)).shape == (2, 24)


def test_tokens_inside_a_mask_are_weighted_by_their_share_of_it_in_every_bin() -> None:
    grid = (2, 2, 2)
    values = torch.arange(8.0)[None, :, None] + torch.tensor([0.0, 100.0])
    anatomy = torch.zeros(1, 2 * MASK_PIXELS, 2 * MASK_PIXELS, dtype=torch.bool)
    anatomy[0, :MASK_PIXELS, :MASK_PIXELS] = True
    anatomy[0, :MASK_PIXELS, MASK_PIXELS : MASK_PIXELS + 2] = True  # half of the second token
    found = pooled_inside(Tokens(values, grid), anatomy)
    mean = (0 + 4 + 0.5 * (1 + 5)) / 3
    assert found[0].tolist() == pytest.approx([mean, mean + 100, 1.0])
    none = pooled_inside(Tokens(values, grid), torch.zeros_like(anatomy))
    assert none[0].tolist() == [0.0, 0.0, 0.0]


def test_a_place_is_shared_out_to_tokens_by_pixels_and_frames() -> None:
    place = torch.zeros(4, 8, 8, dtype=torch.bool)
    place[0, 0:4, 4:8] = True
    share = token_shares(place, grid=(2, 2, 2))
    assert share.tolist() == [0, 0.5, 0, 0, 0, 0, 0, 0]


def test_places_of_a_cue_are_found_by_frame_and_bad_files_are_refused(tmp_path: Path) -> None:
    made = Folder(root=tmp_path / "endoscapes")
    frames = list(range(0, 200, 25))
    root = made.video(121, split="val", frames=frames, votes={frames[-1]: ALL}).write()
    table = build_clips(
        open_folder(root).manifest,
        split="val",
        training=False,
        protocol=AllFrames(),
        rule=ClipRule(length=8),
        label_rule=CentreLabel(),
    )
    cue = CuePlaces(root=root, geometry=Squash(), size=16)
    assert cue.absent is not None
    (root / "cue").mkdir()
    assert cue.absent is not None, "an empty folder says nothing"
    place = np.zeros((480, 854), dtype=np.uint8)
    place[:240, :427] = 255
    Image.fromarray(place).save(root / "cue" / "121_100.png")
    assert cue.absent is None
    index = int(np.flatnonzero(table.frame_numbers == 100)[0])
    assert cue.shown(table).tolist() == [number == 100 for number in table.frame_numbers.tolist()]
    seen = cue.of_clip(table, index)
    here = table.clip_frame_numbers[index] == 100
    assert seen.sum(axis=(1, 2)).tolist() == [64 * int(one) for one in here]
    Image.fromarray(place // 2).save(root / "cue" / "121_100.png")
    with pytest.raises(CalotError, match=r"121_100\.png: a cue's place is written as 0 and 255"):
        cue.of_clip(table, index)
    (root / "cue" / "121_100.png").write_bytes(b"no picture")
    with pytest.raises(CalotError, match=r"121_100\.png"):
        cue.of_clip(table, index)
