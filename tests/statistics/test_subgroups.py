"""Subgroups and drift, recomputed naively, with the parts known beforehand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from naive_jackknife import naive_plain
from prediction_tables import clustered, table
from sklearn.metrics import average_precision_score

from calot.criteria import CRITERIA
from calot.statistics.appearance import Appearance, appearance_of
from calot.statistics.drift import drift
from calot.statistics.frame_sums import VideoUnits
from calot.statistics.metrics import sigmoid
from calot.statistics.predictions import Predictions
from calot.statistics.subgroups import Subgroup, passed_share, subgroups

BARE = Appearance(reason="no images here")


def parts(made: Predictions, *, appearance: Appearance = BARE) -> dict[str, Subgroup]:
    return {part.name: part for part in subgroups(made, appearance=appearance).found}


def uneven(*, seed: int = 0) -> Predictions:
    """Six short and six long videos, with rater means of 0, 1/3, 2/3 and 1."""
    rng = np.random.default_rng(seed)
    videos = np.repeat(np.arange(12), [20] * 6 + [50] * 6)
    votes = rng.random((len(videos), 3, 3)) < (0.25 + 0.3 * rng.random((12, 3, 1)))[videos]
    soft = votes.mean(axis=2)
    logits = 2 * soft + rng.normal(size=soft.shape) + rng.normal(size=(12, 3))[videos]
    frame = table(soft >= 0.5, logits=logits, videos=videos).with_columns(
        pl.Series(f"soft_{name}", soft[:, k].astype(np.float32)) for k, name in enumerate(CRITERIA)
    )
    return Predictions(frame=frame, frames_per_second=25.0)


def ap(made: Predictions, *, column: int, rows: np.ndarray) -> float:
    return float(average_precision_score(made.labels[rows, column], made.logits[rows, column].astype(float)))


def test_each_part_has_the_ap_of_its_own_frames() -> None:
    made = uneven()
    found, share = parts(made), passed_share(made)
    long = np.isin(made.videos, [str(v) for v in range(6, 12)])
    assert made.soft is not None
    for k, name in enumerate(CRITERIA):
        alike = np.isin(made.soft[:, k], (0, 1))
        rows = {
            "unanimous": alike, "not unanimous": ~alike, "short video": ~long, "long video": long,
            "first third": share < 1 / 3, "middle third": (share >= 1 / 3) & (share < 2 / 3),
            "last third": share >= 2 / 3,
        }  # fmt: skip
        assert set(rows) == set(found)
        for part, which in rows.items():
            item = found[part].criteria[name]
            assert item.ap.value == pytest.approx(ap(made, column=k, rows=which))
            assert item.chance == pytest.approx(made.labels[which, k].mean())
            assert item.difference.value == pytest.approx(
                ap(made, column=k, rows=which) - ap(made, column=k, rows=~which)
            )
            held = set(made.videos[which & (made.labels[:, k] == 1)].tolist())
            assert (item.positive_videos, item.frames) == (len(held), int(which.sum()))


def test_the_differences_interval_leaves_the_same_video_out_of_both_sides() -> None:
    made = uneven()
    item = parts(made)["last third"].criteria[CRITERIA[2]]
    late, left_out = passed_share(made) >= 2 / 3, []
    for name in np.unique(made.videos):
        kept = made.videos != name
        left_out.append(ap(made, column=2, rows=late & kept) - ap(made, column=2, rows=~late & kept))
    low, high = naive_plain(item.difference.value or 0.0, left_out)
    assert (item.difference.low, item.difference.high) == (pytest.approx(low), pytest.approx(high))
    assert item.ap.low is not None


def test_a_part_with_few_positive_videos_says_so_and_one_without_has_no_ap() -> None:
    made = uneven()
    frame = made.frame.with_columns(
        pl.when(pl.col("video").is_in(["0", "1", "7"])).then(pl.col("label_cystic_plate")).otherwise(0)
        .cast(pl.Int8).alias("label_cystic_plate")
    )  # fmt: skip
    found = parts(replace(made, frame=frame))
    short, long = (found[name].criteria["cystic_plate"] for name in ("short video", "long video"))
    assert short.few
    assert (short.positive_videos, long.positive_videos) == (2, 1)
    assert long.ap.low is None
    assert "in one video" in (long.ap.reason or "")
    none = parts(replace(made, frame=frame.with_columns(pl.lit(0, pl.Int8).alias("label_cystic_plate"))))
    item = none["long video"].criteria["cystic_plate"]
    assert (item.ap.value, item.ap.reason, item.difference.value) == (None, "no positive label", None)


def test_a_harder_part_is_found_with_an_interval_that_leaves_0_out() -> None:
    """Scores of the last third are noise."""
    made = clustered(videos=40, frames=60, gain=4.0)
    noise = np.random.default_rng(9).normal(size=len(made.frames))
    late = passed_share(made) >= 2 / 3
    frame = made.frame.with_columns(
        pl.Series("logit_two_structures", np.where(late, noise, made.logits[:, 0]).astype(np.float32))
    )
    item = parts(replace(made, frame=frame))["last third"].criteria["two_structures"]
    assert item.difference.high is not None
    assert item.difference.high < 0
    calm = parts(made)["last third"].criteria["two_structures"].difference
    assert calm.low is not None
    assert calm.low < 0 < (calm.high or 0)


def test_seeds_are_averaged_and_not_pooled() -> None:
    both = [clustered(run=run) for run in (0, 1)]
    joined = Predictions(frame=pl.concat([made.frame for made in both]))
    found = parts(joined)["last third"].criteria["two_structures"].ap.value
    alone = [parts(made)["last third"].criteria["two_structures"].ap.value for made in both]
    assert found == pytest.approx(np.mean(alone))  # type: ignore[arg-type]


def test_what_the_table_does_not_define_says_why() -> None:
    made = clustered()  # rater means of 0 and 2/3, videos of one length
    found = subgroups(replace(made, frame=made.frame.drop([f"soft_{name}" for name in CRITERIA])), appearance=BARE)
    assert found.undefined["raters"] == "the table holds no rater means"
    assert found.undefined["video length"] == "videos last alike: there is nothing to compare"
    assert found.undefined["brightness"] == found.undefined["sharpness"] == "no images here"


def test_frames_are_told_apart_by_brightness_in_the_order_of_their_rows() -> None:
    made = clustered(videos=8, frames=25)
    luma = np.random.default_rng(1).random(len(made.frames))
    kept = pl.DataFrame({"video": made.videos.tolist(), "frame": made.frames, "brightness": luma, "sharpness": -luma})
    seen = appearance_of(made, kept=kept.sample(fraction=1.0, shuffle=True, seed=3))
    assert seen.brightness == pytest.approx(luma)
    item = parts(made, appearance=seen)["dark frame"].criteria["two_structures"]
    assert item.ap.value == pytest.approx(ap(made, column=0, rows=luma < np.median(luma)))
    assert parts(made, appearance=seen)["sharp frame"].criteria["two_structures"].ap.value == pytest.approx(
        ap(made, column=0, rows=-luma >= np.median(-luma))
    )
    assert "not looked at yet" in str(appearance_of(made, kept=kept.head(20)).reason)


def test_how_far_an_operation_is_counts_from_its_first_to_its_last_frame() -> None:
    frame = table(np.zeros((6, 3)), logits=np.zeros((6, 3)), videos=["a"] * 5 + ["b"])
    made = Predictions(frame=frame.with_columns(pl.col("frame") + 4000))
    assert passed_share(made).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 0.0]


def test_drift_is_the_mean_forecast_minus_the_observed_share_of_each_fifth() -> None:
    made = clustered(videos=10, frames=30)
    share, units = passed_share(made), VideoUnits.of(made.videos)
    found = drift(made.labels[:, 0], logits=made.logits[:, 0], units=units, passed=share)
    off = sigmoid(made.logits[:, 0]) - made.labels[:, 0]
    for place, item in enumerate(found.parts):
        which = (share >= place / 5) & ((share < (place + 1) / 5) | (place == 4))
        assert item.value == pytest.approx(off[which].mean())
        left_out = [off[which & (made.videos != name)].mean() for name in np.unique(made.videos)]
        low, high = naive_plain(item.value or 0.0, left_out)
        assert (item.low, item.high) == (pytest.approx(low), pytest.approx(high))
    assert found.last_minus_first.value == pytest.approx(found.parts[4].value - found.parts[0].value)  # type: ignore[operator]


def test_a_model_that_promises_too_much_late_is_found_out() -> None:
    """Calibrated over the whole, 1.5 logits too low early and too high late."""
    rng = np.random.default_rng(2)
    videos, passed = np.repeat(np.arange(40), 50), np.tile(np.linspace(0, 1, 50), 40)
    truth = rng.normal(size=2000) + 0.3 * rng.normal(size=40)[videos]
    labels = (rng.random(2000) < sigmoid(truth)).astype(int)
    off = drift(labels, logits=truth + 3 * (passed - 0.5), units=VideoUnits.of(videos), passed=passed)
    true = drift(labels, logits=truth, units=VideoUnits.of(videos), passed=passed)
    assert off.parts[0].high is not None
    assert off.parts[0].high < 0 < (off.parts[4].low or 0)
    assert (off.last_minus_first.low or 0) > 0.2
    assert (true.last_minus_first.low or 0) < 0 < (true.last_minus_first.high or 0)


def test_a_fifth_without_frames_is_undefined_with_its_reason() -> None:
    found = drift([1, 0, 1, 0], logits=[0.0] * 4, units=VideoUnits.of(["a", "a", "b", "b"]), passed=[0, 1, 0, 1])
    assert found.parts[2].value is None
    assert found.parts[2].reason == "no scored frame in it"
