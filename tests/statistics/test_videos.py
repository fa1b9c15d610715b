"""One hand-made operation whose every figure is counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from naive_jackknife import naive_plain
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
    assert found.sensitivity.low == pytest.approx(0.025)  # one of one: 0.025^(1/1)
    assert (found.true_positives, found.true_negatives, found.false_positives, found.false_negatives) == (1, 1, 0, 0)
    missed = per_video(operation(), thresholds=thresholds(0.0, 0.0, 5.0)).operations
    assert missed is not None
    assert missed.sensitivity.value == 0.0


def test_rates_over_operations_are_totals_over_total_time() -> None:
    """15 s in all: five flips, one false alarm; one operation with a positive label, called 2 s after it."""
    found = per_video(operation(), thresholds=thresholds(0.0, 0.0, 9.0)).rates
    item, never = found["two_structures"], found["cystic_plate"]
    assert item.flips_per_minute.value == pytest.approx(5 / (15 / 60))
    assert item.false_alarms_per_hour.value == pytest.approx(1 / (15 / 3600))
    assert "2 videos" in str(item.flips_per_minute.reason)
    assert (item.detected.value, item.detection_seconds.value) == (1.0, 2.0)
    assert (never.detected.value, never.detected.high) == pytest.approx((0.0, 0.975))
    assert (never.detection_seconds.value, never.detection_seconds.reason) == (None, "never detected")


def test_rates_over_operations_have_the_interval_of_leaving_each_operation_out() -> None:
    made = clustered(videos=6, frames=25)
    whole = per_video(made, thresholds=thresholds(0.5, 0.5, 0.5))
    found, delays = whole.rates["two_structures"], [row.criteria["two_structures"] for row in whole.rows]
    left_out = []
    for name in sorted(set(made.videos.tolist())):
        others = replace(made, frame=made.frame.filter(pl.col("video") != name))
        rates = per_video(others, thresholds=thresholds(0.5, 0.5, 0.5)).rates["two_structures"]
        left_out.append((rates.flips_per_minute.value or 0.0, rates.false_alarms_per_hour.value or 0.0))
    for item, column in ((found.flips_per_minute, 0), (found.false_alarms_per_hour, 1)):
        low, high = naive_plain(item.value or 0.0, [values[column] for values in left_out])
        assert (item.low, item.high) == pytest.approx((max(low, 0.0), high))
    seconds = [d.detection_seconds for d in delays if d.detection_seconds is not None]
    assert found.detection_seconds.value == pytest.approx(np.mean(seconds))
    assert found.detected.value == pytest.approx(len(seconds) / sum(d.positives > 0 for d in delays))


def test_without_thresholds_or_rate_the_reason_stands_in_every_rate() -> None:
    bare = per_video(operation(), thresholds=None).rates["two_structures"]
    assert "no thresholds" in str(bare.flips_per_minute.reason)
    untimed = replace(operation(), frames_per_second=None)
    timeless = per_video(untimed, thresholds=thresholds(0.0, 0.0, 0.0)).rates["two_structures"]
    assert "frame rate unknown" in str(timeless.detected.reason)


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


def held(*, labels: list[int], frames: list[int], seconds: float) -> tuple[bool | None, bool | None]:
    """Whether all three held in truth and in decision; one video at 25 frame numbers per second, and a quiet one."""
    truth = np.repeat(np.array(labels)[:, None], 3, axis=1)
    frame = table(np.r_[truth, np.zeros((2, 3), int)], logits=np.r_[truth - 0.5, np.full((2, 3), -1.0)],
                  videos=["1"] * len(labels) + ["2"] * 2)  # fmt: skip
    frame = frame.with_columns(pl.Series("frame", [*frames, 0, 25]))
    made = Predictions(frame=frame, frames_per_second=25.0)
    row = per_video(made, thresholds=thresholds(0.0, 0.0, 0.0), held_seconds=seconds).rows[0]
    return row.achieved, row.called


def test_all_three_must_hold_for_as_long_as_was_asked() -> None:
    """Frames 5 s apart: three in a row span 10 s, from the first to the last."""
    frames = [125 * place for place in range(7)]
    for labels, longest in (([0, 1, 1, 1, 0, 1, 0], 10), ([1, 1, 0, 1, 1, 0, 1], 5), ([0, 1, 0, 1, 0, 1, 0], 0)):
        for seconds in (0, 5, 10, 15):
            assert held(labels=labels, frames=frames, seconds=seconds) == (seconds <= longest, seconds <= longest)
    assert held(labels=[0] * 7, frames=frames, seconds=0) == (False, False)


def test_nobody_looked_in_a_gap_so_that_nothing_held_across_it() -> None:
    frames = [0, 125, 250, 375, 1000, 1125, 1250]
    assert held(labels=[0, 0, 1, 1, 1, 1, 0], frames=frames, seconds=6.0) == (False, False)
    assert held(labels=[0, 0, 1, 1, 1, 1, 0], frames=frames, seconds=5.0) == (True, True)


def test_decisions_held_for_a_time_are_counted_with_intervals() -> None:
    made = clustered(videos=20, frames=40)
    for seconds in (0.0, 1.0, 3.0):
        found = per_video(made, thresholds=thresholds(0.0, 0.0, 0.0), held_seconds=seconds)
        assert found.held_seconds == seconds
        assert found.operations is not None
        both = [bool(row.achieved) and bool(row.called) for row in found.rows]
        assert found.operations.true_positives == sum(both)
        assert found.operations.specificity.low is not None
    counts = [
        sum(bool(row.called) for row in per_video(made, thresholds=thresholds(0.0, 0.0, 0.0), held_seconds=s).rows)
        for s in (0.0, 1.0, 3.0, 1e6)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0


def test_without_a_frame_rate_nothing_can_be_held_for_a_time() -> None:
    untimed = replace(operation(), frames_per_second=None)
    assert per_video(untimed, thresholds=thresholds(0.0, 0.0, 0.0)).operations is not None
    found = per_video(untimed, thresholds=thresholds(0.0, 0.0, 0.0), held_seconds=5.0)
    assert found.operations is None
    assert {row.achieved for row in found.rows} == {None}
    with pytest.raises(CalotError, match="held for -1 seconds"):
        per_video(operation(), thresholds=None, held_seconds=-1)
