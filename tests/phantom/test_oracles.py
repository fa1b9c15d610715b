"""The table of oracles: worlds in which time, colour or the clock decides, each with the margin that must fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg

from calot.errors import CalotError
from calot.phantom import RECIPES, audit, generate, recipe_named
from calot.phantom.anatomy import GALLBLADDER, PLATE
from calot.phantom.oracles import BEST, COARSE, STILL, oracle_rows, resampled_ap
from calot.phantom.recipes import TUNING_SEED
from calot.phantom.rows import AuditRow
from calot.phantom.windows import Window, structure_features, window_features, window_numbers

VIDEOS, WINDOWS, LENGTH = 14, 8, 4
SHAPE = (48, 64)


def test_a_window_ends_on_its_frame_and_starts_with_the_video():
    assert window_numbers(1000, first=0, length=4) == (925, 950, 975, 1000)
    assert window_numbers(1000, first=975, length=4) == (975, 1000)


def _mask(side: int, openness: float) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    columns = slice(0, 16) if side == 0 else slice(48, 64)
    mask[:, columns] = GALLBLADDER
    mask[: round(2 + 40 * openness), 20:44] = PLATE
    return mask


def test_structures_are_measured_and_a_mask_without_any_is_at_the_centre():
    empty, left = structure_features(np.zeros(SHAPE, np.uint8)), structure_features(_mask(0, 0.5))
    assert empty[0] == 0.5
    assert left[0] == pytest.approx(7.5 / 64)


Rule = Callable[[np.ndarray, int, float], bool]


def _world(folder: Path, *, rule: Rule, seed: int, bright: bool = False, first: int = 0) -> list[Window]:
    """Operations whose windows show two sides in turn; `rule` labels a window by both openings, side in view, time."""
    rng = np.random.default_rng(seed)
    found = []
    for video in range(first, first + VIDEOS):
        for index in range(WINDOWS):
            start = 1000 * index
            numbers = tuple(start + 25 * i for i in range(LENGTH))
            openings, turn = rng.uniform(size=2), int(rng.integers(2))
            sides = [(turn + i // 2) % 2 for i in range(LENGTH)]
            label = int(rule(openings, sides[-1], index / WINDOWS))
            for number, side in zip(numbers, sides, strict=True):
                light = 60 + 120 * label if bright else 120
                picture = np.clip(rng.normal(light, 25, (*SHAPE, 3)), 0, 255).astype(np.uint8)
                stem = f"{video}_{number}"
                (folder / f"{stem}.jpg").write_bytes(simplejpeg.encode_jpeg(picture, colorspace="RGB"))
                cv2.imwrite(str(folder / f"{stem}.png"), _mask(side, float(openings[side])))
            found.append(
                Window(video=video, seconds=start // 25, folder=folder, numbers=numbers, labels=(label, label, label))
            )
    return found


def _failed(folder: Path, *, rule: Rule, bright: bool = False) -> set[str]:
    train, test = (_world(folder, rule=rule, seed=s, bright=bright, first=100 * s) for s in (1, 2))
    rows = oracle_rows(train, test, truth=folder, workers=1)
    assert all(row.interval is not None for row in rows if row.name.startswith("mAP"))
    return {row.name for row in rows if row.passed is False and "chance" not in row.name}


def _both(openings: np.ndarray, _side: int, _time: float) -> bool:
    return bool(openings.min() > 0.55)


@pytest.mark.slow
def test_where_both_sides_decide_every_margin_holds(tmp_path):
    assert _failed(tmp_path, rule=_both) == set()


@pytest.mark.slow
def test_where_the_side_in_view_decides_the_window_has_no_margin(tmp_path):
    failed = _failed(tmp_path, rule=lambda openings, side, _time: bool(openings[side] > 0.7))
    assert f"{BEST} minus {STILL}" in failed


@pytest.mark.slow
def test_where_brightness_gives_the_label_away_colour_and_thumbnail_fail_their_margins(tmp_path):
    failed = _failed(tmp_path, rule=_both, bright=True)
    assert {f"{BEST} minus {name}" for name in COARSE if name != "time alone"} <= failed


@pytest.mark.slow
def test_where_the_clock_gives_the_label_away_time_fails_its_margin(tmp_path):
    failed = _failed(tmp_path, rule=lambda _openings, _side, time: time > 0.7)
    assert f"{BEST} minus time alone" in failed


def test_a_missing_mask_of_a_window_is_named(tmp_path):
    windows = _world(tmp_path, rule=_both, seed=3)[:2]
    (tmp_path / f"{windows[1].stems[0]}.png").unlink()
    with pytest.raises(CalotError, match=f"{windows[1].stems[0]}.png cannot be read"):
        window_features(windows, truth=tmp_path, workers=1)


def test_average_precision_and_its_draws_are_over_videos():
    labels = np.array([[1, 0, 1]] * 4 + [[0, 1, 1]] * 4, np.int8)
    scores = np.where(labels > 0, 1.0, 0.0)
    found = resampled_ap(scores, labels=labels, units=np.repeat([0, 1], 4), count=2)
    assert found.value.tolist() == [1, 1, 1]
    assert np.nanmin(found.drawn) == 1
    assert np.isnan(found.drawn[:, 0]).any()  # draws of the second video alone hold no positive of the first criterion


def test_a_figure_that_is_not_a_number_does_not_hold_its_margin():
    assert AuditRow("x", float("nan"), low=0.05).passed is False


@pytest.mark.long
def test_the_study_recipe_holds_its_margins_at_a_smaller_size(tmp_path):
    generate(tmp_path / "made", recipe_named("phantom-study", seed=TUNING_SEED, videos=40))
    report = audit(tmp_path / "made")
    rows = {row.name: row for row in report.rows if " minus " in row.name and "chance" not in row.name}
    assert len(rows) == 1 + len(COARSE)
    assert {name: row.value for name, row in rows.items() if not row.passed} == {}
    assert RECIPES["phantom-study"].seed != TUNING_SEED


@pytest.mark.long
def test_an_operation_that_is_never_turned_over_has_no_margin_of_time(tmp_path):
    spec = recipe_named("phantom-study", seed=TUNING_SEED, videos=40, turn_seconds=0.0)
    generate(tmp_path / "made", spec)
    report = audit(tmp_path / "made")
    assert report.value(f"{BEST} minus {STILL}") < 0.05
