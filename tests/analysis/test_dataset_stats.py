"""Counts and agreement worked out by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from rich.console import Console

from calot.analysis.dataset_stats import dataset_statistics, draw, tables
from calot.criteria import CRITERIA
from calot.data.clips import AllFrames, Keyframes
from calot.data.manifest import Manifest
from calot.data.numbering import FrameNumbering
from calot.statistics.agreement import cohen_kappa, fleiss_kappa

# Votes of three raters for (two structures, hepatocystic triangle, cystic plate), a keyframe each.
KEYFRAMES = {
    ("1", 25): [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
    ("1", 75): [[1, 0, 0], [1, 0, 0], [0, 0, 0]],
    ("2", 50): [[1, 1, 0], [1, 1, 0], [1, 1, 0]],
    ("2", 75): [[0, 0, 0], [0, 0, 0], [1, 0, 0]],
}
FRAMES = [("1", 25), ("1", 50), ("1", 75), ("2", 25), ("2", 50), ("2", 75), ("2", 100), ("2", 125)]


def manifest(*, dataset: str = "endoscapes") -> Manifest:
    rows = []
    for video, frame in FRAMES:
        votes = KEYFRAMES.get((video, frame))
        row: dict[str, object] = {
            "dataset": dataset,
            "split": "train",
            "video": video,
            "frame": frame,
            "image": "",
            "keyframe": votes is not None,
            "mask": None,
            "mask_source": None,
        }
        for k, c in enumerate(CRITERIA):
            mean = float(np.mean([v[k] for v in votes])) if votes else 0.0
            row |= {f"soft_{c}": mean, f"label_{c}": int(mean >= 0.5)}
            row |= {f"vote{r}_{c}": votes[r - 1][k] if votes else None for r in (1, 2, 3)}
        rows.append(row)
    return Manifest(pl.DataFrame(rows, infer_schema_length=None), FrameNumbering(25, 25))


def test_shares_are_over_the_frames_the_protocol_scores() -> None:
    key = dataset_statistics(manifest(), protocol=Keyframes()).splits["train"]
    assert (key.scored, key.frames, key.keyframes, key.videos) == (4, 8, 4, 2)
    assert list(key.positives.values()) == [0.5, 0.25, 0.0]
    assert list(key.negative_per_positive.values()) == [1.0, 3.0, None]
    assert (key.chance, key.all_negative, key.all_positive) == (0.25, 0.5, 0.0)
    every = dataset_statistics(manifest(), protocol=AllFrames()).splits["train"]
    assert (every.scored, list(every.positives.values())) == (8, [0.25, 0.125, 0.0])


def test_combinations_sum_to_one_and_are_named_by_criterion() -> None:
    found = dataset_statistics(manifest(), protocol=Keyframes()).splits["train"].combinations
    assert {k: v for k, v in found.items() if v} == {
        "none": 0.5,
        "two_structures": 0.25,
        "two_structures+hepatocystic_triangle": 0.25,
    }
    assert len(found) == 8


def test_raters_agreement_by_hand() -> None:
    raters = dataset_statistics(manifest(), protocol=AllFrames()).splits["train"].rater_agreement
    assert raters is not None
    assert raters.unanimous == {"two_structures": 0.5, "hepatocystic_triangle": 1.0, "cystic_plate": 1.0}
    assert raters.cohen_kappa["two_structures"] == {"1-2": 1.0, "1-3": 0.0, "2-3": 0.0}
    assert raters.fleiss_kappa["hepatocystic_triangle"] == 1.0
    assert raters.fleiss_kappa["cystic_plate"] is None  # nobody ever voted yes: undefined, not perfect
    third = raters.leave_one_rater_out["two_structures"]["3"]
    assert third["agreement"] == 0.5  # raters 1 and 2 always agree; the third is with them on two of four
    # Scores 0, 1, 1, 0 for the third one's 0, 0, 1, 1: precision 1/2 at recall 1/2, then 2/4 at recall 1.
    assert third["average_precision"] == pytest.approx(0.5)
    assert raters.leave_one_rater_out_map is None


def test_kappas_of_textbook_tables() -> None:
    # 20 and 15 agreed, 5 and 10 not: Cohen's kappa 0.4.
    one = np.array([1.0] * 20 + [1] * 5 + [0] * 10 + [0] * 15)
    other = np.array([1.0] * 20 + [0] * 5 + [1] * 10 + [0] * 15)
    assert cohen_kappa(one, other) == pytest.approx(0.4)
    assert fleiss_kappa(np.array([[1.0, 1, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1]])) == pytest.approx(1 / 3)


def test_videos_that_are_never_positive_are_named_by_criterion() -> None:
    found = dataset_statistics(manifest(), protocol=Keyframes()).splits["train"].never_positive_videos
    assert found == {"two_structures": [], "hepatocystic_triangle": ["1"], "cystic_plate": ["1", "2"], "any": []}


def test_lengths_are_seconds() -> None:
    lengths = dataset_statistics(manifest(), protocol=AllFrames()).splits["train"].video_lengths
    assert (lengths.shortest, lengths.longest, lengths.median, lengths.largest_share) == (3, 5, 4.0, 0.625)
    assert lengths.seconds == {"1": 3, "2": 5}


def test_the_json_is_the_contract_of_a_runs_data_file() -> None:
    made = manifest()
    found = dataset_statistics(made, protocol=Keyframes()).to_dict()
    assert list(found) == ["protocol", "manifest_hash", "splits"]
    assert (found["protocol"], found["manifest_hash"]) == ("keyframes", made.hash)
    needed = [
        "frames",
        "keyframes",
        "videos",
        "scored",
        "positives",
        "negative_per_positive",
        "all_negative",
        "all_positive",
    ]
    assert set(needed) < set(found["splits"]["train"])
    json.dumps(found, allow_nan=False)


def test_tables_and_figure_name_protocol_and_say_that_a_phantom_is_none(tmp_path: Path) -> None:
    stats = dataset_statistics(manifest(dataset="phantom"), protocol=Keyframes())
    console = Console(file=io.StringIO(), width=120)
    console.print(*tables(stats))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("phantom", "says nothing clinical", "protocol keyframes", "C2 hepatocystic triangle", "50.0% (1.00x)"):
        assert part in shown
    draw(stats, path=tmp_path / "figures" / "stats.png")
    assert Image.open(tmp_path / "figures" / "stats.png").size == (1320, 880)
