"""The simulation that chooses the interval: shaped like val, and honest about the bad example."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import calot.statistics
from calot.bench.coverage import FRAME, World, measure_size, true_ap
from calot.statistics.intervals import METHODS


def test_simulated_sets_are_shaped_like_val() -> None:
    drawn = World().draw(np.random.default_rng(0), videos=20_000)
    lengths = np.bincount(drawn.videos)
    assert 45 < lengths.mean() < 65  # val keyframes: 2,331 / 41 = 57
    assert (lengths.min(), lengths.max()) == (7, 350)
    assert drawn.labels.mean(axis=0) == pytest.approx([0.163, 0.125, 0.167], abs=0.02)
    held = [len(np.unique(drawn.videos[drawn.labels[:, k]])) / 20_000 for k in range(3)]
    assert held == pytest.approx([0.54, 0.54, 0.49], abs=0.05)


def test_the_shipped_table_is_measured_and_complete() -> None:
    folder = Path(calot.statistics.__file__).parent
    shipped = json.loads((folder / "interval_coverage.json").read_text())
    assert shipped["sets"] >= 300
    assert {(row["method"], row["videos"]) for row in shipped["rows"]} == {
        (method, videos) for method in (*METHODS, FRAME) for videos in (10, 20, 41, 80, 120)
    }
    recorded = json.loads((Path(__file__).parents[2] / "docs/results/interval_coverage.json").read_text())
    assert recorded == shipped
    np.testing.assert_allclose(true_ap(World(), videos=20_000), shipped["true_ap"], atol=0.02)


@pytest.mark.slow
def test_frame_level_intervals_hold_the_truth_far_too_rarely() -> None:
    rows = {row["method"]: row for row in measure_size(World(), videos=41, sets=30, replicates=100, seed=7)}
    assert rows[FRAME]["map"] < 0.7
    assert rows["jackknife_logit"]["map"] > 0.8
