"""One hand-made operation whose every figure is counted by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from prediction_tables import clustered, table

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.calibration import Thresholds
from calot.statistics.predictions import Predictions
from calot.statistics.videos import per_video


def thresholds(*values: float | None) -> Thresholds:
    named = dict(zip(CRITERIA, values, strict=True))
    return Thresholds(values=named, split="val", protocol="keyframes", manifest_hash="m", fingerprint="f")


def operation() -> Predictions:
    """Video 10: twelve frames at 1 fps. Truth from frame 6; called at 1-2 (a false alarm), 8-9, 11."""
    truth = np.zeros((12, 3), dtype=int)
    truth[6:] = 1
    scores = np.full((12, 3), -1.0)
    scores[[1, 2, 8, 9, 11]] = 1.0
    quiet = np.zeros((3, 3), dtype=int)
    videos = [10] * 12 + [9] * 3
    made = table(np.r_[truth, quiet], logits=np.r_[scores, quiet - 1.0], videos=videos)
    return Predictions(frame=made, frames_per_second=25.0)


def test_every_figure_of_a_hand_counted_operation() -> None:
    found = per_video(operation(), thresholds=thresholds(0.0, 0.0, 0.0))
    assert [row.video for row in found.rows] == ["9", "10"]  # numbers as numbers
    row = found.rows[1]
    assert row.seconds == 12.0
    item = row.criteria["cystic_plate"]
    assert item.positives == 6
    assert item.prevalence == 0.5
    assert item.flips_per_minute == pytest.approx(5 / (12 / 60))
    assert item.false_alarms_per_hour == pytest.approx(1 / (12 / 3600))
    assert item.detection_seconds == 2.0
    assert row.achieved
    assert row.called
    assert item.reason is None


def test_a_video_without_positives_has_no_ap_and_says_why() -> None:
    item = per_video(operation(), thresholds=thresholds(0.0, 0.0, 0.0)).rows[0].criteria["two_structures"]
    assert item.ap is None
    assert item.detection_seconds is None
    assert item.reason == "no positive label"
    assert item.false_alarms_per_hour == 0.0


def test_operations_are_decided_by_all_three_criteria_in_one_frame() -> None:
    found = per_video(operation(), thresholds=thresholds(0.0, 0.0, 0.0)).operations
    assert found is not None
    assert (found.true_positives, found.true_negatives, found.false_positives, found.false_negatives) == (1, 1, 0, 0)
    missed = per_video(operation(), thresholds=thresholds(0.0, 0.0, 5.0)).operations
    assert missed is not None
    assert missed.sensitivity == 0.0


def test_a_missing_threshold_leaves_the_operation_undecided() -> None:
    found = per_video(operation(), thresholds=thresholds(0.0, None, 0.0))
    assert found.operations is None
    assert found.rows[1].called is None
    assert found.rows[1].criteria["hepatocystic_triangle"].flips_per_minute is None
    assert "no threshold" in (found.rows[1].criteria["hepatocystic_triangle"].reason or "")


def test_never_detected_is_said() -> None:
    item = per_video(operation(), thresholds=thresholds(9.0, 9.0, 9.0)).rows[1].criteria["cystic_plate"]
    assert item.detection_seconds is None
    assert "never called" in (item.reason or "")


def test_a_table_of_two_seeds_is_refused() -> None:
    both = Predictions(frame=pl.concat([clustered(run=0).frame, clustered(run=1).frame]))
    with pytest.raises(CalotError, match="by_seed"):
        per_video(both, thresholds=thresholds(0.0, 0.0, 0.0))
