"""The published label tables of Endoscapes, where `CALOT_REAL_LABELS` names their folder: documented figures come out.

Images are not needed: the tests write the tables into the archive's layout and read that.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from calot.analysis.dataset_stats import SplitStats, dataset_statistics
from calot.criteria import CRITERIA
from calot.data.clip_rules import ClipRule
from calot.data.clips import AllFrames, CentreLabel, Keyframes, build_clips
from calot.data.endoscapes.reader import read_endoscapes
from calot.data.manifest import Manifest
from calot.data.sampling import Balanced
from calot.errors import CalotError

TABLES = os.environ.get("CALOT_REAL_LABELS")

pytestmark = pytest.mark.skipif(
    TABLES is None,
    reason="CALOT_REAL_LABELS is not set: it names the folder of endo_{train,val}_{all1fps,keyframes_raters}.csv",
)


def write_archive(tables: Path, *, root: Path) -> None:
    """Write `all_metadata.csv` and the lists of videos as the archive has them, from the published tables."""
    parts = []
    for split in ("train", "val"):
        frames = pl.read_csv(tables / f"endo_{split}_all1fps.csv")
        votes = [
            pl.format("[{}, {}, {}]", *(f"c{c}_rater{r}" for c in (1, 2, 3))).alias(f"cvs_annotator_{r}")
            for r in (1, 2, 3)
        ]
        raters = pl.read_csv(tables / f"endo_{split}_keyframes_raters.csv").select(
            "vid", "frame", "is_ds_keyframe", *votes
        )
        joined = frames.join(raters, on=["vid", "frame"], how="left")
        parts.append(
            joined.select(
                "vid",
                "frame",
                pl.col("c1").alias("C1"),
                pl.col("c2").alias("C2"),
                pl.col("c3").alias("C3"),
                pl.col("is_ds_keyframe").cast(pl.String).str.to_titlecase().fill_null("False"),
                *(f"cvs_annotator_{r}" for r in (1, 2, 3)),
            )
        )
        videos = frames["vid"].unique().sort()
        (root / f"{split}_vids.txt").write_text("".join(f"{video:.9e}\n" for video in videos))
    pl.concat(parts).write_csv(root / "all_metadata.csv")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("real")
    write_archive(Path(str(TABLES)), root=root)
    return read_endoscapes(root)


def stats(manifest: Manifest, *, split: str, all_frames: bool) -> SplitStats:
    return dataset_statistics(manifest, protocol=AllFrames() if all_frames else Keyframes()).splits[split]


def test_splits_have_the_published_sizes(manifest: Manifest) -> None:
    train, val = (stats(manifest, split=s, all_frames=True) for s in ("train", "val"))
    assert (train.videos, train.frames, train.keyframes) == (120, 36_694, 6_960)
    assert (val.videos, val.frames, val.keyframes) == (41, 12_372, 2_331)
    assert (train.video_lengths.shortest, val.video_lengths.longest) == (48, 1752)
    with pytest.raises(CalotError, match='split "test" has no frames'):
        manifest.split("test")


def test_the_documented_class_distribution_of_the_36_694_training_frames_comes_out(manifest: Manifest) -> None:
    train = stats(manifest, split="train", all_frames=True)
    assert [round(100 * train.positives[c], 1) for c in CRITERIA] == [14.6, 10.5, 16.8]
    assert [round(train.negative_per_positive[c] or 0, 2) for c in CRITERIA] == [5.86, 8.55, 4.95]
    assert round(100 * train.all_negative, 1) == 73.9
    assert round(100 * train.all_positive, 1) == 4.9
    assert sum(train.combinations.values()) == pytest.approx(1)


def test_chance_on_val_is_the_documented_one_under_each_protocol(manifest: Manifest) -> None:
    assert round(100 * stats(manifest, split="val", all_frames=True).chance, 1) == 14.0
    assert round(100 * stats(manifest, split="val", all_frames=False).chance, 1) == 15.2


def test_one_val_video_holds_15_percent_of_val_keyframes(manifest: Manifest) -> None:
    assert round(100 * stats(manifest, split="val", all_frames=False).video_lengths.largest_share) == 15


def test_clips_of_both_protocols_are_the_scored_frames(manifest: Manifest) -> None:
    for protocol, count in ((Keyframes(), 6_960), (AllFrames(), 36_694)):
        table = build_clips(
            manifest, split="train", protocol=protocol, rule=ClipRule(), label_rule=CentreLabel(), training=True
        )
        assert table.frames.shape == (count, 16)
        steps = np.diff(table.clip_frame_numbers, axis=1)
        assert set(np.unique(steps)) <= {0, 25}


def test_balanced_sampling_doubles_the_share_of_each_criterion(manifest: Manifest) -> None:
    labels = manifest.split("train").labels.astype(np.float32)
    dose = Balanced().expected(labels) @ labels
    assert (dose > 2 * labels.mean(axis=0)).all()
    assert (dose < 0.5).all()
