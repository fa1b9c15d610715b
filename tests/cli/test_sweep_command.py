"""`calot train --sweep`: how settings are read and named, and that each is the run it would be alone."""

import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_requests import digests

from calot.cli.main import main
from calot.cli.sweep import combinations, setting_name
from calot.errors import CalotError


def test_all_combinations_in_order() -> None:
    assert combinations([]) == [()]
    assert combinations(["a=1,2", "b=x"]) == [("a=1", "b=x"), ("a=2", "b=x")]
    assert combinations(["loss=FocalLoss(gamma=1,alpha=0.5),BCE()", "m='a,b',c"]) == [
        ("loss=FocalLoss(gamma=1,alpha=0.5)", "m='a,b'"),
        ("loss=FocalLoss(gamma=1,alpha=0.5)", "m=c"),
        ("loss=BCE()", "m='a,b'"),
        ("loss=BCE()", "m=c"),
    ]


@pytest.mark.parametrize("text", ["lr", "lr=", "=1,2", "lr=1,,2", "lr=1,1"])
def test_what_is_no_sweep_is_refused_by_name(text: str) -> None:
    with pytest.raises(CalotError, match="--sweep"):
        combinations([text])
    with pytest.raises(CalotError, match="--sweep: lr is given twice"):
        combinations(["lr=1,2", "lr=3"])


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3), st.lists(st.text(min_size=1), min_size=1, max_size=3))
def test_settings_that_differ_have_folders_that_differ_on_any_system(one: list[str], other: list[str]) -> None:
    names = [setting_name(changes) for changes in (one, other)]
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=+-]*", name) for name in names), names
    assert (one == other) == (names[0].casefold() == names[1].casefold())


def calot(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["calot", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_each_setting_is_the_run_it_would_be_alone_and_one_is_chosen(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ("e02_frozen_probe", "train.epochs=2", "train.batch=8", "train.warmup=0", "compute.train_subset=8")
    where = ("--data", phantom, "--scale", "tiny", "--seeds", "0", "--results", tmp_path / "r", "--no-receipt")
    assert calot(monkeypatch, "train", *quick, *where, "--sweep", "train.lr=1e-4,1e-2", "--out", tmp_path / "all") == 0
    out = capsys.readouterr().out
    assert calot(monkeypatch, "train", *quick, "train.lr=1e-2", *where, "--out", tmp_path / "alone") == 0
    home = tmp_path / "all" / "e02_frozen_probe"
    assert digests(home / "train.lr=1e-2" / "s0") == digests(tmp_path / "alone")
    found = json.loads((home / "sweep.json").read_text())
    assert {s["setting"] for s in found["settings"]} == {"train.lr=1e-4", "train.lr=1e-2"}
    assert found["chosen"] == max(found["settings"], key=lambda s: s["mean_map"])["setting"]
    assert f"Chosen on val among 2 settings: {found['chosen']}" in out


def test_a_sweep_without_a_folder_is_refused(
    phantom: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = calot(monkeypatch, "train", "e02_frozen_probe", "--data", phantom, "--sweep", "train.lr=1e-4,1e-3")
    assert (code, "--sweep needs --out" in capsys.readouterr().err) == (2, True)
