"""`calot doctor`: what is missing is named with its remedy, also where nothing but the base install is there."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from endoscapes_folder import ALL, NO, Folder

import calot
from calot.doctor.diagnosis import Diagnosis, data_checks, diagnose, weights_check
from calot.run.machine import Check


def _check(found: Diagnosis, name: str) -> Check:
    (check,) = [c for c in found.checks if c.name == name]
    return check


def _doctor(*words: str, **environment: str) -> tuple[int, dict[str, object]]:
    code = "from calot.cli.main import main; main()"
    env = os.environ | environment
    command = [sys.executable, "-c", code, "doctor", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def endoscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training and one validation video of two frames each, pictures and all."""
    folder = Folder(tmp_path_factory.mktemp("doctor") / "endoscapes")
    folder.video(1, split="train", frames=[0, 25], votes={0: ALL}).video(2, split="val", frames=[0, 25], votes={25: NO})
    return folder.write_images()


@pytest.fixture(scope="module")
def here(endoscapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    return diagnose(data=endoscapes, results=tmp_path_factory.mktemp("results"))


def test_where_the_tests_run_the_line_runs_and_missing_weights_are_no_problem(here: Diagnosis) -> None:
    assert here.findings == {}
    assert here.ok
    assert _check(here, "tiny").facts == {"runs": True}
    assert _check(here, "full").facts["weight_bytes"] == 4 * 308_615_171
    assert _check(here, "torch").found == metadata.version("torch")


def test_every_package_of_the_projects_metadata_is_looked_at(here: Diagnosis) -> None:
    project = tomllib.loads((Path(calot.__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked, dev = (
        {re.split(r"[>=<]", package)[0] for package in group}
        for group in (project["dependencies"] + extras["train"], extras["dev"])
    )
    assert {c.name for c in here.checks if c.group == "packages"} >= asked
    assert not {c.name for c in here.checks} & dev


def test_a_data_set_is_counted(here: Diagnosis) -> None:
    facts = _check(here, "tables").facts
    assert facts["splits"] == {
        "train": {"videos": 1, "frames": 2, "keyframes": 1},
        "val": {"videos": 1, "frames": 2, "keyframes": 1},
    }
    assert _check(here, "pictures").found == "all 4 are there"


def test_missing_pictures_bad_tables_and_missing_weights_are_findings(endoscapes: Path, tmp_path: Path) -> None:
    for path in endoscapes.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    found = Diagnosis((*data_checks(tmp_path), weights_check(str(tmp_path / "nothing"), default=None)))
    assert not found.ok
    assert _check(found, "pictures").found == "4 of 4 are missing, first train/1_0.jpg"
    assert found.findings["put them there: unpack the archive again, or copy them again"] == ["pictures"]
    assert "no such folder" in _check(found, "weights").found
    (tmp_path / "all_metadata.csv").write_text("vid\n1\n")
    (tables,) = data_checks(tmp_path)
    assert (tables.state, 'column "frame" is missing' in tables.found) == ("problem", True)


@pytest.mark.long
def test_a_broken_torchvision_is_named_because_it_breaks_the_model(tmp_path: Path) -> None:
    """As the registry's build beside a CPU torch does: its operators are not there, and transformers imports it."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms is not here')")
    (tmp_path / "torchvision-0.20.0.dist-info").mkdir()
    (tmp_path / "torchvision-0.20.0.dist-info" / "METADATA").write_text("Name: torchvision\nVersion: 0.20.0\n")
    code, found = _doctor(PYTHONPATH=str(tmp_path))
    checks = {c["name"]: c for c in found["checks"]}  # type: ignore[index,attr-defined]
    assert code == 1
    assert "operator torchvision::nms is not here" in checks["torchvision"]["found"]
    assert "pip uninstall torchvision" in checks["torchvision"]["remedy"]
    assert checks["model"]["state"] == "problem", "transformers bears a broken torchvision now: say so no more"


def _base_install(folder: Path) -> Path:
    """What `pip install calot` brings and nothing else: links to the distributions its metadata asks for, closed."""
    from packaging.requirements import Requirement

    wanted, done = ["calot"], set()
    while wanted:
        name = wanted.pop()
        if name in done:
            continue
        done.add(name)
        found = metadata.distribution(name)
        asked = [Requirement(r) for r in found.requires or []]
        wanted += [r.name for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})]
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (folder / top).exists():
                (folder / top).symlink_to(found.locate_file(top))  # type: ignore[arg-type]
    (folder / "calot").symlink_to(Path(calot.__file__).parent)
    return folder


def test_a_base_install_without_torch_says_what_training_needs(tmp_path: Path, endoscapes: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from calot.cli.main import main; main()"
    base = _base_install(tmp_path)
    words = ("doctor", "--json", "--data", str(endoscapes))
    command = [sys.executable, "-I", "-S", "-c", code, str(base), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    (finding,) = found["findings"]
    assert finding["remedy"] == "pip install 'calot[train]'"
    assert {"torch", "transformers", "peft", "accelerate"} <= set(finding["names"])
    states = {c["name"]: c["state"] for c in found["checks"]}
    assert (states["polars"], states["tables"], states["metrics, compare"]) == ("ok", "ok", "ok")


@pytest.mark.parametrize(("kept", "noted"), [("", 0), ("1", 1)])
def test_libraries_that_are_compiled_by_each_command_are_noted(tmp_path: Path, kept: str, noted: int) -> None:
    code = "from calot.doctor.diagnosis import bytecode_checks; print(len([*bytecode_checks()]))"
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": kept, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert int(done.stdout) == noted
