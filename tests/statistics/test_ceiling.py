"""The rater ceiling: raters and model on one target, equal to what real votes give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from naive_jackknife import naive_logit, naive_plain, without_each_video
from prediction_tables import clustered, table
from sklearn.metrics import average_precision_score

from calot.criteria import CRITERIA
from calot.statistics.ceiling import NO_DISAGREEMENT, NO_MEANS, NOT_MEANS, count_raters, rater_ceiling
from calot.statistics.predictions import Predictions


def voted(*, raters: int = 3) -> tuple[Predictions, np.ndarray]:
    """Predictions with rater means, and the votes (frame, rater, criterion) behind them."""
    made = clustered(videos=10, frames=30)
    rng = np.random.default_rng(9)
    flips = rng.random((len(made.labels), raters, 3)) < 0.15
    votes = np.where(flips, 1 - made.labels[:, None, :], made.labels[:, None, :])
    frame = table(votes.mean(axis=1) >= 0.5, logits=made.logits, videos=made.videos, soft=False)
    soft = {f"soft_{name}": votes[:, :, k].mean(axis=1).astype(np.float32) for k, name in enumerate(CRITERIA)}
    made_frame = frame.with_columns(**{name: np.asarray(values) for name, values in soft.items()})
    return Predictions(frame=made_frame), votes


@pytest.mark.parametrize("raters", [2, 3, 5])
def test_the_ceiling_from_rater_means_is_that_of_the_votes_themselves(raters: int) -> None:
    made, votes = voted(raters=raters)
    order = np.lexsort((made.frames, made.videos))
    assert (order == np.arange(len(order))).all()  # rows as the votes have them
    found = rater_ceiling(made)
    assert found.raters == raters

    def figures(rows: np.ndarray) -> Any:
        both = []
        for k in range(3):
            vote = votes[rows][:, :, k]
            others = (vote.sum(axis=1, keepdims=True) - vote) / (raters - 1)
            model = np.repeat(made.logits[rows, k], raters)
            both.append([average_precision_score(vote.ravel(), score) for score in (others.ravel(), model)])
        return np.array(both)

    whole, videos = figures(np.arange(len(votes))), made.videos
    for k, name in enumerate(CRITERIA):
        item = found.ap[name]
        assert (item.ceiling.value, item.model.value) == pytest.approx(tuple(whole[k]))
    left_out = np.array(without_each_video(videos, figures)).mean(axis=1)
    ceiling, model = whole.mean(axis=0)
    assert found.map is not None
    assert (found.map.ceiling.low, found.map.ceiling.high) == pytest.approx(naive_logit(ceiling, left_out[:, 0]))
    assert (found.map.model.low, found.map.model.high) == pytest.approx(naive_logit(model, left_out[:, 1]))
    assert (found.map.difference.low, found.map.difference.high) == pytest.approx(
        naive_plain(model - ceiling, left_out[:, 1] - left_out[:, 0])
    )


def test_a_hand_counted_ceiling() -> None:
    """Votes 110, 000, 111, 100 of three raters: score 1 has 3 votes for of 3; 0.5 has 2 of 4; 0 has 1 of 5."""
    soft = [2 / 3, 0, 1, 1 / 3]
    frame = table([[1] * 3, [0] * 3, [1] * 3, [0] * 3], logits=np.ones((4, 3)), videos=list("abcd"), soft=False)
    columns = {f"soft_{name}": np.array(soft, dtype=np.float32) for name in CRITERIA}
    found = rater_ceiling(Predictions(frame=frame.with_columns(**columns)))
    # score 1: three of frame c, one of frame a (its rater against); 0.5: a's two for, d's two against; 0: the rest
    expected = 3 / 6 * 3 / 4 + 2 / 6 * 5 / 8 + 1 / 6 * 6 / 12
    assert found.ap["cystic_plate"].ceiling.value == pytest.approx(expected)
    assert found.ap["cystic_plate"].model.value == pytest.approx(6 / 12)


def test_how_many_raters_there_were_is_read_off_their_means() -> None:
    thirds = np.array([[0, 1 / 3, 1]], dtype=np.float32)
    assert count_raters(thirds) == (3, None)
    assert count_raters(np.array([[0.5, 0.25, 1]], dtype=np.float32)) == (4, None)
    assert count_raters(np.array([[0, 1, 1]], dtype=np.float32)) == (None, NO_DISAGREEMENT)
    assert count_raters(np.array([[0.517, 0.1234, 1]], dtype=np.float32)) == (None, NOT_MEANS)


def test_a_table_without_rater_means_has_no_ceiling() -> None:
    made = clustered()
    found = rater_ceiling(Predictions(frame=made.frame.drop([f"soft_{name}" for name in CRITERIA])))
    assert (found.raters, found.map, found.reason) == (None, None, NO_MEANS)
    assert found.to_dict()["reason"] == NO_MEANS
