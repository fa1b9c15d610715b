"""`calot compare --tuned`: sweeps as sides, each seed at its best setting, and what is refused."""

import json
from pathlib import Path

import pytest
from command_line import calot
from make_run import make_run

from calot.statistics.predictions import load_predictions
from calot.statistics.sweep import choice_among, deciding_map
from calot.writing import write_json

RATES = ("train.lr=1e-4", "train.lr=3e-4", "train.lr=1e-3", "train.lr=3e-3", "train.lr=1e-2")
SEEDS = range(5)


def _sweep(home: Path, *, rates: tuple[str, ...], skills: tuple[float, ...], shift: int) -> Path:
    """What `calot train --sweep` leaves of one experiment."""
    tables = {}
    for place, (rate, skill) in enumerate(zip(rates, skills, strict=True)):
        for seed in SEEDS:
            folder = home / rate / f"s{seed}"
            noise = 1000 * shift + 10 * place + seed
            make_run(folder, name=home.name, seed=seed, skill=skill, noise=noise, pictures=False)
            tables.setdefault(rate, []).append(load_predictions(folder / "predictions" / "val.parquet").with_labels())
    write_json(home / "sweep.json", choice_among(tables).to_dict())
    return home


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("tuned")
    a = _sweep(home / "a" / "e02_frozen_probe", rates=RATES, skills=(0.2, 0.4, 0.9, 0.4, 0.2), shift=1)
    b = _sweep(home / "b" / "e03_focal", rates=RATES, skills=(0.3, 0.3, 0.3, 0.8, 0.3), shift=2)
    return a, b


def test_each_side_is_at_the_setting_that_each_seed_chose(sweeps: tuple[Path, Path], tmp_path: Path) -> None:
    done = calot("compare", "--tuned", *sweeps, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for side, sweep in zip(found["tuned"], sweeps, strict=True):
        for place, seed in enumerate(SEEDS):
            maps = {r: deciding_map(load_predictions(sweep / r / f"s{seed}" / "predictions" / "val.parquet"), name=r)
                    for r in RATES}  # fmt: skip
            assert side["chosen"][place] == max(maps, key=lambda r, m=maps: m[r])
    (compared,) = found["comparisons"]
    assert (compared["a"]["name"], compared["b"]["name"]) == ("e02_frozen_probe", "e03_focal")
    best = [max(score["map_by_seed"][i] for score in found["tuned"][0]["curve"]) for i in SEEDS]
    assert compared["a"]["map"] == pytest.approx(best)
    assert compared["about"] == "the treatment"


def test_the_curve_is_printed_with_who_chose_what(sweeps: tuple[Path, Path], tmp_path: Path) -> None:
    done = calot("compare", "--tuned", *sweeps, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "e02_frozen_probe, val mAP by setting:" in done.stdout
    assert "train.lr=1e-3" in done.stdout
    assert "chosen by 5" in done.stdout


def test_unequal_budgets_and_what_is_not_a_sweep_are_refused(sweeps: tuple[Path, Path], tmp_path: Path) -> None:
    few = _sweep(tmp_path / "few" / "e03_focal", rates=RATES[:3], skills=(0.3, 0.3, 0.3), shift=3)
    done = calot("compare", "--tuned", sweeps[0], few, cwd=tmp_path)
    assert (done.returncode, "give each side equally many" in done.stderr) == (2, True), done.stderr
    done = calot("compare", "--tuned", sweeps[0], sweeps[1] / RATES[0] / "s0", cwd=tmp_path)
    assert (done.returncode, "is not a sweep" in done.stderr) == (2, True), done.stderr
