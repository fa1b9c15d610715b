"""The files that no program of ours reads: they parse, agree with each other, and name only what is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import calot

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[0-9]_*.yml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def parsed(path: Path) -> Any:
    yaml = pytest.importorskip("yaml")  # comes with the training packages
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs() -> list[tuple[str, dict[str, Any], list[str]]]:
    """Each job of each workflow: its name, itself, its commands."""
    found = [item for path in WORKFLOWS for item in parsed(path)["jobs"].items()]
    return [(name, job, [step["run"] for step in job["steps"] if "run" in step]) for name, job in found]


def test_every_yaml_file_of_the_project_parses() -> None:
    files = [*(ROOT / ".github").rglob("*.y*ml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]
    assert len(files) >= 8
    assert [str(path) for path in files if not isinstance(parsed(path), dict)] == []


def test_the_workflow_installs_from_files_that_exist() -> None:
    named = [name for _, _, commands in jobs() for run in commands for name in re.findall(r"-r (\S+)", run)]
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_workflow_runs_scripts_and_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    commands = [run for _, _, found in jobs() for run in found]
    scripts = [name for run in commands for name in re.findall(r"^python (\S+\.py)", run, re.M)]
    made = [name for run in commands for name in re.findall(r"^make (\w+)", run, re.M)]
    assert scripts
    assert [name for name in scripts if not (ROOT / name).is_file()] == []
    assert [name for name in made if name not in targets] == []


def test_the_workflow_uses_make_on_linux_alone() -> None:
    elsewhere = [commands for _, job, commands in jobs() if job["runs-on"] != "ubuntu-latest"]
    assert len(elsewhere) == 2
    assert [run for commands in elsewhere for run in commands if "make" in run.split()] == []


def test_the_workflow_tests_the_lowest_python_that_the_project_promises() -> None:
    pythons = next(job for name, job, _ in jobs() if name == "test")["strategy"]["matrix"]["python"]
    assert PROJECT["requires-python"] == f">={pythons[0]}"


def test_both_files_of_pins_name_the_same_versions() -> None:
    """Dependabot raises them together; by hand one is easily forgotten."""
    pins = [(ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines() for name in ("cpu.txt", "cuda.txt")]
    assert [line for line in pins[0] if "==" in line] == [line for line in pins[1] if "==" in line]


def test_hooks_run_tools_of_the_development_environment() -> None:
    hooks = [hook for repo in parsed(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    packages = {re.split(r"\W", need.replace("-", "_"))[0] for need in PROJECT["optional-dependencies"]["dev"]}
    of = {"lint_imports": "import_linter"}
    tools = [hook["entry"].split()[0].replace("-", "_") for hook in hooks]
    assert [tool for tool in tools if of.get(tool, tool) not in packages] == []
    assert {hook["language"] for hook in hooks} == {"system"}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_an_issue_form_has_questions_with_ids_of_their_own(form: Path) -> None:
    content = parsed(form)
    ids = [part["id"] for part in content["body"] if part["type"] != "markdown"]
    assert {"name", "description", "body"} <= set(content)
    assert ids
    assert len(set(ids)) == len(ids)


def test_one_version_everywhere() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    assert cited is not None
    assert {cited[1], PROJECT["version"]} == {calot.__version__}


def test_type_checkers_are_told_to_read_calots_annotations() -> None:
    assert (ROOT / "src" / "calot" / "py.typed").read_bytes() == b""


def test_property_tests_leave_how_they_search_to_the_profile() -> None:
    """`@settings(max_examples=...)` of a test's own would not grow under `make fuzz`: `properties.searched` does."""
    own = re.compile(r"^(@|\w+ = )settings\(", re.M)
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if own.search(path.read_text(encoding="utf-8"))]
    assert [path.name for path in tests] == []


DRAWS = """
from hypothesis import given, strategies as st
from properties import searched

@searched(50)
@given(number=st.integers())
def test_draws(number):
    print("drawn", number)

def test_is_no_property():
    print("drawn outside")
"""


def drawn(folder: Path, *options: str, extra: str = "", **environment: str) -> list[str]:
    """What a property test draws in a pytest of its own, under the suite's own conftest.py and properties.py."""
    helpers = (ROOT / "tests" / "helpers").as_posix()
    conftest = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    (folder / "conftest.py").write_text(conftest + extra, encoding="utf-8")
    (folder / "pytest.ini").write_text(
        f"[pytest]\nmarkers = property\naddopts = --strict-markers\npythonpath = {helpers}\n"
    )
    (folder / "test_draws.py").write_text(DRAWS)
    command = [sys.executable, "-m", "pytest", "-s", "-m", "property", *options]
    kept = {name: value for name, value in os.environ.items() if name not in ("CALOT_HYPOTHESIS", "CI")}
    done = subprocess.run(command, cwd=folder, env=kept | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"drawn (\S+)", done.stdout)


@pytest.mark.long
def test_property_tests_draw_the_same_examples_every_time_unless_asked_not_to(tmp_path: Path) -> None:
    pytest.importorskip("hypothesis")
    usual = drawn(tmp_path)
    assert len(usual) == 50
    (tmp_path / "imported.py").write_text("NUMBERS = " + str([100_003 + 7 * i for i in range(500)]))
    assert usual == drawn(tmp_path, extra="\nimport imported\n")  # as where other tests ran before in the process
    assert usual == drawn(tmp_path, CI="true")
    seeds = ("--hypothesis-seed=1", "--hypothesis-seed=2")
    one, other = (drawn(tmp_path, "--hypothesis-profile=random", seed, CI="true") for seed in seeds)
    assert len(one) == len(other) == 1000  # 20 times as many
    assert one != other
    assert one == drawn(tmp_path, "--hypothesis-profile=random", seeds[0])  # nobody's continuous integration
