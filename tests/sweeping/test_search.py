"""A search's words, and that its trials are the same however often it was killed."""

import sys
from pathlib import Path

import pytest

from calot.errors import CalotError
from calot.sweeping.packages import required
from calot.sweeping.search import Search
from calot.sweeping.space import Axis, changes_of, read_space

SPACE = ("train.lr=log(1e-5,1e-3)", "train.weight_decay=float(0,0.1)", "k=choice(A(x=1,y=2),b)", "n=int(1,4)")


def test_what_a_search_says_is_read() -> None:
    assert read_space(SPACE) == (
        Axis(key="train.lr", kind="log", low=1e-5, high=1e-3),
        Axis(key="train.weight_decay", kind="float", low=0.0, high=0.1),
        Axis(key="k", kind="choice", values=("A(x=1,y=2)", "b")),
        Axis(key="n", kind="int", low=1, high=4),
    )
    assert changes_of({"lr": 1.234567890123e-05, "n": 2, "k": "b"}) == ("lr=1.234567890123e-05", "n=2", "k=b")


@pytest.mark.parametrize(
    "text", ["lr", "=log(1,2)", "lr=1,2", "lr=log(0,1)", "lr=float(2,1)", "n=int(1.5,2)", "lr=log(1)", "k=choice(a,a)"]
)
def test_what_is_no_search_is_refused_by_name(text: str) -> None:
    with pytest.raises(CalotError, match="--search"):
        read_space([text])
    with pytest.raises(CalotError, match="lr is given twice"):
        read_space(["lr=float(1,2)", "lr=float(1,3)"])


def value(params: object) -> float:
    """A score that depends on what was drawn."""
    assert isinstance(params, dict)
    return -abs(params["train.lr"] - 2e-4) - params["train.weight_decay"]


def opened(path: Path, *, seed: int = 0, data: str = "a") -> Search:
    return Search.opened(path, space=read_space(SPACE), seed=seed, asked={"data": data})


def searched(path: Path, *, size: int, killed: bool, seed: int = 0) -> list[dict[str, object]]:
    """16 trials. A killed search is opened again for every batch, and again after every other value told."""
    search = opened(path, seed=seed)
    while batch := search.batch(size=size, total=16):
        if killed:
            search = opened(path, seed=seed)
            again = search.batch(size=size, total=16)
            assert [t.number for t in again] == [t.number for t in batch]
            assert [t.params for t in again] == [t.params for t in batch]
            search.tell(batch[0].number, value(batch[0].params))
            search = opened(path, seed=seed)
            batch = search.batch(size=size, total=16)[: size - 1]
        for trial in batch:
            search.tell(trial.number, value(trial.params))
    return [dict(trial.params) for trial in search.trials]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3])
def test_a_search_killed_at_any_trial_draws_what_an_unbroken_one_draws(tmp_path: Path, size: int) -> None:
    pytest.importorskip("optuna")
    whole = searched(tmp_path / "whole.db", size=size, killed=False)
    assert searched(tmp_path / "killed.db", size=size, killed=True) == whole
    other = searched(tmp_path / "other.db", size=size, killed=False, seed=1)
    assert len(whole) == len({str(params) for params in whole}) == 16
    assert other != whole


def test_a_study_of_another_search_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    opened(tmp_path / "study.db")
    with pytest.raises(CalotError, match="a search for something else"):
        opened(tmp_path / "study.db", data="b")


def test_a_missing_package_is_one_line_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("optuna", "submitit"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(CalotError, match=rf"needs the package '{name}': pip install 'calot\[sweep\]'"):
            required(name)
