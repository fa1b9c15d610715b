"""Groups of clips, correlations and IoU over clips, on numbers known on paper."""

from __future__ import annotations

import numpy as np
import pytest

from calot.statistics.clip_groups import CATEGORIES, correlation_over_clips, of_category, only
from calot.statistics.confusion import NO_PIXEL, iou_intervals, iou_of


def test_categories_part_the_labelled_clips() -> None:
    labels = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0], [-1, 0, 0]], dtype=np.int8)
    held = np.stack([of_category(labels, name=name) for name in CATEGORIES])
    assert held.sum(axis=0).tolist() == [1, 1, 1, 1, 0]
    assert only(labels, criterion="two_structures").tolist() == [False, True, False, False, False]


def test_a_correlation_is_spearmans_and_undefined_where_nothing_varies() -> None:
    videos = np.repeat(list("abcd"), 3)
    a = np.arange(12.0)
    assert correlation_over_clips(a, a**3, videos=videos).value == pytest.approx(1.0)
    assert correlation_over_clips(a, np.ones(12), videos=videos).value is None


def test_iou_is_hit_over_union_of_all_clips_together() -> None:
    one = np.array([[6, 2], [0, 2]])
    two = np.array([[8, 0], [2, 0]])
    assert iou_of(one).tolist() == pytest.approx([6 / 8, 2 / 4])
    whole = iou_intervals(np.stack([one, two, one]), videos=["a", "b", "c"])
    assert [i.value for i in whole[:2]] == pytest.approx([20 / 26, 4 / 10])
    assert whole[2].value == pytest.approx((20 / 26 + 4 / 10) / 2)


def test_a_class_that_no_true_mask_shows_is_undefined_and_not_zero() -> None:
    counts = np.array([[[5, 3], [0, 0]]] * 3)
    found = iou_intervals(counts, videos=["a", "b", "c"])
    assert found[1].value is None
    assert found[1].reason == NO_PIXEL
    assert found[2].value == pytest.approx(5 / 8)
