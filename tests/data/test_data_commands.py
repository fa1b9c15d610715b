"""`calot data`: what it prints, for people and as JSON."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from endoscapes_folder import Folder
from typer.testing import CliRunner, Result

import calot.data.pictures
import calot.data.store_build
import calot.phantom
from calot.cli.data import app
from calot.errors import CalotError, Stopped
from calot.phantom import PhantomSpec, PhantomSummary


@pytest.fixture
def root(folder: Callable[[], Folder]) -> Path:
    return folder().write_images()


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_stats_as_json_prints_json_and_nothing_else(root: Path) -> None:
    done = call("stats", root, "--protocol", "all-frames", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["protocol"] == "all-frames"
    assert {name: split["scored"] for name, split in found["splits"].items()} == {"train": 24, "val": 12, "test": 12}


def test_stats_for_people_draws_and_ends_with_the_next_command(root: Path, tmp_path: Path) -> None:
    done = call("stats", root, "--figure", tmp_path / "stats.png")
    assert done.exit_code == 0
    assert "C3 cystic plate" in done.stdout
    assert done.stdout.rstrip().endswith(f"Next: calot data store {root}")
    assert (tmp_path / "stats.png").stat().st_size > 10_000


def test_a_misspelt_protocol_names_the_nearest(root: Path) -> None:
    done = call("stats", root, "--protocol", "keyframe")
    assert isinstance(done.exception, CalotError)
    assert 'Did you mean "keyframes"' in str(done.exception)


def test_store_builds_the_splits_asked_for_once(root: Path, tmp_path: Path) -> None:
    arguments = ("store", root, "--size", 16, "--split", "val", "--cache", tmp_path / "cache", "--verify", "--json")
    done = call(*arguments)
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert list(found) == ["val"]
    assert (found["val"]["frames"], found["val"]["black"]) == (12, 0)
    assert Path(found["val"]["path"]).parent == tmp_path / "cache" / "store"
    assert call(*arguments).stdout == done.stdout


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM")
def test_a_signal_ends_a_store_with_what_is_decoded_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calot.data.store_build, "CHUNK", 5)
    real = calot.data.pictures.decode_picture_bytes

    def signalled(data: bytes, *, path: Path) -> Any:
        if path.name == "10_10050.jpg":
            os.kill(os.getpid(), signal.SIGTERM)
        return real(data, path=path)

    monkeypatch.setattr(calot.data.pictures, "decode_picture_bytes", signalled)
    with pytest.raises(Stopped, match=r"stopped; what is decoded stays\. Run it again to continue"):
        call("store", root, "--size", 16, "--split", "train", "--workers", 1)
    (part,) = (root / ".calot" / "store").glob("*.part")
    assert (part / "journal.jsonl").read_text().count("number") == 2  # whole chunks; the one under way is done again
    monkeypatch.setattr(calot.data.pictures, "decode_picture_bytes", real)
    assert call("store", root, "--size", 16, "--split", "train", "--verify").exit_code == 0


def test_store_says_which_geometry_does_not_fit(root: Path) -> None:
    done = call("store", root, "--geometry", "centre-crop", "--size", 16)
    assert isinstance(done.exception, CalotError)
    assert "CentreCrop.crop=480 does not fit" in str(done.exception)


def test_store_ends_with_the_next_command(root: Path) -> None:
    done = call("store", root, "--size", 16)
    assert "train: 24 frames" in done.stdout
    assert done.stdout.rstrip().endswith(f"Next: calot train e02_frozen_probe --data {root}")


def test_phantom_passes_its_settings_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def drawn(out: Path, spec: PhantomSpec, **more: object) -> PhantomSummary:
        seen.update(out=out, spec=spec, workers=more["workers"])
        return PhantomSummary(videos=5, frames=10, keyframes=2, masks=2, split_videos={"train": 5}, seconds=0.1)

    monkeypatch.setattr(calot.phantom, "generate", drawn)
    done = call("phantom", tmp_path / "out", "--videos", 5, "--seed", 3, "--workers", 2)
    assert done.exit_code == 0
    assert seen == {"out": tmp_path / "out", "spec": PhantomSpec(videos=5, seed=3), "workers": 2}
    assert done.stdout.rstrip().endswith(f"Next: calot data stats {tmp_path / 'out'} --protocol keyframes")
    as_json = call("phantom", tmp_path / "out", "--videos", 5, "--seed", 3, "--json")
    assert json.loads(as_json.stdout)["frames"] == 10


def test_phantom_draws_a_named_recipe_with_what_is_given_besides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[PhantomSpec] = []

    def drawn(_out: Path, spec: PhantomSpec, **_more: object) -> PhantomSummary:
        seen.append(spec)
        return PhantomSummary(videos=5, frames=10, keyframes=2, masks=2, split_videos={"train": 5}, seconds=0.1)

    monkeypatch.setattr(calot.phantom, "generate", drawn)
    assert call("phantom", tmp_path / "a", "--recipe", "phantom-study").exit_code == 0
    assert call("phantom", tmp_path / "b", "--recipe", "phantom-study", "--seed", 5, "--videos", 9).exit_code == 0
    study = calot.phantom.RECIPES["phantom-study"]
    assert seen == [study, replace(study, seed=5, videos=9)]
    assert "phantom-study" in str(call("phantom", tmp_path / "c", "--recipe", "study").exception)
