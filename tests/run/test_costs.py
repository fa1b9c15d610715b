"""What experiments cost, measured beside their baselines."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calot.cli.main import app
from calot.experiments import find
from calot.progress import Ui
from calot.run.build import parameter_counts
from calot.run.costs import costs


@pytest.mark.long
@pytest.mark.slow
def test_a_cost_is_that_of_the_experiment_and_of_its_baseline(phantom: Path) -> None:
    first, second = costs(["e02_frozen_probe", "e03_focal"], data=phantom, scale="tiny", ui=Ui())
    assert (first.baseline, first.baseline_step_ms) == (None, None)
    assert second.baseline == "e02_frozen_probe"
    assert second.parameters == first.parameters == parameter_counts(find("e02_frozen_probe").experiment)["total"]
    assert second.trainable == 4_201_472 + 528_387
    assert min(first.forward_ms, first.step_ms, second.baseline_forward_ms, second.baseline_step_ms) > 0


@pytest.mark.long
@pytest.mark.slow
def test_half_the_layers_have_fewer_parameters_than_their_baseline(phantom: Path) -> None:
    (cost,) = costs(["layers_12"], data=phantom, scale="tiny", ui=Ui())
    whole = parameter_counts(find("e12_regularized").experiment)["total"]
    assert 0.45 * whole < cost.parameters < 0.6 * whole


def test_the_command_prints_a_table_and_its_json(phantom: Path) -> None:
    words = ["experiments", "costs", "e03_focal", "--data", str(phantom)]
    printed = CliRunner().invoke(app, words).output
    assert "| e03_focal | e02_frozen_probe | " in printed
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert found[0]["name"] == "e03_focal"
