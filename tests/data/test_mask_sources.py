"""True masks: which clip gets which, and from which source."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from endoscapes_folder import Folder
from PIL import Image

from calot.data.clip_rules import ClipRule
from calot.data.clips import CentreLabel, Keyframes, build_clips
from calot.data.geometry import Squash
from calot.data.masks import ClipMasks, _in_windows, open_masks
from calot.data.readers import open_folder
from calot.types import IGNORED

LENGTH, SIZE = 4, 8
PLACE = LENGTH - 1  # of the labelled frame, the last of four


def _mask(path: Path, fill: int, *, shape: tuple[int, ...] = (24, 40)) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full(shape, fill, dtype=np.uint8)).save(path)


def _opened(root: Path, *, synthetic: str | None = None, nearest_only: bool = False) -> ClipMasks:
    manifest = open_folder(root, synthetic_masks=None if synthetic is None else Path(synthetic)).manifest
    rules = {"protocol": Keyframes(), "rule": ClipRule(length=LENGTH, pad_to=LENGTH), "label_rule": CentreLabel()}
    table = build_clips(manifest, split="train", training=True, **rules)
    part = manifest.split("train")
    return open_masks(root, table, part, geometry=Squash(), size=SIZE, labelled_place=PLACE, nearest_only=nearest_only)


@pytest.fixture
def root(folder: Callable[[], Folder]) -> Path:
    """Two training videos of 12 frames, 25 apart, with keyframes 2, 7 and 11: six clips, in the order 2, 10."""
    return folder().write_images()


def test_a_clip_gets_the_mask_nearest_to_its_labelled_frame_with_its_place(root: Path) -> None:
    _mask(root / "semseg" / "2_2050.png", 1)  # video 2: on keyframe 2 itself
    _mask(root / "semseg" / "2_2125.png", 2)  # two frames before keyframe 7
    _mask(root / "semseg" / "2_2100.png", 3)  # three before it
    _mask(root / "semseg" / "2_2175.png", 4)  # keyframe 7 itself
    _mask(root / "semseg" / "10_10125.png", 2)  # video 10: two before keyframe 7
    found = _opened(root, nearest_only=True)
    assert found.read(np.arange(6)).values[:, :, 0, 0].tolist() == [[1], [4], [IGNORED], [IGNORED], [2], [IGNORED]]
    assert found.place.tolist() == [[3], [3], [3], [3], [1], [3]]
    assert found.read(np.arange(6)).weight[:, 0].tolist() == [1, 1, 0, 0, 1, 0]
    every = _opened(root)
    masks = every.read(np.arange(6))
    assert masks.values[:2, :, 0, 0].tolist() == [[1, IGNORED, IGNORED], [4, 2, 3]]  # nearest first
    assert masks.weight.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert masks.place[1].tolist() == [3, 1, 0]
    assert masks.complete.tolist() == [True, True, False, False, True, False]
    assert every.read(np.array([0, 4])).values.shape[1] == 1  # as many layers as these clips need
    assert every.coverage() == found.coverage()


def test_a_frame_repeated_to_fill_a_clip_gives_its_mask_once() -> None:
    of_frame = np.array([[7, 7, 7, 8], [-1, -1, 5, 5], [-1, -1, -1, -1]])
    which, place = _in_windows(of_frame, labelled_place=3, most=None)
    assert which.tolist() == [[8, 7], [5, -1], [-1, -1]]
    assert place.tolist() == [[3, 2], [3, 3], [3, 3]]


def test_coverage_is_told_by_source_and_without_the_synthetic_folder(root: Path) -> None:
    """Human masks in two of six clips; a synthetic folder adds two more and may stand nearer than a human one."""
    _mask(root / "semseg" / "2_2050.png", 1)
    _mask(root / "semseg" / "10_10125.png", 2)
    _mask(root / "sam2" / "2_2050.png", 4)  # the human one wins on the same frame
    _mask(root / "sam2" / "10_10175.png", 3)  # nearer to keyframe 7 than the human one
    for name in ("2_2175", "10_10275"):
        _mask(root / "sam2" / f"{name}.png", 3)
    alone, both = _opened(root), _opened(root, synthetic="sam2")
    assert alone.coverage() == {"human": 2 / 6, "all": 2 / 6, "without synthetic": 2 / 6}
    assert both.coverage() == {"human": 1 / 6, "synthetic": 3 / 6, "all": 4 / 6, "without synthetic": 2 / 6}
    assert both.read(np.arange(6)).values[:, 0, 0, 0].tolist() == [1, 3, IGNORED, IGNORED, 3, 3]
    assert both.summary()["masks"] == {"human": 2, "synthetic": 3}
    assert (both.summary()["clips"], both.summary()["digest"] != alone.summary()["digest"]) == (6, True)


def test_no_mask_at_all_is_no_coverage(root: Path) -> None:
    found = _opened(root)
    assert found.coverage() == {"all": 0.0, "without synthetic": 0.0}
    assert found.summary()["masks"] == {}
