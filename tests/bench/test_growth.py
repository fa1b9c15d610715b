"""Growth: slopes of planted functions, every panel with finite points, memory by hand, a figure that can be read."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import calot
from PIL import Image

from calot.bench.growth import (
    GrowthCurve,
    GrowthPanel,
    GrowthPoint,
    GrowthQuestion,
    GrowthWay,
    GrowthWork,
    exponent,
    fitted_slope,
    growth_table,
    measured_growth,
    traced_megabytes,
)
from calot.bench.growth_figure import draw_growth, spread_out
from calot.bench.growth_questions import USUAL
from calot.bench.side_by_side import Seconds
from calot.bench.window import peak_megabytes

OVER = ("tokens", "videos", "frames", "replicates", "runs")


def test_a_quadratic_cost_has_slope_2_a_linear_one_1_and_a_constant_one_0() -> None:
    sizes = (10, 20, 40, 80, 160)
    for power in (0, 1, 2):
        assert fitted_slope(sizes, values=[3e-4 * n**power for n in sizes]) == pytest.approx(power, abs=1e-12)


def test_a_slope_is_of_the_last_four_sizes_where_no_fixed_cost_hides_it() -> None:
    sizes = (1, 2, 1_000, 2_000, 4_000, 8_000)
    assert fitted_slope(sizes, values=[100 + n**2 for n in sizes]) == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize(("sizes", "values"), [((5,), [1.0]), ((), []), ((1, 2), [0.0, 1.0])])
def test_what_has_no_slope_has_none(sizes: tuple[int, ...], values: list[float]) -> None:
    assert fitted_slope(sizes, values=values) is None
    assert exponent(None) == "-"


def test_a_slope_that_rounds_to_zero_has_no_sign() -> None:
    assert exponent(-0.004) == "n^0.00"
    assert exponent(1.96, digits=1) == "n^2.0"


def planted(power: int, *, name: str = "ours", series: int = 0, naive: bool = False) -> GrowthCurve:
    """A cost of n^power seconds and megabytes."""
    points = tuple(
        GrowthPoint(size=n, seconds=Seconds(runs=(1.0 * n**power,)), megabytes=2.0 * n**power)
        for n in (100, 200, 400, 800, 1600)
    )
    return GrowthCurve(name=name, what=name, series=series, naive=naive, points=points)


def panel(*curves: GrowthCurve) -> GrowthPanel:
    return GrowthPanel(over="tokens", title="Planted", fixed="numbers, not timings", curves=curves)


def test_json_and_table_hold_points_and_slopes() -> None:
    seen = panel(planted(2, naive=True), planted(1))
    quadratic, linear = seen.to_dict()["curves"]
    assert (round(quadratic["time_slope"], 9), round(linear["memory_slope"], 9)) == (2, 1)
    assert linear["points"][0] == {
        "size": 100,
        "s": {"median": 100.0, "lowest": 100.0, "highest": 100.0, "runs": 1},
        "mb": 200.0,
    }
    assert growth_table([seen])[2:] == [
        "| tokens | ours | 100 to 1,600 | 1e+04 to 2.56e+06 | n^2.00 | 2e+04 to 5.12e+06 | n^2.00 |",
        "| tokens | ours | 100 to 1,600 | 100 to 1.6e+03 | n^1.00 | 200 to 3.2e+03 | n^1.00 |",
    ]


def test_work_done_in_part_is_scaled_in_time_and_not_in_memory() -> None:
    way = GrowthWay(
        name="half", what="half of it", sizes=(1, 2), work=lambda n: GrowthWork(call=lambda: np.ones(n), share=1e-6)
    )
    question = GrowthQuestion(over="n", title="", fixed="", ways=(way,), megabytes=lambda _: 7.0)
    (found,) = measured_growth([question], repeats=3)
    assert [point.megabytes for point in found.curves[0].points] == [7.0, 7.0]
    assert all(len(point.seconds.runs) >= 3 and point.seconds.median > 1e-2 for point in found.curves[0].points)


def test_peak_memory_counts_what_is_held_at_one_time() -> None:
    def one_after_the_other() -> float:
        return float(np.ones(10**6).sum() + np.ones(10**6).sum())

    def both() -> float:
        a, b = np.ones(10**6), np.ones(10**6)
        return float(a[0] + b[0])

    assert traced_megabytes(one_after_the_other) == pytest.approx(8, rel=0.02)
    assert traced_megabytes(both) == pytest.approx(16, rel=0.02)
    assert peak_megabytes(lambda: torch.ones(10**6) + 1) == pytest.approx(8, rel=0.02)


def test_the_usual_sizes_double_at_least_and_suffice_for_a_slope() -> None:
    for name in ("videos", "frames", "replicates", "runs"):
        sizes = getattr(USUAL, name)
        assert len(sizes) >= 5
        assert all(b == 2 * a for a, b in pairwise(sizes))


def test_slopes_that_would_lie_on_each_other_are_moved_apart_in_their_order() -> None:
    assert spread_out([0.2, 0.6], apart=0.1) == pytest.approx([0.2, 0.6])
    assert spread_out([0.5, 0.48, 0.9], apart=0.1) == pytest.approx([0.54, 0.44, 0.9])
    found = spread_out([1.0, 1.0, 1.0], apart=0.1)
    assert sorted(found) == pytest.approx([0.75, 0.85, 0.95])


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_figure_is_small_wide_and_the_same_each_time(tmp_path: Path, kind: str) -> None:
    panels = [panel(planted(2, name="naive", naive=True), planted(1), planted(0, series=2))] * 5
    one, other = (
        draw_growth(panels, path=tmp_path / f"{name}.{kind}", measured_on="a machine") for name in ("one", "other")
    )
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_size < 200_000
    if kind == "png":
        with Image.open(one) as picture:
            assert picture.width == 1400
    else:
        text = one.read_text()
        assert {"n^2.0", "n^1.0", "n^0.0"} <= set(re.findall(r">(n\^[\d.]+)<", text))
        assert "peak memory, MB" in text


def test_every_panel_has_finite_points_and_slopes(tmp_path: Path) -> None:
    done = calot("bench", "growth", "--quick", "--json", "--out", "growth.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert tuple(panel["over"] for panel in found["panels"]) == OVER
    for panel in found["panels"]:
        assert sum(curve["naive"] for curve in panel["curves"]) == 1
        for curve in panel["curves"]:
            assert math.isfinite(curve["time_slope"])
            assert math.isfinite(curve["memory_slope"])
            assert len(curve["points"]) >= 2
            assert all(0 < p["s"]["median"] < 100 and 0 < p["mb"] < 1000 for p in curve["points"])
    tokens = {curve["name"]: curve for curve in found["panels"][0]["curves"]}
    assert tokens["map written out"]["memory_slope"] == pytest.approx(2, abs=0.05), "memory is counted, so it repeats"
    assert tokens["global"]["memory_slope"] == pytest.approx(1, abs=0.1)
    assert found["settings"]["quick"] is True
    assert (tmp_path / "growth.svg").read_text().count("<svg") == 1


def test_a_name_that_no_figure_has_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    done = calot("bench", "growth", "--out", "growth.docx", cwd=tmp_path)
    assert done.returncode == 2
    assert "growth.docx: a figure is a .png or an .svg file; name it growth.png" in done.stderr
    assert "measured" not in done.stderr
