"""Each side at the best of as many settings: what is chosen, what is refused, and that equal sides stay equal."""

import numpy as np
import pytest

from calot.bench.null_pairs import predictions
from calot.bench.tuned_null import TunedNull, tuned_null, tuned_page
from calot.bench.worlds import WORLDS, SimulatedSet
from calot.errors import CalotError
from calot.statistics.predictions import Predictions
from calot.statistics.sweep import deciding_map
from calot.statistics.tuned import require_equal_tuning, tuned_side

RATES = ("1e-4", "3e-4", "1e-3", "3e-3", "1e-2")


def _drawn() -> SimulatedSet:
    return WORLDS["typical"].draw(np.random.default_rng(0), videos=12)


def _table(drawn: SimulatedSet, *, seed: int, noise: float) -> Predictions:
    """Scores that are the labels but for noise: the less of it, the higher the mAP."""
    rng = np.random.default_rng([seed, round(1000 * noise)])
    return predictions(drawn, drawn.labels + noise * rng.normal(size=drawn.labels.shape), seed=seed)


def test_each_seed_chooses_its_own_best_setting() -> None:
    drawn, best = _drawn(), {0: "3e-4", 1: "3e-3", 2: "3e-3"}
    tables = {
        rate: {seed: _table(drawn, seed=seed, noise=0.1 if best[seed] == rate else 2.0) for seed in best}
        for rate in RATES
    }
    side = tuned_side(tables, name="a")
    assert dict(zip(side.seeds, side.chosen, strict=True)) == best
    assert side.at_an_end == 0
    for score in side.curve:
        known = [deciding_map(tables[score.setting][seed], name="a") for seed in best]
        assert score.map_by_seed == tuple(known)
        assert score.mean_map == pytest.approx(np.mean(known))
    assert side.to_dict()["settings"] == 5


def test_of_equal_settings_the_first_is_chosen_and_an_end_is_told() -> None:
    drawn = _drawn()
    tables = {rate: {seed: _table(drawn, seed=seed, noise=0.5) for seed in (0, 1)} for rate in RATES}
    side = tuned_side(tables, name="a")
    assert side.chosen == ("1e-4", "1e-4")
    assert "2 of 2 seeds chose an end of the range" in side.lines()[-1]


def test_a_setting_without_one_of_the_seeds_is_refused() -> None:
    drawn = _drawn()
    tables = {rate: {seed: _table(drawn, seed=seed, noise=0.5) for seed in (0, 1)} for rate in RATES}
    del tables["1e-3"][1]
    with pytest.raises(CalotError, match=r"setting 1e-3 has the seeds \[0\] where another has \[0, 1\]"):
        tuned_side(tables, name="a")


def test_unequal_budgets_and_too_few_settings_are_refused() -> None:
    drawn = _drawn()
    five = tuned_side({rate: {0: _table(drawn, seed=0, noise=0.5)} for rate in RATES}, name="a")
    four = tuned_side({rate: {0: _table(drawn, seed=0, noise=0.5)} for rate in RATES[:4]}, name="b")
    require_equal_tuning([five, five])
    with pytest.raises(CalotError, match="settings a 5, b 4: give each side equally many"):
        require_equal_tuning([five, four])
    with pytest.raises(CalotError, match="settings b 4: at least 5 a side"):
        require_equal_tuning([four])


def test_equal_treatments_are_rarely_called_different_after_both_were_tuned() -> None:
    """The measured rates at 1,000 pairs are in docs/results/tuned_null.md."""
    found = tuned_null(WORLDS["typical"], videos=41, sets=60)
    assert found.called <= 6
    assert 0.005 < found.deviation < 0.05
    page = tuned_page({("typical", 41): TunedNull(sets=100, called=5, deviation=0.02)}, command="c", date="d")
    assert "| typical | 41 | 5.0% of 100 | 2.00 points |" in page
