"""The manifest checks whatever table it is given, and comes back from disk unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from endoscapes_folder import Folder

from calot.data.endoscapes.reader import read_endoscapes
from calot.data.manifest import SCHEMA, Manifest, votes_of
from calot.data.numbering import FrameNumbering
from calot.errors import CalotError, nearest_name


@pytest.fixture
def manifest(folder: Callable[[], Folder]) -> Manifest:
    return read_endoscapes(folder().write())


def changed(manifest: Manifest, **columns: pl.Expr) -> Manifest:
    return replace(manifest, table=manifest.table.with_columns(**columns), source="made.parquet")


def test_a_manifest_comes_back_from_disk_with_the_same_content_and_hash(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "manifest.parquet"
    manifest.write(path)
    back = Manifest.load(path)
    assert back.table.equals(manifest.table)
    assert back.hash == manifest.hash
    assert list(path.parent.iterdir()) == [path]


def test_the_hash_is_pinned() -> None:
    """A change of this value makes every stored result incomparable: it needs its own commit and reason."""
    row = {
        "dataset": "endoscapes",
        "split": "val",
        "video": "121",
        "frame": 25,
        "image": "",
        "keyframe": False,
        **dict.fromkeys(("mask", "mask_source"), None),
        **{name: 0 for name in SCHEMA if name.startswith(("soft_", "label_"))},
        **dict.fromkeys(votes_of((1, 2, 3))),
    }
    assert (
        Manifest(pl.DataFrame([row]), FrameNumbering(25, 25)).hash
        == "1523f83771774b77e2f3914acba487d50c2a26fde03c49ea05292486ae1b809b"
    )


def test_splits_stand_in_the_order_train_val_test(manifest: Manifest) -> None:
    assert manifest.splits == ("train", "val", "test")
    assert manifest.table["split"].unique(maintain_order=True).to_list() == ["train", "val", "test"]


def test_arrays_have_one_row_a_frame_and_one_column_a_criterion(manifest: Manifest) -> None:
    assert manifest.labels.shape == manifest.soft.shape == (48, 3)
    assert manifest.votes.shape == (48, 3, 3)
    assert ((manifest.soft >= 0.5) == manifest.labels).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"soft_cystic_plate": pl.lit(float("nan"))}, "is not a label between 0 and 1"),
        ({"soft_cystic_plate": pl.lit(None)}, "label without soft_cystic_plate"),
        ({"label_cystic_plate": pl.lit(None)}, "label without soft_cystic_plate"),
        ({"keyframe": pl.lit(None)}, "keyframe .* is empty"),
        ({"label_cystic_plate": pl.lit(1)}, "is not the majority"),
        ({"split": pl.lit("holdout")}, 'split "holdout" is none of'),
        ({"frame": -pl.col("frame")}, "is negative"),
        ({"frame": pl.lit(25)}, "more than once"),
        ({"frame": pl.lit("x")}, "another type"),
        ({"vote1_cystic_plate": pl.lit(1)}, "is a vote off keyframes"),
        ({"vote1_cystic_plate": pl.lit(None)}, "is missing on a keyframe"),
        ({"vote1_cystic_plate": pl.when("keyframe").then(7)}, "is not 0 or 1"),
        ({"dataset": pl.col("split")}, "in one manifest"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    manifest: Manifest, columns: dict[str, pl.Expr], message: str
) -> None:
    with pytest.raises(CalotError, match=rf"^made\.parquet: .*{message}"):
        changed(manifest, **columns)


def test_a_video_in_two_splits_is_refused_however_it_got_there(manifest: Manifest) -> None:
    split = pl.when((pl.col("video") == "2") & (pl.col("frame") > 2100)).then(pl.lit("val")).otherwise("split")
    with pytest.raises(CalotError, match="video 2 is in two splits, train and val"):
        changed(manifest, split=split)


def test_a_missing_column_and_an_empty_table_are_refused(manifest: Manifest) -> None:
    with pytest.raises(CalotError, match=r'column "soft_cystic_plate" is missing\. Did you mean'):
        manifest.with_table(manifest.table.rename({"soft_cystic_plate": "soft_cystic_plat"}))
    with pytest.raises(CalotError, match="no frames"):
        manifest.with_table(manifest.table.clear())


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalotError, match="no such manifest"):
        Manifest.load(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 but not quite")
    with pytest.raises(CalotError, match="not a readable parquet file"):
        Manifest.load(tmp_path / "bad.parquet")


def test_a_misspelt_name_gets_the_nearest_and_the_whole_list() -> None:
    assert nearest_name("vla", among=["train", "val"]) == ' Did you mean "val"? Available: train, val.'
    assert nearest_name("zzz", among=["train", "val"]) == " Available: train, val."
