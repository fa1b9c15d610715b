"""One operation under two names: by published maps, by UUID, and by frames that look alike after re-encoding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from challenge_folders import clip_id, sages2024, sages2025
from command_line import calot
from numpy.typing import NDArray
from PIL import Image
from reencoding import framed, jpeg, re_encoded
from shared_fixtures import made_once

from calot.data.overlap.hashing import BITS, distances, picture_hash
from calot.data.overlap.shared import ALIKE, VideoIds, operations_of, published_overlap
from calot.data.readers import open_folder
from calot.phantom import PhantomSpec


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom operations of another seed than `phantom`'s."""
    return made_once(
        tmp_path_factory, "other_seed", PhantomSpec(videos=6, seed=12, mean_frames=24.0, min_frames=20, max_frames=30)
    )


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 30": lambda p: jpeg(p, 30),
    "half the size": lambda p: jpeg(p.resize((p.width // 2, p.height // 2)), 60),
    "1280 x 720": lambda p: jpeg(p.resize((1280, 720)), 60),
    "square": lambda p: jpeg(p.resize((256, 256)), 60),
    "letterbox": lambda p: jpeg(framed(p, x=0, y=60), 60),
    "pillars": lambda p: jpeg(framed(p, x=80, y=0), 60),
    "brighter": lambda p: p.point(lambda v: min(255, int(v * 1.15))),
}


def hashes(
    root: Path, *, change: Callable[[Image.Image], Image.Image] = lambda p: p, every: int = 4
) -> NDArray[np.uint8]:
    images = open_folder(root).manifest.table["image"].to_list()[::every]
    found = [picture_hash(np.asarray(change(Image.open(root / name).convert("RGB")))) for name in images]
    return np.stack([bits for bits in found if bits is not None])


@pytest.mark.parametrize("name", CHANGES)
def test_a_frame_is_itself_after(phantom: Path, name: str) -> None:
    plain, changed = hashes(phantom, every=12), hashes(phantom, change=CHANGES[name], every=12)
    assert plain.shape == changed.shape
    apart = (plain != changed).mean(axis=1)
    assert apart.max() < 0.75 * ALIKE


def test_frames_of_other_operations_are_twice_as_far_apart_as_what_counts_as_alike(phantom: Path, other: Path) -> None:
    nearest = distances(hashes(other, every=2), hashes(phantom, every=2)).min(axis=1)
    assert len(nearest) > 50
    assert nearest.min() > 2 * ALIKE


def test_distances_are_shares_of_bits() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (3, BITS), dtype=np.uint8), rng.integers(0, 2, (4, BITS), dtype=np.uint8)
    assert distances(a, b) == pytest.approx((a[:, None] != b[None]).mean(axis=2), abs=1e-6)


@pytest.mark.parametrize("grey", [0, 3, 130, 255])
def test_black_and_flat_frames_look_like_nothing(grey: int) -> None:
    """Else every black frame would be every other one."""
    assert picture_hash(np.full((48, 64, 3), grey, dtype=np.uint8)) is None


def test_the_published_map_names_operations_of_three_data_sets() -> None:
    assert ("cholec80", "68") in operations_of("endoscapes", "2")
    assert operations_of("Cholec80-CVS", "68") == {("cholec80", "68")}
    assert operations_of("cholect50", "68") == {("cholect50", "68"), ("cholec80", "68")}
    assert operations_of("cholect50", "96") == {("cholect50", "96")}
    assert operations_of("our hospital", "68") == set()
    here = VideoIds("endoscapes", {"2": "train", "121": "val", "10": "train", "50": "train"})
    there = VideoIds("cholec80-cvs", {"68": "test", "66": "train", "50": "train"})
    assert [(s.here, s.there, s.split_there) for s in published_overlap(here, there)] == [
        ("2", "68", "test"),
        ("121", "66", "train"),
    ]
    fifty = VideoIds("cholect50", {"96": "train", "68": "train", "103": "train"})
    assert [(s.here, s.there) for s in published_overlap(here, fifty)] == [("2", "68"), ("10", "96")]


def test_equal_numbers_of_two_hospitals_are_two_operations() -> None:
    assert published_overlap(VideoIds("a", {"1": "train"}), VideoIds("b", {"1": "train"})) == []


def test_a_uuid_is_one_operation_in_both_years_of_the_challenge(tmp_path: Path) -> None:
    a, b = sages2024(tmp_path / "a", videos=3), sages2025(tmp_path / "b", videos=4, every=30)
    done = calot("data", "overlap", a, b, "--json", cwd=tmp_path)
    assert done.returncode == 1
    shared = json.loads(done.stdout)["shared"]
    assert {(s["here"], s["there"], s["how"]) for s in shared} >= {
        (clip_id(n), clip_id(n), "the same UUID") for n in (1, 2, 3)
    }


def test_re_encoded_videos_are_found_each_by_its_own_name(phantom: Path, tmp_path: Path) -> None:
    copy, chosen = re_encoded(phantom, tmp_path / "elsewhere")
    done = calot("data", "overlap", phantom, copy, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "2 operations are in phantom and in elsewhere" in done.stdout
    told = json.loads(calot("data", "overlap", phantom, copy, "--json", cwd=tmp_path).stdout)["shared"]
    assert [(s["here"], s["there"]) for s in told] == [(video, f"case {n}") for n, video in enumerate(chosen)]
    assert all(s["alike"] == s["frames"] for s in told)


def test_other_operations_are_not_found_and_what_was_hashed_is_kept(
    phantom: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = calot("data", "overlap", phantom, other, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 operations are in" in done.stdout
    monkeypatch.setattr("calot.data.overlap.signatures.picture_hash", None)  # hashing again would raise
    assert calot("data", "overlap", phantom, other, cwd=tmp_path).returncode == 0


def test_what_is_kept_and_damaged_is_hashed_again(other: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(other, tmp_path / "copy", ignore=shutil.ignore_patterns(".calot")))
    assert calot("data", "overlap", copy, other, cwd=tmp_path).returncode == 1
    for path in (copy / ".calot" / "overlap").glob("*.json"):
        path.write_text(path.read_text().replace('"frames"', '"frame"'))
    assert calot("data", "overlap", copy, other, cwd=tmp_path).returncode == 1
