"""The chapter of a study that was tuned on both sides: the choice of each seed, equal budgets, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from make_run import make_run

from calot.cli.study_tuning import settings_of
from calot.errors import CalotError
from calot.report.study.blocks import DocumentBlock
from calot.report.study.folder import TUNED, read_study
from calot.report.study.tuning import tuning_blocks

BASE, OTHER = "e02_frozen_probe", "e03_focal"
RATES = ("train.lr=1e-4", "train.lr=3e-4", "train.lr=1e-3", "train.lr=3e-3", "train.lr=1e-2")
#: How well each setting's scores follow the labels: the third is the best of one, the last of the other.
SKILLS = {BASE: (0.2, 0.4, 1.2, 0.4, 0.2), OTHER: (0.2, 0.3, 0.4, 0.6, 1.4)}


def make_tuned(folder: Path, *, settings: int = 5) -> Path:
    for number, (name, baseline) in enumerate(((BASE, None), (OTHER, BASE))):
        for seed in (0, 1):
            knobs = {"name": name, "baseline": baseline, "seed": seed, "pictures": False, "videos": 12}
            make_run(folder / name / f"s{seed}", noise=100 * number + seed, **knobs)
            for place, rate in enumerate(RATES[: settings if name == OTHER else 5]):
                home = folder / TUNED / name / rate
                noise = 1000 * (number + 1) + 10 * place + seed
                make_run(home / f"s{seed}", skill=SKILLS[name][place], noise=noise, **knobs)
        held = [{"setting": rate} for rate in RATES[: settings if name == OTHER else 5]]
        (folder / TUNED / name / "sweep.json").write_text(json.dumps({"settings": held}))
    return folder


def words(blocks: list[DocumentBlock]) -> str:
    return " ".join(block.text for block in blocks)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned(tmp_path_factory.mktemp("tuned") / "study")


def test_each_side_stands_at_its_own_best_setting_and_the_curve_is_shown(tuned: Path) -> None:
    study = read_study(tuned)
    assert [len(one.runs) for one in study.experiments.values()] == [2, 2]
    blocks = tuning_blocks(study)
    curve, standing = (block.table for block in blocks if block.table is not None)
    assert curve is not None
    assert standing is not None
    chosen = {(row.cells[0], row.cells[1]): row.cells[4] for row in curve.rows}
    assert len(chosen) == 10
    assert chosen[BASE, RATES[2]] == chosen[OTHER, RATES[4]] == "2"
    assert sum(int(str(count)) for count in chosen.values()) == 4
    assert [row.cells[0] for row in standing.rows] == [OTHER]
    assert "a better setting may lie beyond: e03_focal (2 of 2)." in words(blocks)
    assert "these checkpoints" in str(standing.rows[0].cells[4])
    (figure,) = [chart for block in blocks for chart in block.charts]
    assert 'aria-label="Mean val mAP over seeds by setting' in figure


def test_unequal_budgets_are_refused_and_not_compared(tmp_path: Path) -> None:
    blocks = tuning_blocks(read_study(make_tuned(tmp_path / "study", settings=4)))
    assert "Refused: settings e03_focal 4, e02_frozen_probe 5: give each side equally many" in words(blocks)


def test_without_tuning_the_command_is_given(tmp_path: Path) -> None:
    make_run(tmp_path / "study" / BASE / "s0", pictures=False)
    (block,) = tuning_blocks(read_study(tmp_path / "study"))
    assert block.text.startswith("Not run")
    assert block.code.endswith("--tune train.lr=1e-4,3e-4,1e-3,3e-3,1e-2 --resume")


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    folder = make_tuned(tmp_path / "study")
    (folder / TUNED / OTHER / RATES[1] / "s0" / "predictions" / "val.parquet").unlink()
    with pytest.raises(CalotError, match="a run of this setting is missing or not finished"):
        tuning_blocks(read_study(folder))


def test_fewer_than_five_settings_are_refused_before_anything_is_trained() -> None:
    with pytest.raises(CalotError, match="3 settings; at least 5"):
        settings_of(["train.lr=1e-4,1e-3,1e-2"])
    assert settings_of(None) == []
    assert len(settings_of([",".join(["train.lr=1e-4", "3e-4", "1e-3", "3e-3", "1e-2"])])) == 5
