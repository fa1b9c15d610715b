"""Brightness and sharpness of the scored frames: known pictures, each frame its own, computed once, never required."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageFilter

from calot.analysis import appearance
from calot.analysis.appearance import look_at, luma_figures, seen_frames
from calot.criteria import CRITERIA
from calot.data.readers import open_folder
from calot.errors import CalotError
from calot.progress import Silent
from calot.statistics.appearance import appearance_file, read_appearance
from calot.statistics.predictions import Predictions


def test_a_flat_picture_is_as_bright_as_its_luma_and_not_sharp() -> None:
    assert luma_figures(np.full((20, 30), 90, dtype=np.uint8)) == (90.0, 0.0)


def test_the_sharpness_of_a_checkerboard_is_known() -> None:
    """Each inner pixel's Laplacian is +-4 times 100: variance 400 squared."""
    board = np.where(np.add.outer(np.arange(12), np.arange(12)) % 2, 150, 50).astype(np.uint8)
    assert luma_figures(board) == (100.0, 160_000.0)


def test_a_blurred_picture_is_less_sharp_and_as_bright(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 428, 3), dtype=np.uint8)
    clear = Image.fromarray(noise).resize((856, 480), Image.Resampling.NEAREST)
    clear.save(tmp_path / "clear.jpg", quality=95)
    clear.filter(ImageFilter.GaussianBlur(8)).save(tmp_path / "blurred.jpg", quality=95)
    sharp, dull = look_at(tmp_path / "clear.jpg"), look_at(tmp_path / "blurred.jpg")
    assert sharp[0] == pytest.approx(dull[0], abs=2)
    assert sharp[1] > 5 * dull[1]
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "clear.jpg").read_bytes()[:4000])
    with pytest.raises(CalotError, match=r"cut\.jpg: not a whole picture"):
        look_at(tmp_path / "cut.jpg")


def table_of(root: Path, *, every: int = 1) -> Predictions:
    """Predictions of every or each second val keyframe of a data set."""
    manifest = open_folder(root).manifest
    rows = manifest.split("val").table.filter(pl.col("keyframe")).gather_every(every)
    frame = rows.select("dataset", "split", "video", "frame", *(f"label_{c}" for c in CRITERIA)).with_columns(
        pl.lit("keyframes").alias("protocol"), *(pl.lit(0.5).alias(f"logit_{c}") for c in CRITERIA)
    )
    return Predictions(frame=frame.sample(fraction=1.0, shuffle=True, seed=1), manifest_hash=manifest.hash)


@pytest.fixture(autouse=True)
def nothing_kept(request: pytest.FixtureRequest) -> None:
    if "bare_phantom" in request.fixturenames:
        shutil.rmtree(request.getfixturevalue("bare_phantom") / ".calot", ignore_errors=True)


def kept_at(root: Path, made: Predictions) -> Path:
    return appearance_file(root, manifest_hash=made.manifest_hash, split="val")


def test_each_frame_has_the_figures_of_its_own_image(bare_phantom: Path) -> None:
    made = table_of(bare_phantom)
    found = seen_frames(made, root=bare_phantom, ui=Silent())
    assert found.reason is None
    assert len(set(found.sharpness.tolist())) > 5
    for place in (0, len(made.frames) // 2, -1):
        image = bare_phantom / "val" / f"{made.videos[place]}_{made.frames[place]}.jpg"
        assert (found.brightness[place], found.sharpness[place]) == look_at(image)


def test_frames_are_looked_at_once(bare_phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, whole = table_of(bare_phantom, every=2), table_of(bare_phantom)
    seen_frames(part, root=bare_phantom, ui=Silent())
    first = read_appearance(kept_at(bare_phantom, part))
    assert first is not None
    assert first.height == len(part.frames)
    found = seen_frames(whole, root=bare_phantom, ui=Silent())  # those missing are added
    monkeypatch.setattr(appearance, "look_at", lambda path: pytest.fail(f"{path} was read again"))
    for made in (part, whole):
        assert seen_frames(made, root=bare_phantom, ui=Silent()).reason is None
    assert seen_frames(whole, root=bare_phantom, ui=Silent()).brightness.tolist() == found.brightness.tolist()


def test_a_damaged_file_of_figures_is_made_again(bare_phantom: Path) -> None:
    made = table_of(bare_phantom)
    found = seen_frames(made, root=bare_phantom, ui=Silent())
    kept_at(bare_phantom, made).write_bytes(b"PAR1 and nothing else")
    assert seen_frames(made, root=bare_phantom, ui=Silent()).sharpness.tolist() == found.sharpness.tolist()


def test_scores_never_need_the_images(bare_phantom: Path) -> None:
    """No data set, another one, a missing image, a folder that cannot be written: each is said, none is an error."""
    made = table_of(bare_phantom)
    assert "not on this disk" in str(seen_frames(made, root=None, ui=Silent()).reason)
    other = seen_frames(replace(made, manifest_hash="0" * 64), root=bare_phantom, ui=Silent())
    assert "another frame manifest" in str(other.reason)
    image = bare_phantom / "val" / f"{made.videos[0]}_{made.frames[0]}.jpg"
    data = image.read_bytes()
    image.write_bytes(data[:100])
    assert f"{image}: not a whole picture" in str(seen_frames(made, root=bare_phantom, ui=Silent()).reason)
    image.write_bytes(data)
    kept_at(bare_phantom, made).parent.parent.mkdir(exist_ok=True)
    kept_at(bare_phantom, made).parent.write_text("in the way")
    assert seen_frames(made, root=bare_phantom, ui=Silent()).reason is None
