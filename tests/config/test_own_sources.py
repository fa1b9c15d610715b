"""A user's own `.py`: what of it belongs to a run, and how it is run again."""

import sys
from pathlib import Path

import pytest

from calot.config import sources
from calot.errors import CalotError
from calot.experiments import find, resolve

LOSS = """
from dataclasses import dataclass
from calot.train.losses import BCE

@dataclass(frozen=True, kw_only=True)
class Mine(BCE):
    "BCE under another name."
"""
EXPERIMENT = """
from dataclasses import replace
from calot.experiments import e02_frozen_probe
{imports}
experiment = replace(e02_frozen_probe.experiment, name="mine", baseline="{baseline}", loss=Mine())
"""


def _written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "mine.py"


def test_files_beside_it_that_it_imports_belong_to_it(tmp_path: Path) -> None:
    files = {"parts__losses": "from .shared import *\n" + LOSS, "parts__shared": "x = 1\n", "unused": "y = 1\n"}
    mine = EXPERIMENT.format(imports="from .parts.losses import Mine", baseline="e02_frozen_probe")
    found = find(str(_written(tmp_path, mine=mine, **files)))
    assert sorted(found.source.files) == ["mine.py", "parts/losses.py", "parts/shared.py"]
    assert sources.tag_of(type(found.experiment.loss), where="loss") == "parts/losses.py:Mine"


def test_a_copy_of_it_is_run_from_the_bytes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = EXPERIMENT.format(imports="from .losses import Mine", baseline="e02_frozen_probe")
    found = find(str(_written(tmp_path, mine=mine, losses=LOSS)))
    monkeypatch.setattr(sources, "_by_digest", {})
    (tmp_path / "losses.py").write_text("raise SystemExit('the file was run, not the bytes')")
    copy = sources.load_copy("mine.py", found.source.files, folder=tmp_path)
    again = copy.component("losses.py:Mine")
    assert (again.__name__, again is type(found.experiment.loss)) == ("Mine", False)
    assert not list(tmp_path.rglob("__pycache__"))


def test_code_that_runs_already_is_not_run_twice(tmp_path: Path) -> None:
    found = find(str(_written(tmp_path, mine=EXPERIMENT.format(imports=LOSS, baseline="e02_frozen_probe"))))
    copy = sources.load_copy("mine.py", dict(found.source.files), folder=tmp_path / "elsewhere")
    assert copy.component("mine.py:Mine") is type(found.experiment.loss)


def test_its_code_is_part_of_its_fingerprint_and_a_comment_of_a_plain_one_is_not(tmp_path: Path) -> None:
    mine = EXPERIMENT.format(imports=LOSS, baseline="e02_frozen_probe")
    one = find(str(_written(tmp_path / "1", mine=mine))).experiment
    same = find(str(_written(tmp_path / "2", mine=mine))).experiment
    other = find(str(_written(tmp_path / "3", mine=mine + "# another"))).experiment
    assert (one.fingerprint() == same.fingerprint(), one.fingerprint() == other.fingerprint()) == (True, False)
    plain = EXPERIMENT.format(imports="from calot.train.losses import BCE as Mine", baseline="e02_frozen_probe")
    written = find(str(_written(tmp_path / "4", mine=plain + "# a comment"))).experiment
    assert written.fingerprint() == find("e02_frozen_probe").experiment.fingerprint()


def test_a_baseline_may_be_the_experiment_of_a_file_beside_it(tmp_path: Path) -> None:
    base = EXPERIMENT.format(imports=LOSS, baseline="e02_frozen_probe").replace('name="mine"', 'name="base"')
    mine = EXPERIMENT.format(imports="from .losses import Mine", baseline="base")
    path = _written(tmp_path, mine=mine, base=base, losses=LOSS)
    resolved = resolve(str(path))
    assert sorted(resolved.found.source.files) == ["base.py", "losses.py", "mine.py"]
    (tmp_path / "base.py").write_text(base.replace('name="base"', 'name="other"'))
    with pytest.raises(CalotError, match=r"baseline=base: no such experiment, and no base\.py beside mine\.py"):
        resolve(str(path))


def test_a_baseline_that_is_nowhere_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        CalotError, match=r'baseline=e02_frozen_prob: no such experiment.*Did you mean "e02_frozen_probe"'
    ):
        resolve("e03_focal", overrides=["baseline=e02_frozen_prob"])


def test_own_components_are_named_in_changes_on_the_command_line(tmp_path: Path) -> None:
    path = _written(tmp_path, mine=EXPERIMENT.format(imports=LOSS, baseline="e02_frozen_probe"))
    changed = resolve(str(path), overrides=["loss=Mine(pos_weight=[1,5,1])"]).experiment
    assert type(changed.loss).__name__ == "Mine"
    with pytest.raises(CalotError, match="no component 'Mine' belongs here"):
        resolve("e02_frozen_probe", overrides=["loss=Mine()"])


@pytest.mark.parametrize(
    ("imports", "message"),
    [
        ("import losses\nfrom losses import Mine", r"No module named 'losses': it lies beside this file, so write"),
        (LOSS.replace("frozen=True, ", ""), "cannot inherit non-frozen dataclass from a frozen one"),
        (LOSS.replace("@dataclass(frozen=True, kw_only=True)\n", ""), r"Experiment\.loss=.*expected BCE"),
        ("from .nowhere import Mine", "No module named 'calot_user_"),
        ("raise KeyboardInterrupt", ""),
        ("import sys; sys.exit(0)", "SystemExit"),
    ],
)
def test_a_file_that_no_run_could_read_back_is_refused(tmp_path: Path, imports: str, message: str) -> None:
    path = _written(tmp_path, losses=LOSS, mine=EXPERIMENT.format(imports=imports, baseline="e02_frozen_probe"))
    if not message:
        with pytest.raises(KeyboardInterrupt):
            find(str(path))
        return
    with pytest.raises(CalotError, match=message):
        resolve(str(path))


def test_a_file_beside_it_that_comes_in_by_pythons_own_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = _written(
        tmp_path,
        own_losses=LOSS,
        mine=EXPERIMENT.format(imports="from own_losses import Mine", baseline="e02_frozen_probe"),
    )
    with pytest.raises(CalotError, match=r"imports own_losses from .*, which the run would not keep"):
        find(str(path))
    monkeypatch.delitem(sys.modules, "own_losses")


def test_a_component_that_forgets_part_of_itself_is_refused(tmp_path: Path) -> None:
    forgets = LOSS.replace(
        '    "BCE under another name."', "    def __eq__(self, other):\n        return self is other"
    )
    path = _written(tmp_path, mine=EXPERIMENT.format(imports=forgets, baseline="e02_frozen_probe"))
    with pytest.raises(CalotError, match=r"mine: .* does not survive being written down"):
        resolve(str(path))


def test_what_it_imports_after_it_was_read_is_refused(tmp_path: Path) -> None:
    late = LOSS + "    def late(self):\n        from . import later\n"
    path = _written(tmp_path, later="", mine=EXPERIMENT.format(imports=late, baseline="e02_frozen_probe"))
    with pytest.raises(ImportError, match="later"):
        find(str(path)).experiment.loss.late()
