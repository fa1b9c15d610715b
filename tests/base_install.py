"""Checks a base install: `calot` runs, scores a small table, and no torch came with it. Needs only what it installed.

`pip install .` into an empty environment, activate it, `python tests/base_install.py`; exit code 0 when all holds.
"""

import csv
import importlib.metadata
import importlib.util
import json
import subprocess
import tempfile
from pathlib import Path

import calot

CRITERIA = ("two_structures", "hepatocystic_triangle", "cystic_plate")


def main() -> None:
    """Raise at the first thing that does not hold."""
    for heavy in ("torch", "transformers"):
        assert importlib.util.find_spec(heavy) is None, f"{heavy} can be imported: this is no base install"
    assert importlib.metadata.version("calot") == calot.__version__
    assert (Path(calot.__file__).parent / "py.typed").is_file(), "py.typed is missing: type checkers ignore calot"
    subprocess.run(["calot", "--help"], check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as folder:
        scores = _scores(_table(Path(folder) / "tiny.csv"))
    # Scores rise with the labels, but those of cystic_plate fall: both known on paper.
    expected = {"two_structures": 1.0, "hepatocystic_triangle": 1.0, "cystic_plate": 5 / 12}
    for name, value in expected.items():
        assert abs(scores[name]["value"] - value) < 1e-9, (name, scores[name])
    print(f"base install of calot {calot.__version__}: fine, without torch")


def _table(path: Path) -> Path:
    """Two videos of two frames; columns as README's "Score your own predictions"."""
    header = ["video", "frame", *(f"logit_{c}" for c in CRITERIA), *(f"label_{c}" for c in CRITERIA)]
    rows = [
        ["a", 0, -2, -1, 2, 0, 0, 0],
        ["a", 25, 2, 1, -2, 1, 1, 1],
        ["b", 0, -1, -2, 1, 0, 0, 0],
        ["b", 25, 1, 2, -1, 1, 1, 1],
    ]
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def _scores(path: Path) -> dict[str, dict[str, float]]:
    """Average precision by criterion, as `calot metrics --json` prints it."""
    done = subprocess.run(["calot", "metrics", str(path), "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    scores: dict[str, dict[str, float]] = json.loads(done.stdout)["ap"]
    return scores


if __name__ == "__main__":
    main()
