"""Every planted no-op is caught by name."""

from pathlib import Path

import pytest

from planted.catching import DURING, checks_after, checks_before, failed, request_of
from planted.plants import PLANTS, Plant

FAMILIES = {
    *("loader", "data", "cache", "labels", "augmentation", "mixing", "sampler", "loss", "adapter"),
    *("attention", "masking", "schedule", "stages", "evaluation"),
}


def test_there_are_plants_in_every_family() -> None:
    assert {p.family for p in PLANTS} == FAMILIES
    assert len({p.name for p in PLANTS}) == len(PLANTS) >= 40


@pytest.mark.long
@pytest.mark.parametrize("plant", PLANTS, ids=lambda p: p.name.replace(" ", "_"))
def test_a_planted_fault_is_caught_by_name(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant
) -> None:
    plant.put(monkeypatch)
    if plant.check in DURING:
        found = failed(checks_after(plant.experiment, plant.changes, phantom=phantom, folder=tmp_path / "run"))
    else:
        request = request_of(plant.experiment, plant.changes, phantom=phantom, folder=tmp_path / "run")
        found = failed(checks_before(request, only=plant.check))
    assert plant.says in found.get(plant.check.removesuffix(" (after training)"), ""), found
