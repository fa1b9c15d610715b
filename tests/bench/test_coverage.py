"""The simulation behind printed coverage: its worlds, its counts, its resuming, and that what is printed is what it
measured.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import calot.statistics
from calot.bench import coverage as bench
from calot.bench.coverage_report import markdown, shipped_table
from calot.bench.tallies import bin_of, count_interval, total
from calot.bench.worlds import WORLDS, Training, World, exact_ap, gain_curve, true_ap
from calot.statistics.coverage import measured_coverage
from calot.statistics.metrics import mean_ap

RECORD = Path(__file__).parents[2] / "docs/results/interval_coverage.json"
SHIPPED = Path(calot.statistics.__file__).parent / "interval_coverage.json"


def test_simulated_sets_are_shaped_like_val() -> None:
    drawn = World().draw(np.random.default_rng(0), videos=20_000)
    lengths = np.bincount(drawn.videos)
    assert 45 < lengths.mean() < 65  # val keyframes: 2,331 / 41 = 57
    assert (lengths.min(), lengths.max()) == (7, 350)
    assert drawn.labels.mean(axis=0) == pytest.approx([0.163, 0.125, 0.167], abs=0.02)
    assert np.array(drawn.positive_videos) / 20_000 == pytest.approx([0.54, 0.54, 0.49], abs=0.05)


def test_worlds_differ_in_what_their_names_say() -> None:
    truth = {name: float(true_ap(world, videos=1500).mean()) for name, world in WORLDS.items()}
    assert truth["good models"] > 0.9 > truth["weak video effects"] > truth["typical"] > truth["strong video effects"]
    assert truth["strong video effects"] > truth["dominating video effects"]
    rare = WORLDS["rare positives"].draw(np.random.default_rng(0), videos=1000)
    assert rare.labels.mean() < 0.06


def test_the_truth_is_sklearns_ap_and_rises_with_the_gain() -> None:
    drawn = World().draw(np.random.default_rng(1), videos=30)
    expected = list(mean_ap(drawn.labels, drawn.scores).ap.values())
    assert exact_ap(drawn.labels, drawn.scores).tolist() == pytest.approx(expected, abs=1e-12)
    _, curve = gain_curve(World(), videos=300)
    assert (np.diff(curve, axis=0) > 0).all()
    assert curve[-1, 3] > 0.99


def test_a_tally_tells_misses_below_from_misses_above() -> None:
    tally: dict[str, dict[str, list[float]]] = {}
    for truth in (0.1, 0.5, 0.5, 0.9, 0.95):
        count_interval(tally, "ap", 7, low=0.2, high=0.8, truth=truth)
    assert tally == {"ap": {"6": [5, 1, 2, 35]}}
    assert total(tally, "ap") == [5, 1, 2, 35]
    assert [bin_of(n) for n in (2, 3, 4, 8, 9, 1000)] == ["2", "2", "4", "6", "9", "90"]


def test_what_is_shipped_and_written_is_computed_from_the_recorded_counts() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    assert json.loads(SHIPPED.read_text(encoding="utf-8")) == shipped_table(record)
    assert RECORD.with_suffix(".md").read_text(encoding="utf-8") == markdown(record)
    assert set(record["cells"]) == set(bench.cells())


def test_every_world_and_size_holds_what_is_printed_to_a_point_and_a_half() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    for key, cell in record["cells"].items():
        for quantity in ("ap", "map", "difference_ap", "difference_map"):
            n, low, high, positive = total(cell["tally"], quantity)
            if n < 100:
                continue
            printed = measured_coverage(quantity, positive_videos=max(2, round(positive / n)))
            noise = 2 * np.sqrt(0.05 * 0.95 / n)
            assert 1 - (low + high) / n > printed.coverage - 0.015 - noise, (key, quantity)  # type: ignore[union-attr]


def test_blocks_add_up_to_one_run_and_a_stopped_run_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(median_length=10, longest=40)
    gain_curve(world, videos=200)
    monkeypatch.setattr(bench, "gain_curve", lambda world: gain_curve(world, videos=200))
    cell = {"intervals | small | 10": (bench.interval_block, world, 10)}
    monkeypatch.setattr(bench, "cells", lambda: cell)
    whole = bench.interval_block(world, videos=10, first=0, sets=60, seed=3)
    record: dict[str, object] = {"cells": {}}
    saved: list[int] = []
    bench.measure(record, sets=50, seed=3, save=lambda: saved.append(1))
    resumed = json.loads(json.dumps(record))
    bench.measure(resumed, sets=60, seed=3, save=lambda: saved.append(2))
    assert resumed["cells"]["intervals | small | 10"] == {"sets": 60, "tally": whole}
    assert total(whole, "map")[0] > 40
    assert 1 - sum(total(whole, "ap")[1:3]) / total(whole, "ap")[0] > 0.85
    assert sum(total(whole, "null_map")[1:3]) / total(whole, "null_map")[0] < 0.15


def test_runs_of_one_treatment_have_equal_true_ap() -> None:
    drawn = World().draw(np.random.default_rng(2), videos=2000)
    rng = np.random.default_rng(3)
    a, b = (exact_ap(drawn.labels, Training().scores(drawn, rng=rng)) for _ in "ab")
    assert a == pytest.approx(b, abs=0.04)
