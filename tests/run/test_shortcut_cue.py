"""A run that learnt a shortcut is caught by one command, and one that did not is left alone: real training, small."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from command_line import calot
from run_requests import requested, trained
from shared_fixtures import made_once

from calot.phantom import PhantomSpec

pytestmark = pytest.mark.long

CRITERION = "two_structures"
#: 12 operations to train on, 10 for val; six of each have the criterion.
WITHOUT = PhantomSpec(videos=24, seed=3, mean_frames=40, min_frames=30, max_frames=60, split_shares=(0.5, 0.42, 0.08))
#: The marker agrees in val as in train, or in train alone; the folders differ in nothing else.
WITH = replace(WITHOUT, shortcut=CRITERION, shortcut_size=3.0, shortcut_elsewhere=0.95)
DECORRELATED = replace(WITHOUT, shortcut=CRITERION, shortcut_size=3.0, shortcut_places=True)
CHANGES = ("protocol=AllFrames()", "train.epochs=12")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the one command says of a run trained with the cue and of one trained without, on the same frames."""
    specs = {"with": WITH, "without": WITHOUT, "decorrelated": DECORRELATED}
    data = {name: made_once(tmp_path_factory, f"cue_{name}", spec) for name, spec in specs.items()}
    found = {}
    for name in ("with", "without"):
        folder = tmp_path_factory.mktemp(name)
        run = trained(requested(data[name], folder / "run", "e02_frozen_probe", changes=CHANGES))
        done = calot("explain", run, "--data", data["decorrelated"], "--parts", "cue", "--json", cwd=folder)
        assert done.returncode == 0, done.stderr
        found[name] = json.loads(done.stdout)["parts"]["cue"]
    return found


def _dropped(told: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in told["drop"]["differences"] if one["criterion"] == CRITERION)


def test_a_run_trained_with_the_cue_looks_at_it_and_needs_it(shown: dict[str, dict[str, Any]]) -> None:
    means = shown["with"]["means"]
    assert means["enrichment"]["low"] > 1.5
    assert means[f"more_{CRITERION}"]["low"] > 0.3
    assert means[f"effect_{CRITERION}"]["value"] > 10 * means[f"elsewhere_{CRITERION}"]["value"]
    assert any(said.startswith("Pooling puts") for said in shown["with"]["sentences"])


def test_a_run_trained_without_it_does_neither(shown: dict[str, dict[str, Any]]) -> None:
    means = shown["without"]["means"]
    assert means["enrichment"]["high"] < 1.2
    assert means[f"more_{CRITERION}"]["high"] < shown["with"]["means"][f"more_{CRITERION}"]["low"]


def test_only_the_first_loses_where_the_cue_is_unrelated(shown: dict[str, dict[str, Any]]) -> None:
    """Point values: with ten videos the interval of the drop reaches beyond zero."""
    assert _dropped(shown["with"])["value"] < -0.05
    assert abs(_dropped(shown["without"])["value"]) < 0.03
