"""The target of SAGES' sub-challenge B and its score, by hand and beside the organisers' own formula."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.confidence import TARGETS, confidence_score, confidence_targets
from calot.statistics.predictions import Predictions


def test_the_target_by_hand() -> None:
    votes = np.array([[[1, 0, 1], [1, 0, 0], [0, 0, 1]]])
    got = confidence_targets(votes, confidences=[[1.0, 0.5, 0.25]])
    # c1: 0.5 + (1 * .5 + .5 * .5 - .25 * .5) / 3
    assert got[0] == pytest.approx([0.5 + 0.625 / 3, 0.5 - 0.875 / 3, 0.5 + 0.375 / 3])


def test_sure_raters_give_their_mean_and_unsure_ones_a_half() -> None:
    votes = np.random.default_rng(0).integers(0, 2, (20, 3, 3))
    assert confidence_targets(votes, confidences=np.ones((20, 3))) == pytest.approx(votes.mean(axis=1))
    assert (confidence_targets(votes, confidences=np.zeros((20, 3))) == 0.5).all()


def test_it_is_the_organisers_formula() -> None:
    """`confidence_multiplexed_majority_vote` of SAIIL/CVS_challenge_code."""
    rng = np.random.default_rng(1)
    votes, sure = rng.integers(0, 2, (50, 3, 3)), rng.choice([0, 0.25, 0.5, 0.75, 1], (50, 3))
    theirs = [[0.5 + 1 / 3.0 * np.dot(votes[i, :, k] - 0.5, sure[i]) for k in range(3)] for i in range(50)]
    assert confidence_targets(votes, confidences=sure) == pytest.approx(np.array(theirs), abs=1e-15)


@pytest.mark.parametrize(
    ("votes", "sure", "message"),
    [
        ([[[1, 0, 1]] * 3], [[1, 1, 2]], "confidences: need numbers from 0 to 1"),
        ([[[1, 0, 1]] * 3], [[1, 1, float("nan")]], "confidences: need numbers"),
        ([[[1, 0, -1]] * 3], [[1, 1, 1]], "votes: need 0 and 1 alone"),
        ([[[1, 0, 1]] * 3], [[1, 1]], "need .n, raters, criteria. and"),
    ],
)
def test_what_cannot_be_is_refused(votes: list[object], sure: list[object], message: str) -> None:
    with pytest.raises(CalotError, match=message):
        confidence_targets(votes, confidences=sure)


def made(videos: int = 6, frames: int = 10) -> tuple[Predictions, pl.DataFrame]:
    rng = np.random.default_rng(2)
    rows = [{"video": f"v{v}", "frame": 30 * f} for v in range(videos) for f in range(frames)]
    logits, targets = rng.normal(size=(len(rows), 3)), rng.uniform(size=(len(rows), 3))
    table = pl.DataFrame(rows).with_columns(
        *(pl.Series(f"logit_{c}", logits[:, k]) for k, c in enumerate(CRITERIA)),
        *(pl.Series(f"label_{c}", (targets[:, k] >= 0.5).astype(int)) for k, c in enumerate(CRITERIA)),
    )
    wanted = pl.DataFrame(rows).with_columns(pl.Series(name, targets[:, k]) for k, name in enumerate(TARGETS))
    return Predictions(frame=table, source="made"), wanted.sample(fraction=1, shuffle=True, seed=1)


def test_the_score_is_the_mean_squared_error_whatever_the_order_of_rows() -> None:
    table, targets = made()
    found = confidence_score(table, targets=targets)
    joined = table.frame.join(targets, on=["video", "frame"])
    errors = [
        float(((expit(joined[f"logit_{c}"].to_numpy()) - joined[t].to_numpy()) ** 2).mean())
        for c, t in zip(CRITERIA, TARGETS, strict=True)
    ]
    assert [found.criteria[c].value.value for c in CRITERIA] == pytest.approx(errors, abs=1e-6)
    assert found.mean.value == pytest.approx(np.mean(errors), abs=1e-6)
    assert found.mean.low is not None
    assert found.mean.low < found.mean.value < found.mean.high  # type: ignore[operator]
    assert found.to_dict()["criteria"][CRITERIA[0]]["reference"] > 0


def test_a_frame_without_a_target_is_named() -> None:
    table, targets = made()
    with pytest.raises(CalotError, match="video v3, frame 60 has no target"):
        confidence_score(table, targets=targets.filter(~((pl.col("video") == "v3") & (pl.col("frame") == 60))))
