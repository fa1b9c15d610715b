"""The phantom on disk: exact layout, equal bytes, masks and knobs that do what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import simplejpeg
from PIL import Image

from calot.errors import CalotError
from calot.phantom import PhantomSpec, generate, rle, simulate_labels
from calot.phantom.anatomy import ARTERY, DUCT, GALLBLADDER, PLATE, TOOL, TRIANGLE
from calot.phantom.labels import label_video, stream
from calot.phantom.plan import plan_videos
from calot.phantom.render import Renderer, drawn_exposure
from calot.phantom.write import marker_frames

SPEC = PhantomSpec(videos=3, seed=4, mean_frames=22, min_frames=18, max_frames=28)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "made"
    generate(out, SPEC, workers=1)
    return out


@pytest.fixture(scope="module")
def table(root) -> pl.DataFrame:
    return pl.read_csv(root / "all_metadata.csv")


def _tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.long
def test_two_spawned_processes_write_the_same_bytes_as_one(root, tmp_path):
    told: list[tuple[int, int]] = []
    summary = generate(tmp_path / "two", SPEC, workers=2, progress=lambda done, total: told.append((done, total)))
    assert _tree(tmp_path / "two") == _tree(root)
    assert told[-1] == (summary.frames, summary.frames)


def test_a_folder_that_is_not_empty_is_refused_by_name(root):
    with pytest.raises(CalotError, match="made holds a finished phantom"):
        generate(root, SPEC)


def test_the_layout_is_that_of_endoscapes(root, table):
    assert table.columns == [
        "vid", "frame", "avg_cvs", "C1", "C2", "C3", "is_ds_keyframe",
        "cvs_annotator_1", "cvs_annotator_2", "cvs_annotator_3", "mask_path", "label_path",
    ]  # fmt: skip
    for split, video in (("train", 1), ("val", 2), ("test", 3)):
        assert (root / f"{split}_vids.txt").read_text() == f"{video}.000000000e+00\n"
        rows = table.filter(pl.col("vid") == video)
        numbers = sorted(int(p.stem.split("_")[1]) for p in (root / split).glob(f"{video}_*.jpg"))
        assert numbers == rows["frame"].to_list()
        assert set(np.diff(numbers)) == {25}
        assert set(np.diff(rows.filter("is_ds_keyframe")["frame"].to_list())) == {125}


def test_pictures_are_480_by_854_and_masks_have_three_equal_channels(root):
    picture = simplejpeg.decode_jpeg(next((root / "val").glob("*.jpg")).read_bytes())
    mask = cv2.imread(str(next((root / "semseg").glob("2_*.png"))), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (480, 854, 3)
    assert mask.shape == (480, 854, 3)
    assert np.all(mask == mask[..., :1])
    assert set(np.unique(mask)) <= {0, 1, 2, 3, 4, 5, 6, 255}


def test_annotators_stand_on_keyframes_only_and_average_to_the_c_columns(table):
    off = table.filter(~pl.col("is_ds_keyframe"))
    assert off["cvs_annotator_1"].is_null().all()
    for row in table.filter("is_ds_keyframe").iter_rows(named=True):
        votes = np.array([json.loads(row[f"cvs_annotator_{r}"]) for r in (1, 2, 3)])
        assert [row["C1"], row["C2"], row["C3"]] == pytest.approx(votes.mean(axis=0).tolist())


def test_the_table_holds_the_simulated_labels(table):
    for video in simulate_labels(SPEC):
        rows = table.filter(pl.col("vid") == video.plan.video)
        assert rows["frame"].to_list() == video.plan.numbers.tolist()
        assert np.allclose(rows.select("C1", "C2", "C3").to_numpy(), video.filled)


def test_the_three_coco_files_agree_with_the_table_and_the_masks(root, table):
    rows = table.filter(pl.col("vid") == 1)
    masked, keyed, every = (
        json.loads((root / "train" / f"{name}.json").read_text())
        for name in ("annotation_coco", "annotation_ds_coco", "annotation_coco_vid")
    )
    assert [image["id"] for image in every["images"]] == [1_000_000 + f for f in rows["frame"]]
    keyframes = rows.filter("is_ds_keyframe")
    assert [image["ds"] for image in keyed["images"]] == pytest.approx(
        [pytest.approx(r) for r in keyframes.select("C1", "C2", "C3").rows()], abs=1e-5
    )
    assert [c["name"] for c in masked["categories"]][:2] == ["cystic_plate", "calot_triangle"]
    image = masked["images"][-1]
    mask = cv2.imread(str(root / "semseg" / image["file_name"].replace("jpg", "png")), cv2.IMREAD_GRAYSCALE)
    own = [a for a in masked["annotations"] if a["image_id"] == image["id"]]
    for each in own:
        part = rle.decode(each["segmentation"])
        x, y, width, height = map(int, each["bbox"])
        assert np.all(mask[part] == each["category_id"])
        assert part[y : y + height, x : x + width].sum() == part.sum() == each["area"]
    assert {a["category_id"] for a in own} >= {GALLBLADDER}


def test_ds_of_the_video_file_never_looks_into_the_future(root):
    images = json.loads((root / "train" / "annotation_coco_vid.json").read_text())["images"]
    last = [0.0, 0.0, 0.0]
    for image in images:
        last = image["ds"] if image["is_ds_keyframe"] else last
        assert image["ds"] == last


def test_phantom_json_says_that_its_scores_mean_nothing_clinically(root):
    about = json.loads((root / "phantom.json").read_text())
    assert "mean nothing clinically" in about["notice"]
    assert PhantomSpec(**about["spec"] | {"split_shares": tuple(about["spec"]["split_shares"])}) == SPEC


def test_run_lengths_survive_encoding():
    rng = np.random.default_rng(0)
    for cell in (1, 7, 40):
        mask = np.kron(rng.uniform(size=(6, 5)) > 0.5, np.ones((cell, cell))) > 0
        assert np.array_equal(rle.decode(rle.encode(mask)), mask)


def _renderer(*, hidden: tuple[str, ...] = (), marker: bool = False, open_share: float = 0.95) -> Renderer:
    spec = PhantomSpec(videos=3, seed=1, mean_frames=60)
    labels = label_video(plan_videos(spec)[0], spec=spec)
    labels.state.exposure[:] = open_share
    shown = drawn_exposure(labels.state, hidden=hidden)
    return Renderer(
        labels.state,
        rng=stream(spec, video=1, purpose=2),
        exposure=shown,
        marker=np.full(labels.plan.frames, marker),
    )


@pytest.fixture(scope="module")
def laid_open() -> Renderer:
    return _renderer()


def _areas(renderer: Renderer, index: int) -> np.ndarray:
    return np.bincount(renderer.frame(index, with_mask=True).mask.ravel(), minlength=7)


def test_what_is_laid_open_is_in_the_mask_and_what_is_covered_is_not(laid_open):
    opened, covered = _areas(laid_open, 0), _areas(_renderer(open_share=0.0), 0)
    assert np.all(opened[[PLATE, TRIANGLE, ARTERY, DUCT]] > 400)
    assert np.all(covered[[PLATE, TRIANGLE, ARTERY, DUCT]] == 0)
    assert covered[GALLBLADDER] == opened[GALLBLADDER]


def test_an_invisible_criterion_is_neither_drawn_nor_in_the_mask(laid_open):
    hidden = _renderer(hidden=("triangle",))
    areas = _areas(hidden, 0)
    assert areas[PLATE] > 400
    assert areas[TRIANGLE] < 0.5 * _areas(laid_open, 0)[TRIANGLE]  # only the slits beside duct and artery remain
    assert not np.array_equal(hidden.frame(0, with_mask=False).rgb, laid_open.frame(0, with_mask=False).rgb)


def test_frames_do_not_depend_on_the_order_they_are_drawn_in(laid_open):
    before = laid_open.frame(3, with_mask=False).rgb
    laid_open.frame(9, with_mask=True)
    assert np.array_equal(laid_open.frame(3, with_mask=False).rgb, before)


def test_instruments_hide_anatomy_from_the_mask(laid_open):
    track = laid_open.track
    index = int(np.flatnonzero(track.present.any(axis=1))[0])
    shown = _areas(laid_open, index)
    kept = track.present[index].copy()
    track.present[index] = False
    assert shown[TOOL] > 400
    assert _areas(laid_open, index)[TOOL] == 0
    track.present[index] = kept


def test_the_marker_is_blue_paint_on_some_pixels_only(laid_open):
    plain = laid_open.frame(0, with_mask=False).rgb.astype(int)
    marked = _renderer(marker=True).frame(0, with_mask=False).rgb.astype(int)
    changed = np.abs(marked - plain).max(axis=2) > 20
    assert 200 < changed.sum() < 8000
    assert marked[changed][:, 2].mean() > marked[changed][:, 0].mean() + 30


def test_the_shortcut_agrees_with_its_criterion_in_train_only():
    spec = PhantomSpec(videos=60, seed=3, shortcut="hepatocystic_triangle")
    agreement: dict[str, list[float]] = {"train": [], "val": [], "test": []}
    for labels in simulate_labels(spec):
        shown = marker_frames(labels, spec=spec)[labels.plan.keyframes]
        agreement[labels.plan.split].append(float(np.mean(shown == labels.majority[:, 1])))
    assert np.mean(agreement["train"]) == pytest.approx(0.95, abs=0.03)
    assert np.mean(agreement["val"] + agreement["test"]) < 0.8


def test_the_shortcut_agrees_elsewhere_where_it_is_asked_to():
    spec = PhantomSpec(videos=60, seed=3, shortcut="hepatocystic_triangle", shortcut_elsewhere=0.9)
    shown = [
        (marker_frames(one, spec=spec)[one.plan.keyframes] == one.majority[:, 1], one.plan.split)
        for one in simulate_labels(spec)
    ]
    elsewhere = np.concatenate([agree for agree, split in shown if split != "train"])
    assert elsewhere.mean() == pytest.approx(0.9, abs=0.03)


@pytest.mark.slow
def test_the_places_of_the_marker_are_where_its_paint_is_and_change_no_other_byte(tmp_path):
    plain = PhantomSpec(
        videos=3, seed=5, mean_frames=18, max_frames=18, shortcut="two_structures", shortcut_agreement=0.6
    )
    placed = replace(plain, shortcut_places=True)
    assert "shortcut_places" not in plain.to_dict()
    for name, spec in (("plain", plain), ("placed", placed), ("bare", replace(plain, shortcut=None))):
        generate(tmp_path / name, spec)
    same = [
        p.relative_to(tmp_path / "plain")
        for p in sorted((tmp_path / "plain").rglob("*"))
        if p.suffix in (".jpg", ".png", ".csv", ".txt")
    ]
    assert all((tmp_path / "plain" / p).read_bytes() == (tmp_path / "placed" / p).read_bytes() for p in same)
    assert not (tmp_path / "plain" / "cue").exists()
    cues = sorted((tmp_path / "placed" / "cue").iterdir())
    assert cues
    seen = 0
    for path in cues:
        place = np.asarray(Image.open(path)) > 0
        pictures = [next((tmp_path / name).glob(f"*/{path.stem}.jpg")) for name in ("placed", "bare")]
        marked, bare = (np.asarray(Image.open(p)).astype(int) for p in pictures)
        changed = np.abs(marked - bare).max(axis=2) > 40
        if changed.sum() > 50:  # smoke or glare may cover it
            seen += 1
            near = cv2.dilate(place.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
            assert changed[near].sum() > 0.95 * changed.sum(), path.name
            assert changed[place].mean() > 0.5, path.name
    assert seen > 0.8 * len(cues)
    without = {p.stem for p in (tmp_path / "placed").glob("*/*.jpg")} - {p.stem for p in cues}
    for stem in sorted(without)[:10]:
        one, other = (next((tmp_path / name).glob(f"*/{stem}.jpg")).read_bytes() for name in ("placed", "bare"))
        assert one == other


@pytest.mark.parametrize("knob", [{"shortcut_places": True}, {"shortcut_elsewhere": 0.5}])
def test_what_is_about_the_shortcut_needs_one(knob):
    with pytest.raises(CalotError, match="needs a shortcut"):
        PhantomSpec(**knob)


def test_without_masks_no_mask_is_written(tmp_path):
    spec = PhantomSpec(videos=3, seed=4, mean_frames=18, max_frames=18, min_frames=18, mask_share=0.0)
    assert generate(tmp_path / "bare", spec).masks == 0
    assert list((tmp_path / "bare" / "semseg").iterdir()) == []
