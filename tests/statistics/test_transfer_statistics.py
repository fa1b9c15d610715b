"""Internal minus external: the value, its interval from both sets' videos, and when there is none."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from calot.criteria import CRITERIA
from calot.statistics.metrics import mean_ap
from calot.statistics.predictions import Predictions
from calot.statistics.transfer import site_scores, transferred


def made(*, seed: int, gain: float, videos: int = 12, frames: int = 20, dataset: str = "here") -> Predictions:
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=(videos * frames, 3)) < 0.3).astype(int)
    logits = gain * labels + rng.normal(size=labels.shape)
    names = [f"v{i // frames}" for i in range(videos * frames)]
    frame = pl.DataFrame({"video": names, "frame": [i % frames for i in range(videos * frames)]}).with_columns(
        pl.lit(dataset).alias("dataset"),
        pl.lit("val").alias("split"),
        pl.lit("keyframes").alias("protocol"),
        *(pl.Series(f"logit_{c}", logits[:, k]) for k, c in enumerate(CRITERIA)),
        *(pl.Series(f"label_{c}", labels[:, k]) for k, c in enumerate(CRITERIA)),
    )
    return Predictions(frame=frame, source=dataset)


def test_the_drop_is_the_difference_of_the_two_scores() -> None:
    here, there = made(seed=1, gain=2.0), made(seed=2, gain=0.5, dataset="there")
    found = transferred([here], [there])
    scores = [mean_ap(t.labels, t.logits) for t in (here, there)]
    assert found.drop["map"].value == pytest.approx(scores[0].value - scores[1].value, abs=1e-9)
    for name in CRITERIA:
        assert found.drop[name].value == pytest.approx(scores[0].ap[name] - scores[1].ap[name], abs=1e-9)
    assert found.drop["map"].low > 0
    assert found.external.dataset == "there"
    assert site_scores([here]).ap["map"].value == pytest.approx(scores[0].value, abs=1e-9)


def test_several_runs_are_averaged() -> None:
    here = [made(seed=1, gain=2.0), made(seed=1, gain=1.0)]
    one, two = (transferred([t], [made(seed=2, gain=0.5)]).drop["map"].value for t in here)
    assert transferred(here, [made(seed=2, gain=0.5)]).drop["map"].value == pytest.approx((one + two) / 2, abs=1e-9)


@pytest.mark.slow
def test_the_interval_of_no_drop_covers_zero_about_as_often_as_it_says() -> None:
    """Two samples of one population: 200 pairs, of which about 95 % contain 0."""
    inside = 0
    for draw in range(200):
        pair = [made(seed=1000 * side + draw, gain=1.0, videos=10, frames=8) for side in (1, 2)]
        drop = transferred([pair[0]], [pair[1]]).drop["map"]
        inside += drop.low <= 0 <= drop.high
    assert 0.88 <= inside / 200 <= 0.99


def test_without_enough_videos_or_positives_there_is_no_interval() -> None:
    few = transferred([made(seed=1, gain=1.0)], [made(seed=2, gain=1.0, videos=2)])
    assert few.drop["map"].low is None
    assert "2 videos on one of the two data sets" in str(few.drop["map"].reason)
    bare = made(seed=2, gain=1.0)
    none = Predictions(
        frame=bare.frame.with_columns(pl.lit(0, dtype=pl.Int8).alias(f"label_{CRITERIA[1]}")), source="bare"
    )
    found = transferred([made(seed=1, gain=1.0)], [none])
    assert found.drop[CRITERIA[1]].value is None
    assert "no positive label" in str(found.drop[CRITERIA[1]].reason)
    assert found.drop[CRITERIA[0]].value is not None
