"""What a shell completes: real names and keys, without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from calot.cli import completing
from calot.config.overrides import is_override, read_overrides
from calot.errors import CalotError
from calot.experiments import find, names, pretraining_names
from calot.state import STATE


def _completed(words: str, *, more: bool = False) -> list[str]:
    """What bash would be offered for the last word of a command line (a new one with `more`)."""
    count = len(words.split()) - (0 if more else 1)
    env = os.environ | {"_CALOT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    done = subprocess.run([sys.executable, "-m", "calot"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of every experiment, written down once."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STATE, str(folder))
        completing.write_keys()
    return folder


def test_names_are_completed_at_once() -> None:
    assert _completed("calot train e02_f") == ["e02_frozen_probe"]
    assert _completed("calot experiments show e1") == [name for name in names() if name.startswith("e1")]
    assert _completed("calot pretrain ROOT", more=True)[: len(pretraining_names())] == pretraining_names()
    assert _completed("calot train nothing_of_this") == []


def test_services_are_completed_after_a_comma_and_scales_by_name() -> None:
    assert completing.service_words("t") == ["tensorboard", "trackio"]
    assert completing.service_words("mlflow,t") == ["mlflow,tensorboard", "mlflow,trackio"]
    assert completing.service_words("tensorboard,t") == ["tensorboard,trackio"]
    assert completing.scale_words("t") == ["tiny"]


def test_keys_are_completed_once_they_are_written_down(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE, str(kept))
    assert _completed("calot train e03_focal loss.ga") == ["loss.gamma="]
    assert _completed("calot train e02_frozen_probe loss.ga") == []
    assert "train.lr=" in _completed("calot sweep e02_frozen_probe train.l")


def test_every_completed_key_is_one_that_calot_takes(kept: Path) -> None:
    (file,) = (kept / "completion").glob("*.json")
    found = json.loads(file.read_text())
    assert found.keys() == {*names(), *pretraining_names()}
    for name, keys in found.items():
        experiment, refused = find(name).experiment, []
        for key in keys:
            assert is_override(f"{key}=1")
            try:
                read_overrides(experiment, [f"{key}=None"])
            except CalotError as error:
                refused += [key] if "unknown" in str(error) or "no field" in str(error) else []
        assert refused == [], name
        assert len(keys) > 20


def test_keys_of_older_code_are_not_shown_and_are_removed(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE, str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: None)  # nothing is started by the first TAB
    old = tmp_path / "completion" / "0123456789abcdef.json"
    old.parent.mkdir()
    old.write_text('{"e02_frozen_probe": {"train.gone": "1"}}')
    assert completing.keys_of("e02_frozen_probe") == {}
    completing.write_keys()
    assert "train.lr" in completing.keys_of("e02_frozen_probe")
    assert not old.exists()


def test_completion_imports_neither_torch_nor_tables() -> None:
    code = (
        "import sys; from calot.cli import completing, main; completing.keys_of('e02_frozen_probe')\n"
        "completing._shipped('experiments'); completing.service_words('t')\n"
        "print([m for m in ('torch', 'polars', 'numpy', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
