"""Printed coverage: interpolated between positive videos, never better than what was simulated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from prediction_tables import clustered

import calot.statistics
from calot.statistics.coverage import interpolated, measured_coverage, rate_holds
from calot.statistics.intervals import video_intervals

NODES = [
    {"positive_videos": 4, "low_miss": 0.08, "high_miss": 0.02, "world": "x", "sets": 300, "standard_error": 0.017},
    {"positive_videos": 16, "low_miss": 0.04, "high_miss": 0.02, "world": "y", "sets": 900, "standard_error": 0.008},
]


def test_coverage_is_interpolated_on_the_logarithm_of_positive_videos() -> None:
    found = interpolated(NODES, "ap", positive_videos=8)
    assert found is not None
    assert (found.low_miss, found.high_miss) == (pytest.approx(0.06), pytest.approx(0.02))
    assert found.coverage == pytest.approx(0.92)


@pytest.mark.parametrize(("positive_videos", "coverage"), [(2, 0.90), (4, 0.90), (16, 0.94), (500, 0.94)])
def test_outside_the_simulated_sizes_the_nearest_is_printed(positive_videos: int, coverage: float) -> None:
    found = interpolated(NODES, "ap", positive_videos=positive_videos)
    assert found is not None
    assert found.coverage == pytest.approx(coverage)


def test_one_positive_video_or_no_table_has_no_coverage() -> None:
    assert interpolated(NODES, "ap", positive_videos=1) is None
    assert interpolated([], "ap", positive_videos=9) is None


def test_a_permutation_p_is_withheld_where_its_measured_false_rate_does_not_hold() -> None:
    nodes = [
        {"positive_videos": 4, "false_rate": 0.09, "standard_error": 0.01},
        {"positive_videos": 16, "false_rate": 0.06, "standard_error": 0.007},
    ]
    assert [rate_holds(nodes, positive_videos=n) for n in (3, 4, 8, 16, 99)] == [False, False, False, True, True]
    assert rate_holds([], positive_videos=40)


def test_what_is_printed_beside_an_interval_equals_the_shipped_table() -> None:
    made = clustered(videos=24)
    shown = video_intervals(made).coverage
    table = json.loads((Path(calot.statistics.__file__).parent / "interval_coverage.json").read_text(encoding="utf-8"))
    held = {name: len(set(made.videos[made.labels[:, k] == 1])) for k, name in enumerate(made.criteria)}
    for name, count in {**held, "map": min(held.values())}.items():
        nodes = table["coverage"]["map" if name == "map" else "ap"]
        at = np.log([node["positive_videos"] for node in nodes])
        missed = [node["low_miss"] + node["high_miss"] for node in nodes]
        found = shown[name]
        assert found is not None
        assert found.positive_videos == count
        assert found.coverage == pytest.approx(1 - np.interp(np.log(count), at, missed))
        assert found == measured_coverage("map" if name == "map" else "ap", positive_videos=count)


def test_a_method_that_was_not_measured_in_every_world_prints_no_coverage() -> None:
    assert set(video_intervals(clustered(), method="percentile", replicates=50).coverage.values()) == {None}
