"""Other groups' tables as their own code writes them: their mAP to 1e-4, and what a named protocol changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from challenge_folders import RATED, clip_id, sages2024
from command_line import calot
from sklearn.metrics import average_precision_score

from calot.criteria import CRITERIA
from calot.data.readers import open_folder
from calot.importing.layouts import LAYOUTS, SwinCvs
from calot.statistics.predictions import load_predictions

Rows = list[tuple[str, int]]


def keyframes(root: Path, split: str) -> pl.DataFrame:
    return open_folder(root).manifest.split(split).table.filter("keyframe")


def scored(labels: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Sigmoids in float32 that know something of the labels."""
    noise = np.random.default_rng(seed).normal(size=labels.shape)
    return (1 / (1 + np.exp(-(1.2 * labels + noise - 1)))).astype(np.float32)


def labels_of(table: pl.DataFrame) -> np.ndarray:
    return table.select([f"label_{c}" for c in CRITERIA]).to_numpy()


def swincvs_map(true: np.ndarray, probs: np.ndarray) -> float:
    """`get_map` of SwinCVS's f_metrics.py: scikit-learn's AP, the mean of three."""
    return float(np.mean([average_precision_score(true[:, k], probs[:, k]) for k in range(3)]))


def told(words: tuple[Any, ...], *, cwd: Path) -> dict[str, Any]:
    done = calot("import", "predictions", *words, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def swincvs_order(root: Path, split: str) -> list[tuple[str, int]]:
    """`get_frame_sequence_dataframe`, written out: sorted as text, windows of five, `range(len - 5)`."""
    table = open_folder(root).manifest.split(split).table
    rows = sorted((v, str(f), k) for v, f, k in table.select("video", "frame", "keyframe").iter_rows())
    found = []
    for video in dict.fromkeys(v for v, _, _ in rows):
        mine = [row for row in rows if row[0] == video]
        for start in range(len(mine) - 5):
            window = mine[start : start + 5]
            if window[4][2]:
                found.append((video, int(window[4][1])))
    return found


@pytest.fixture
def swincvs(phantom: Path, tmp_path: Path) -> tuple[Path, float]:
    """Results of two epochs on val, as SwinCVS writes them; the second is the better one."""
    order = swincvs_order(phantom, "val")
    own = {
        (v, f): labels
        for (v, f), labels in zip(_places(keyframes(phantom, "val")), labels_of(keyframes(phantom, "val")), strict=True)
    }
    true = np.array([own[place] for place in order])
    entries = {}
    for epoch, strength in ((1, 5), (2, 0)):
        probs = scored(true, seed=strength)
        value = swincvs_map(true, probs)
        entries[f"Epoch {epoch}"] = {
            "avg_map": round(value, 4),
            "preds_prob": probs.tolist(),
            "true": true.astype(float).tolist(),
        }
    path = tmp_path / "SwinCVS_frozen_results.json"
    path.write_text(json.dumps(entries))
    return path, max(e["avg_map"] for e in entries.values())


def _places(table: pl.DataFrame) -> Rows:
    return list(table.select("video", "frame").iter_rows())


def test_swincvs_results_without_ids_are_placed_by_its_loaders_order(
    phantom: Path, tmp_path: Path, swincvs: tuple[Path, float]
) -> None:
    path, printed = swincvs
    found = told((path, "--data", phantom, "--split", "val", "--out", tmp_path / "t.parquet"), cwd=tmp_path)
    assert (found["layout"], found["printed"]) == ("swincvs", printed)
    assert found["published"]["map"] == pytest.approx(printed, abs=1e-4)
    assert SwinCvs().order(open_folder(phantom).manifest.split("val"), root=phantom) == swincvs_order(phantom, "val")
    steps = {step["name"]: step for step in found["steps"]}
    every = len(keyframes(phantom, "val"))
    placed = len(swincvs_order(phantom, "val"))
    assert 0 < placed <= every  # keyframes among a video's first four frames, and its last frame, have no window
    assert f"keyframes: {placed} of its {every} frames" in steps["frames"]["said"]
    assert "0 frames differ" in steps["labels"]["said"]
    assert found["selection"].startswith("the best of 2 epochs on these same frames: ")
    table = load_predictions(tmp_path / "t.parquet")
    assert table.manifest_hash == open_folder(phantom).manifest.hash
    assert steps["rounding"]["map"] == pytest.approx(swincvs_map(table.labels, table.logits.astype(float)), abs=1e-12)


@pytest.mark.parametrize(
    ("video", "label", "score"), [("vid", "C{}", "Conf_C{}"), ("video_id", "c{}_label", "c{}_pred")]
)
def test_tables_of_swincvs_forks_are_known_by_their_columns(
    phantom: Path, tmp_path: Path, video: str, label: str, score: str
) -> None:
    table = keyframes(phantom, "val")
    labels, scores = labels_of(table), scored(labels_of(table))
    columns = {video: table["video"], "frame": table["frame"]}
    columns |= {score.format(k + 1): scores[:, k] for k in range(3)}
    columns |= {label.format(k + 1): labels[:, k] for k in range(3)}
    pl.DataFrame(columns).write_csv(tmp_path / "theirs.csv")
    found = told((tmp_path / "theirs.csv", "--data", phantom, "--split", "val"), cwd=tmp_path)
    assert found["layout"] == "swincvs"
    assert found["published"]["map"] == pytest.approx(swincvs_map(labels, scores), abs=1e-4)
    assert {step["name"]: step for step in found["steps"]}["frames"]["frames"] == len(table)


def test_a_table_that_only_claims_to_be_swincvs_is_named_by_its_columns(phantom: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("video,frame,score\n1,0,0.5\n")
    done = calot("import", "predictions", "t.csv", "--data", phantom, "--layout", "swincvs", cwd=tmp_path)
    assert done.returncode == 2
    assert 'column "vid" is missing' in done.stderr
    assert "docs/import.md" in done.stderr
    assert "Traceback" not in done.stderr


def test_swincvs_labels_in_another_order_are_refused(
    phantom: Path, tmp_path: Path, swincvs: tuple[Path, float]
) -> None:
    """Sorted as numbers, frame 975 comes before 1000: the rows would name other frames."""
    path, _ = swincvs
    entries = json.loads(path.read_text())
    for entry in entries.values():
        for name in ("true", "preds_prob"):
            entry[name] = entry[name][3:] + entry[name][:3]
    path.write_text(json.dumps(entries))
    done = calot("import", "predictions", path, "--data", phantom, "--split", "val", cwd=tmp_path)
    assert done.returncode == 2
    assert "rows without ids cannot be told apart" in done.stderr


def test_a_file_whose_own_number_does_not_follow_from_it_is_refused(
    phantom: Path, tmp_path: Path, swincvs: tuple[Path, float]
) -> None:
    path, printed = swincvs
    path.write_text(path.read_text().replace(f'"avg_map": {printed}', f'"avg_map": {printed + 0.0102}'))
    done = calot("import", "predictions", path, "--data", phantom, "--split", "val", cwd=tmp_path)
    assert done.returncode == 2
    assert "its own scores and labels give" in done.stderr


def perceva(
    path: Path, rows: Rows, labels: np.ndarray, *, key: str = "key_frame_id", decimals: int | None = None
) -> float:
    """`make_predictions_json` of PercEVA's inference_temporal.py; returns torchmetrics' mAP in float32."""
    probs = scored(labels, seed=1)
    probs = probs if decimals is None else probs.round(decimals)
    records = [
        {
            "split": "test",
            "video_name": video,
            key: frame,
            "probs": p.tolist(),
            "pred": (p >= 0.5).astype(int).tolist(),
            "label": truth.astype(int).tolist(),
            "confidence_aware_label": truth.astype(float).tolist(),
        }
        for (video, frame), p, truth in zip(rows, probs, labels, strict=True)
    ]
    path.write_text(json.dumps(records))
    return float(np.mean([step_ap(labels[:, k], probs[:, k].astype(np.float32)) for k in range(3)]))


def step_ap(labels: np.ndarray, scores: np.ndarray) -> float:
    """Average precision as torchmetrics computes it: sum of (R_k - R_(k-1)) P_k at distinct scores, in float32."""
    total, area, before = np.float32(labels.sum()), np.float32(0), np.float32(0)
    for threshold in np.unique(scores)[::-1]:
        chosen = scores >= threshold
        recall = np.float32(labels[chosen].sum()) / total
        area += (recall - before) * np.float32(labels[chosen].mean())
        before = recall
    return float(area)


def test_perceva_on_rounded_scores_and_what_the_protocol_changes(phantom: Path, tmp_path: Path) -> None:
    table = keyframes(phantom, "test")
    labels = labels_of(table)
    labels[0] = 1 - labels[0]  # one frame judged otherwise in the file
    rows = _places(table)[:-2]
    printed = perceva(tmp_path / "p.json", rows, labels[:-2], decimals=1)
    found = told((tmp_path / "p.json", "--data", phantom), cwd=tmp_path)
    assert found["layout"] == "perceva"
    assert found["published"]["map"] == pytest.approx(printed, abs=1e-4)
    steps = {step["name"]: step for step in found["steps"]}
    assert "1 frames differ" in steps["labels"]["said"]
    assert f"{len(rows)} of its {len(rows) + 2} frames" in steps["frames"]["said"]
    assert "2 of the protocol's frames have no row" in found["notes"][-1]
    low, high = found["ties"]
    assert low <= steps["rounding"]["map"] <= high
    assert low < high
    assert found["interval"]["map"]["low"] is None or found["interval"]["map"]["low"] < steps["rounding"]["map"]


def test_lg_cvs_text_files_follow_the_coco_listing(phantom: Path, tmp_path: Path) -> None:
    """`results2json` of CVSMetric.py: numpy.savetxt of sigmoids and of rater means, no ids."""
    images = json.loads((phantom / "test" / "annotation_ds_coco.json").read_text())["images"]
    truth = np.array([image["ds"] for image in images])
    folder = tmp_path / "lg"
    folder.mkdir()
    probs = scored(truth.round(), seed=2)
    np.savetxt(folder / "pred_ds.txt", probs)
    np.savetxt(folder / "gt_ds.txt", truth)
    found = told((folder, "--data", phantom), cwd=tmp_path)
    assert found["layout"] == "lgcvs"
    printed = float(np.mean([step_ap(truth[:, k].round(), probs[:, k]) for k in range(3)]))
    assert found["published"]["map"] == pytest.approx(printed, abs=1e-4)
    assert "0 rows of the file are not among them, 0 frames have no row" in found["steps"][1]["said"]


@pytest.fixture(scope="module")
def challenge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sages2024(tmp_path_factory.mktemp("made") / "sages", videos=4)


def test_sages_submissions_of_both_years(challenge: Path, tmp_path: Path) -> None:
    table = keyframes(challenge, "test")
    labels = labels_of(table)
    probs = scored(labels, seed=4).astype(float)
    images = [
        {"file_name": f"{v}_{f}.jpg", "pred_ds_prob": p.tolist()}
        for (v, f), p in zip(_places(table), probs, strict=True)
    ]
    (tmp_path / "A.json").write_text(json.dumps({"images": images}))
    found = told((tmp_path / "A.json", "--data", challenge), cwd=tmp_path)
    assert (found["layout"], found["published"]) == ("sages", None)
    assert found["steps"][-1]["map"] == pytest.approx(swincvs_map(labels, probs), abs=1e-4)
    per_second = np.full((90, 3), 0.25)
    per_second[[f // 30 for f in RATED]] = probs
    video = table["video"][0]
    folder = tmp_path / "outputs" / video
    folder.mkdir(parents=True)
    (folder / "cvs-criteria.json").write_text(json.dumps({"overall_outputs": per_second.tolist()}))
    again = told((tmp_path / "outputs", "--data", challenge), cwd=tmp_path)
    assert again["steps"][-1]["ap"] == found["steps"][-1]["ap"]
    assert "72 rows of the file are not among them" in again["steps"][0]["said"]


def test_a_plain_table_and_a_checkpoint_keep_their_ways(phantom: Path, tmp_path: Path) -> None:
    table = keyframes(phantom, "test")
    labels, frame = labels_of(table), table.select("video", "frame")
    probs = scored(labels, seed=6).astype(float)
    frame = frame.with_columns(pl.Series(f"prob_{c}", probs[:, k]) for k, c in enumerate(CRITERIA))
    frame.write_csv(tmp_path / "plain.csv")
    found = told((tmp_path / "plain.csv", "--data", phantom), cwd=tmp_path)
    assert found["steps"][-1]["map"] == pytest.approx(swincvs_map(labels, probs), abs=1e-6)
    done = calot("import", "nowhere.pt", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere.pt" in done.stderr
    assert "predictions" not in done.stderr


def test_the_printed_table_names_every_step(phantom: Path, tmp_path: Path) -> None:
    table = keyframes(phantom, "test")
    perceva(tmp_path / "p.json", _places(table), labels_of(table), key="frame_id")
    done = calot("import", "predictions", "p.json", "--data", phantom, "--out", "t.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("mAP as published", "as published", "labels", "frames", "rounding", "95 % over videos", "selection:"):
        assert word in done.stdout
    assert done.stdout.strip().endswith("Next: calot metrics t.parquet --by-video")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "of no layout that calot knows"),
        ('[{"video_name": "x", "probs": [1, 2]}]', "frame is None; need a whole number"),
        ('[{"video_name": "nan", "frame_id": 0, "probs": [0.1, 0.2, 0.3]}]', 'video is "nan"'),
        ('[{"video_name": "x", "frame_id": 0, "probs": [0.1, NaN, 0.3]}]', "need three finite numbers"),
        ('[{"video_name": "x", "frame_id": 0, "probs": [0.1, 0.2, 0.3], "label": [0, 1, 2]}]', "need labels 0 and 1"),
        (
            '[{"video_name": "x", "frame_id": 0, "probs": [0.1, 0.2, 0.3], "label": [0, 1, 1]}]',
            "The data set has none of these videos.",
        ),
        (
            '{"Epoch 1": {"preds_prob": [[0.1, 0.2, 0.3]], "true": [[0, 1, 1]]}}',
            "1 rows without ids, and swincvs's order",
        ),
        ('{"images": [{"file_name": "x.jpg", "pred_ds_prob": [0.1, 0.2, 0.3]}]}', "is no <video>_<frame>"),
        ('[{"video_name": "probs"', "not readable as JSON"),
    ],
)
def test_what_cannot_be_is_one_clear_line(phantom: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.json").write_text(text.replace('"probs"', '"probs"', 1))
    done = calot("import", "predictions", "p.json", "--data", phantom, "--split", "val", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(("rows", "says"), [("val", "Try --split val."), ("test", "Its videos are there, these")])
def test_rows_of_another_split_or_of_other_frames_are_told_apart(
    phantom: Path, tmp_path: Path, rows: str, says: str
) -> None:
    place = keyframes(phantom, rows).row(0, named=True)
    frame = place["frame"] + (1 if rows == "test" else 0)
    entry = {"video_name": place["video"], "key_frame_id": frame, "probs": [0.1, 0.2, 0.3], "label": [0, 1, 1]}
    (tmp_path / "theirs.json").write_text(json.dumps([entry]))
    done = calot("import", "predictions", "theirs.json", "--data", phantom, "--split", "test", cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr


def test_every_layout_says_where_it_was_read() -> None:
    assert len({layout.name for layout in LAYOUTS}) == 5
    assert all(layout.source for layout in LAYOUTS)
    assert clip_id(1) != clip_id(2)
