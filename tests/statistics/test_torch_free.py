"""Any group can score its predictions without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import calot.statistics

MODULES = sorted(path.stem for path in Path(calot.statistics.__file__).parent.glob("*.py") if path.stem != "__init__")

#: torch can be found (polars asks at import) and cannot be imported.
BLOCKED = """
import importlib.machinery, sys
class Refuse:
    def find_spec(self, name, *rest):
        if name.split('.')[0] in ('torch', 'transformers', 'accelerate'):
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        raise ImportError(spec.name + ' is blocked')
    def exec_module(self, module): ...
sys.meta_path.insert(0, Refuse())
"""


def test_no_module_of_the_statistics_imports_torch() -> None:
    names = "".join(f"import calot.statistics.{name}\n" for name in MODULES)
    done = subprocess.run([sys.executable, "-c", BLOCKED + names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_statistics_import_only_criteria_and_errors_of_calot() -> None:
    allowed = (
        "calot.statistics",
        "calot.criteria",
        "calot.errors",
        "calot.identity",
        "calot.provenance",
        "calot.writing",
        "calot.locking",
        "calot.reading",
    )
    for name in MODULES:
        source = (Path(calot.statistics.__file__).parent / f"{name}.py").read_text()
        lines = [line.split() for line in source.splitlines()]
        imported = [words[1] for words in lines if words[:1] in (["from"], ["import"]) and words[1].startswith("calot")]
        assert all(module.startswith(allowed) for module in imported), name
