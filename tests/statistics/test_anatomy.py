"""Attention on the anatomy by video: means over clips, and the jackknife written out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from naive_jackknife import naive_logit, naive_plain

from calot.errors import CalotError
from calot.statistics.anatomy import attention_file, attention_on_anatomy

VIDEOS = [
    {"video": "121", "clips": 4, "mass": 0.20, "area": 0.10},
    {"video": "122", "clips": 10, "mass": 0.25, "area": 0.20},
    {"video": "123", "clips": 1, "mass": 0.05, "area": 0.10},
    {"video": "124", "clips": 5, "mass": 0.30, "area": 0.15},
]


def written(run: Path, **changes: Any) -> Path:
    held = {"format": 1, "run": {}, "split": "val", "stage": 1, "epoch": 3, "videos": VIDEOS, **changes}
    path = attention_file(run, split="val")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(held))
    return run


def mean(name: str, without: int | None = None) -> float:
    kept = [video for place, video in enumerate(VIDEOS) if place != without]
    return sum(v["clips"] * v[name] for v in kept) / sum(v["clips"] for v in kept)


def test_each_clip_counts_once_and_each_video_is_left_out_once(tmp_path: Path) -> None:
    found = attention_on_anatomy(written(tmp_path), split="val")
    assert found is not None
    assert (found.clips, found.videos, found.epoch) == (20, 4, 3)
    assert found.mass.value == pytest.approx((0.8 + 2.5 + 0.05 + 1.5) / 20)
    assert found.area.value == pytest.approx((0.4 + 2.0 + 0.1 + 0.75) / 20)
    assert found.enrichment.value == pytest.approx(4.85 / 3.25)
    left_out = [mean("mass", place) for place in range(4)]
    assert (found.mass.low, found.mass.high) == pytest.approx(naive_logit(mean("mass"), left_out))
    ratios = [mean("mass", place) / mean("area", place) for place in range(4)]
    low, high = naive_plain(4.85 / 3.25, ratios)
    assert (found.enrichment.low, found.enrichment.high) == pytest.approx((max(low, 0.0), high))


def test_two_videos_have_a_value_without_an_interval(tmp_path: Path) -> None:
    found = attention_on_anatomy(written(tmp_path, videos=VIDEOS[:2]), split="val")
    assert found is not None
    assert (found.mass.low, found.mass.reason) == (None, "2 videos: an interval over videos needs 3")


def test_what_was_not_kept_is_none_and_what_is_damaged_is_refused_by_name(tmp_path: Path) -> None:
    assert attention_on_anatomy(None, split="val") is attention_on_anatomy(tmp_path, split="val") is None
    for change, match in (
        ({"videos": [VIDEOS[0] | {"mass": 1.5}]}, r"val\.json: videos\.0\.mass"),
        ({"videos": []}, r"val\.json: not the attention of val"),
        ({"split": "test"}, r"val\.json: not the attention of val"),
    ):
        with pytest.raises(CalotError, match=match):
            attention_on_anatomy(written(tmp_path, **change), split="val")
