"""The choice among settings: by the mean over seeds, with the optimism of having chosen."""

from pathlib import Path

import numpy as np
import pytest
from prediction_tables import clustered
from test_optimism import BASE, by_chance, scored

from calot.errors import CalotError
from calot.statistics.metrics import mean_ap
from calot.statistics.optimism import optimism, surplus_of_choice
from calot.statistics.sweep import choice_among, setting_optimism
from calot.writing import write_json


def test_the_best_mean_is_chosen_not_the_best_seed() -> None:
    rng = np.random.default_rng(0)
    noise = scored(rng.normal(size=BASE.logits.shape))
    perfect, good = scored(BASE.logits + 9.0 * BASE.labels), scored(BASE.logits + 2.0 * BASE.labels)
    found = choice_among({"one lucky seed": [perfect, noise], "steady": [good, good], "poor": [noise, noise]})
    assert found.chosen == "steady"
    assert max(found.settings, key=lambda s: max(s.map_by_seed)).setting == "one lucky seed"
    assert found.settings[1].mean_map == pytest.approx(mean_ap(good.labels, good.logits).value)
    assert found.to_dict()["candidates"] == 3
    assert "among 3 settings: steady" in found.lines()[-1]


def test_with_one_seed_it_is_the_optimism_of_choosing_among_as_many_epochs() -> None:
    tables = by_chance(np.random.default_rng(2), count=5, base=BASE)
    assert surplus_of_choice([[t] for t in tables]).value == optimism(tables).value


def test_more_seeds_leave_less_optimism() -> None:
    """Of equally good settings whose seeds differ by chance, the mean lead of the best over all is optimism."""
    rng, told, true = np.random.default_rng(3), {1: [], 4: []}, {1: [], 4: []}
    for number in range(24):
        base = clustered(videos=30, frames=20, run=number)
        for seeds in told:
            settings = [by_chance(rng, count=seeds, base=base) for _ in range(6)]
            told[seeds].append(surplus_of_choice(settings, halvings=60).value or 0.0)
            maps = [np.mean([mean_ap(base.labels, t.logits).value for t in tables]) for tables in settings]
            true[seeds].append(max(maps) - float(np.mean(maps)))
    assert np.mean(told[4]) < 0.7 * np.mean(told[1])
    for seeds in told:
        assert np.mean(told[seeds]) == pytest.approx(np.mean(true[seeds]), rel=0.3)


def test_unequal_numbers_of_seeds_are_refused() -> None:
    with pytest.raises(CalotError, match="equal numbers of seeds"):
        choice_among({"a": [BASE], "b": [BASE, BASE]})


def test_a_run_of_a_sweep_finds_what_choosing_its_setting_flatters(tmp_path: Path) -> None:
    tables = by_chance(np.random.default_rng(2), count=3, base=BASE)
    choice = choice_among({f"lr_{k}": [table] for k, table in enumerate(tables)})
    write_json(tmp_path / "sweep.json", choice.to_dict())
    for k in range(3):
        found = setting_optimism(tmp_path / f"lr_{k}" / "run_s0")
        assert (found.settings, found.value) == (3, choice.optimism.value)
        assert found.chosen == (choice.chosen == f"lr_{k}")
    assert "the 3 settings of its sweep (sweep.json)" in str(found)
    for run in (tmp_path / "other" / "run_s0", tmp_path / "lr_0", None):
        apart = setting_optimism(run)
        assert apart.settings is None
        assert "belongs to no sweep" in str(apart)


def test_a_damaged_sweep_is_refused_by_name(tmp_path: Path) -> None:
    for text in ("{}", '{"settings": 3, "optimism": {}, "chosen": "a"}', "["):
        (tmp_path / "sweep.json").write_text(text)
        with pytest.raises(CalotError, match=r"sweep\.json"):
            setting_optimism(tmp_path / "a" / "run_s0")
