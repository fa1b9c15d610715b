"""The Python API: the commands' names, answers and refusals, without torch where nothing is trained."""

import json
import subprocess
import sys
import time
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from command_line import calot as command
from make_run import make_predictions, make_run

import calot
from calot.errors import CalotError
from calot.statistics.predictions import Predictions


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("runs")
    made = [make_run(home / "a", seed=0), make_run(home / "b", seed=0, name="e03_focal", skill=0.9, noise=7)]
    return [*made, make_run(home / "failed", seed=1, failed="dose")]


def test_import_takes_a_moment_and_scoring_needs_no_torch(tmp_path: Path) -> None:
    make_predictions().write(tmp_path / "table.parquet")
    code = (
        "import sys, time; start = time.process_time(); import calot; took = time.process_time() - start\n"
        "early = sorted(m for m in ('polars', 'numpy', 'torch', 'typer', 'sklearn') if m in sys.modules)\n"
        "value = calot.metrics(sys.argv[1]).map.value\n"
        "print(early, took < 0.1, 'torch' in sys.modules, 0 < value < 1, calot.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "table.parquet")], capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n")[0] == f"[] True False True {calot.__version__}", done.stderr


def test_metrics_are_those_of_the_command(runs: list[Path]) -> None:
    done = command("metrics", runs[0], "--json", cwd=runs[0].parent)
    said = json.loads(done.stdout)
    found = calot.metrics(runs[0])
    assert found.to_dict()["map"] == said["map"]
    assert found.to_dict()["thresholds"] == said["thresholds"]
    assert found.map.value == said["map"]["value"]
    assert found.ap["cystic_plate"].low == said["ap"]["cystic_plate"]["low"]
    assert found.treatment.status == said["treatment"]["status"]
    assert calot.metrics(calot.load_predictions(runs[0])).to_dict()["map"] == said["map"]


def test_a_comparison_is_that_of_the_command(runs: list[Path]) -> None:
    done = command("compare", runs[0], runs[1], "--json", cwd=runs[0].parent)
    (said,) = json.loads(done.stdout)["comparisons"]
    found = calot.compare(runs[0], [runs[1]], names=(said["a"]["name"], said["b"]["name"]))
    assert found.verdict == said["verdict"]
    assert (found.map.value, found.map.low, found.map.p) == (said["map"]["value"], said["map"]["low"], said["map"]["p"])


def test_a_failed_receipt_stands_in_place_of_the_numbers(runs: list[Path]) -> None:
    with pytest.raises(CalotError, match=r"INVALID: .*There is no result to show"):
        calot.metrics(runs[2])
    found = calot.compare(runs[0], runs[2])
    assert found.invalid
    assert found.map.value is None
    assert "INVALID" in found._repr_html_()


def test_results_are_frozen_and_drawn_as_a_table(runs: list[Path]) -> None:
    found = calot.metrics(runs[0])
    with pytest.raises(FrozenInstanceError):
        found.summary = None  # type: ignore[misc,assignment]
    html = found._repr_html_()
    assert f"{100 * found.map.value:.1f}" in html  # type: ignore[operator]
    assert html.count("<tr>") == 5
    assert [line.split()[0] for line in repr(found).splitlines()[2:6]] == ["mAP", "C1", "C2", "C3"]
    compared = calot.compare(runs[0], runs[1], names=("<b>ours</b>", "theirs"))
    assert "&lt;b&gt;ours&lt;/b&gt; minus theirs" in compared._repr_html_()
    assert "<b>" not in compared._repr_html_()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda home: calot.metrics(home / "none.csv"), "none.csv"),
        (lambda home: calot.metrics(home), "not a run's folder"),
        (lambda home: calot.compare([], home), "side A has no table"),
        (lambda home: calot.predict(home, split="test"), "calot evaluate RUN --split test"),
        (lambda home: calot.train("e02_frozn_probe", data=home), "e02_frozen_probe"),
        (lambda home: calot.train("e02_frozen_probe", data=home, changes=["train.lrr=1"]), "lrr"),
        (lambda home: calot.train("e02_frozen_probe", data=home, resume=True), "out=FOLDER"),
        (lambda home: calot.train("e02_frozen_probe", data=home, log=["tensorbord"]), "tensorboard"),
    ],
)
def test_bad_input_is_one_line(call: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(CalotError) as error:
        call(tmp_path)  # type: ignore[operator]
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_without_the_training_packages_train_names_the_remedy(tmp_path: Path) -> None:
    code = (
        "import importlib.machinery, sys, calot\nclass Missing:\n"  # polars asks where torch is, and does not import it
        "    def find_spec(self, name, *rest):\n"
        "        return importlib.machinery.ModuleSpec(name, self) if name == 'torch' else None\n"
        "    def create_module(self, spec): raise ModuleNotFoundError(spec.name, name=spec.name)\n"
        "    def exec_module(self, module): ...\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from calot.errors import CalotError\n"
        "try: calot.train('e02_frozen_probe', data='.')\n"
        "except CalotError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.strip().endswith("pip install 'calot[train]'"), done.stderr


def test_train_is_called_and_a_package_whoever_imported_it_first() -> None:
    code = (
        "import calot, calot.train\n"
        "import calot.train as package\n"
        "assert callable(calot.train) and package.__path__\n"
        "from calot.errors import CalotError\n"
        "try: calot.train('nothing_of_this_name', data='.')\n"
        "except CalotError as error: print(error)\n"
        "from calot.train.stage import Stage; assert callable(calot.train) and Stage"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "no experiment 'nothing_of_this_name'" in done.stdout, done.stderr
    assert done.returncode == 0


@pytest.mark.slow
def test_a_run_is_trained_and_predicted_as_by_the_commands(phantom: Path, tmp_path: Path) -> None:
    changes = ["train.epochs=1", "train.batch=8", "compute.train_subset=8"]
    same = {"data": phantom, "scale": "tiny", "seed": 0, "changes": changes, "receipt": False}
    run = calot.train("e02_frozen_probe", out=tmp_path / "run", results=tmp_path / "results", **same)  # type: ignore[arg-type]
    words = ("--data", phantom, "--scale", "tiny", "--seeds", "0", "--no-receipt", "--out", tmp_path / "command")
    done = command("train", "e02_frozen_probe", *changes, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours, theirs = run.predictions(), calot.load_predictions(tmp_path / "command")
    assert isinstance(ours, Predictions)
    assert ours.digest == theirs.digest
    assert run.report.exists()
    assert "e02_frozen_probe" in run._repr_html_()
    assert run.treatment.stamp.startswith("treatment unverified")
    assert calot.predict(run, data=phantom, out=tmp_path / "again.parquet").digest == ours.digest
    start = time.monotonic()
    assert calot.train("e02_frozen_probe", out=run.folder, resume=True, **same) == run  # type: ignore[arg-type]
    assert time.monotonic() - start < 120
    with pytest.raises(CalotError, match="--resume continues it"):
        calot.train("e02_frozen_probe", out=run.folder, **same)  # type: ignore[arg-type]
