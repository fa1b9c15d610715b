"""Trivial baselines: what each sees, how it is fitted, and that neither the future nor val's labels reach it."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize

from calot.analysis import trivial, trivial_cache
from calot.analysis.trivial import (
    ColourHistogram,
    LabelPrior,
    OperationTime,
    SeenFrames,
    Thumbnail,
    colour_shares,
    mean_fields,
    seconds_passed,
)
from calot.data.clips import AllFrames
from calot.data.manifest import LABELS, SOFT, votes_of
from calot.experiments import resolve
from calot.progress import Ui
from calot.run.baselines import score_baselines
from calot.run.data import OpenData
from calot.statistics.trivial import TrivialTables

RNG = np.random.default_rng(0)


def opened(root: Path, *, cache: Path | None = None, log: Path | None = None, protocol: str = "keyframes") -> OpenData:
    """A data folder as a tiny run opens it."""
    experiment = resolve("e02_frozen_probe", overrides=[], scale="tiny").experiment
    if protocol == "all-frames":
        experiment = replace(experiment, protocol=AllFrames())
    if cache is not None:
        experiment = replace(experiment, compute=replace(experiment.compute, cache=str(cache)))
    return OpenData.of(root, experiment=experiment, ui=Ui(log=log))


def logits(made: TrivialTables) -> dict[str, np.ndarray]:
    return {one.name: one.predictions.logits for one in made.baselines}


def frames(count: int, *, seconds: np.ndarray | None = None) -> SeenFrames:
    """Made-up frames of which only the time matters, or nothing."""
    passed = np.arange(count, dtype=np.float64) if seconds is None else seconds
    return SeenFrames(
        seconds=np.stack([passed, passed], axis=1),
        colours=RNG.random((count, 24)).astype(np.float32),
        fields=(255 * RNG.random((count, 192))).astype(np.float32),
    )


def three(column: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(column, dtype=np.int8)[:, None], 3, axis=1)


@pytest.mark.parametrize("side", [64, 60, 256])
def test_colours_and_fields_are_what_a_loop_over_pixels_finds(side: int) -> None:
    pictures = RNG.integers(0, 256, (3, 3, side, side), dtype=np.uint8)
    grid = pictures[:, :, :: -(-side // 64), :: -(-side // 64)]
    shares = [
        [np.mean((grid[n, c] >= 32 * b) & (grid[n, c] < 32 * (b + 1))) for c in range(3) for b in range(8)]
        for n in range(3)
    ]
    np.testing.assert_allclose(colour_shares(pictures), shares, atol=1e-12)
    if side % 8 == 0:
        blocks = pictures.reshape(3, 3, 8, side // 8, 8, side // 8).mean(axis=(3, 5)).reshape(3, 192)
        np.testing.assert_allclose(mean_fields(pictures), blocks, rtol=1e-5)
    flat = np.full((1, 3, side, side), 77, dtype=np.uint8)
    np.testing.assert_allclose(mean_fields(flat), 77, rtol=1e-5)  # also where eight does not divide the side


def test_blocks_of_frames_are_small_and_give_what_one_block_gives(
    phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = opened(phantom)
    table, store = data.clips("val", training=False), data.store("val")
    whole, asked = SeenFrames.of(table, store=store), []
    monkeypatch.setattr(trivial, "_BLOCK", 3 * 3 * 64 * 64)
    real = type(store).read
    monkeypatch.setattr(
        type(store), "read", lambda self, rows, **more: asked.append(len(rows)) or real(self, rows, **more)
    )
    parts = SeenFrames.of(table, store=store)
    assert max(asked) == 3
    for name in ("seconds", "colours", "fields"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-6)
    np.testing.assert_array_equal(whole.fields, mean_fields(store.read(table.row)))


def test_time_counts_from_the_recordings_beginning_and_from_the_first_scored_frame(phantom: Path) -> None:
    data = opened(phantom)
    table = data.clips("val", training=False)
    seconds = seconds_passed(table)
    for video in np.unique(table.videos):
        own = table.videos == video
        numbers = table.frame_numbers[own]
        np.testing.assert_allclose(seconds[own, 0], numbers / table.frames_per_second)
        np.testing.assert_allclose(seconds[own, 1], (numbers - min(numbers)) / table.frames_per_second)


def test_a_logistic_baseline_is_the_penalised_fit_found_another_way() -> None:
    train, other = frames(60), frames(20)
    positive = RNG.random(60) < 0.4
    found = ColourHistogram(c=0.5).score(train, three(positive), other).logits[:, 0]
    x = train.colours.astype(np.float64)
    mean, spread, sign = x.mean(0), x.std(0), np.where(positive, 1.0, -1.0)
    z = (x - mean) / spread

    def loss(w: np.ndarray) -> float:  # scikit-learn's: |w|^2 / 2 + C sum log(1 + exp(-y f))
        return float(w[1:] @ w[1:] / 2 + 0.5 * np.logaddexp(0, -sign * (w[0] + z @ w[1:])).sum())

    best = minimize(loss, np.zeros(25), method="BFGS", options={"gtol": 1e-7}).x
    np.testing.assert_allclose(found, best[0] + (other.colours - mean) / spread @ best[1:], atol=1e-3)


def test_the_label_prior_is_the_share_of_positives_counted_by_hand() -> None:
    seconds = np.arange(8, dtype=np.float64)
    positive = np.array([0, 0, 0, 0, 1, 0, 1, 1])
    made = LabelPrior(bins=2).score(
        frames(8, seconds=seconds), three(positive), frames(3, seconds=np.array([0.0, 7, 99]))
    )
    early, late = (0 + 3 / 8) / 5, (3 + 3 / 8) / 5  # four frames each; the prevalence counts as one more
    expected = [np.log(p / (1 - p)) for p in (early, late, late)]
    np.testing.assert_allclose(made.logits[:, 0], expected, rtol=1e-6)


def test_a_criterion_of_one_class_in_train_is_undefined_with_its_reason() -> None:
    labels = three(RNG.random(30) < 0.5)
    labels[:, 1], labels[:, 2] = 0, 1
    for baseline in trivial.BASELINES:
        made = baseline.score(frames(30), labels, frames(5))
        assert made.undefined == {
            "hepatocystic_triangle": "train has no positive label of it",
            "cystic_plate": "train has no negative label of it",
        }
        assert np.ptp(made.logits[:, 0]) > 0
        assert not made.logits[:, 1:].any()


def test_frames_without_labels_are_left_out_of_the_fit_and_without_any_nothing_is_fitted() -> None:
    train, other, labels = frames(40), frames(6), three(RNG.random(40) < 0.5)
    labels[30:] = -1
    first = SeenFrames(seconds=train.seconds[:30], colours=train.colours[:30], fields=train.fields[:30])
    for baseline in trivial.BASELINES:
        kept = baseline.score(first, labels[:30], other).logits
        np.testing.assert_array_equal(baseline.score(train, labels, other).logits, kept)
        bare = baseline.score(train, np.full_like(labels, -1), other)
        assert set(bare.undefined.values()) == {trivial.NO_TRAIN}


def _rewritten(root: Path, change: Callable[[pl.DataFrame], pl.DataFrame], *, cache: Path) -> OpenData:
    data = opened(root, cache=cache)
    return replace(data, manifest=data.manifest.with_table(change(data.manifest.table)))


def test_labels_of_val_and_test_do_not_change_the_fit(phantom: Path, tmp_path: Path) -> None:
    def flipped(table: pl.DataFrame) -> pl.DataFrame:
        votes = votes_of((1, 2, 3))
        turned = [(1 - pl.col(name)).alias(name) for name in (*LABELS, *SOFT, *votes)]
        kept = pl.col("split") == "train"
        return table.with_columns(pl.when(kept).then(pl.col(t.meta.output_name())).otherwise(t) for t in turned)

    plain, other = opened(phantom, cache=tmp_path), _rewritten(phantom, flipped, cache=tmp_path)
    assert plain.manifest.hash != other.manifest.hash
    for split in ("val", "test"):
        made = [score_baselines(data, split=split, ui=data.ui) for data in (plain, other)]
        assert (made[0].baselines[0].predictions.labels != made[1].baselines[0].predictions.labels).any()
        for name, found in logits(made[0]).items():
            np.testing.assert_array_equal(found, logits(made[1])[name])


@pytest.mark.parametrize("protocol", ["keyframes", "all-frames"])
def test_no_baseline_looks_into_the_future(phantom: Path, tmp_path: Path, protocol: str) -> None:
    """Every later frame of each operation shows something else, and the operation ends sooner: earlier scores stay."""
    root = Path(shutil.copytree(phantom, tmp_path / "phantom", ignore=shutil.ignore_patterns(".calot")))
    plain = opened(phantom, cache=tmp_path / "a", protocol=protocol)
    rows = plain.manifest.split("val")
    middle = {v: int(np.median(rows.frames[np.array(rows.videos) == v])) for v in set(rows.videos)}
    for video, cut in middle.items():
        later = [
            image
            for image, v, f in zip(rows.table["image"], rows.videos, rows.frames, strict=True)
            if (v, f > cut) == (video, True)
        ]
        moved = {image: (root / image).read_bytes() for image in later}
        for image, source in zip(later, later[::-1], strict=True):
            (root / image).write_bytes(moved[source])

    def shorter(table: pl.DataFrame) -> pl.DataFrame:
        last = pl.col("video").replace_strict(
            {v: int(rows.frames[np.array(rows.videos) == v].max()) - 250 for v in middle}, default=None
        )
        return table.filter((pl.col("split") != "val") | (pl.col("frame") <= last))

    other = opened(root, cache=tmp_path / "b", protocol=protocol)
    other = replace(other, manifest=other.manifest.with_table(shorter(other.manifest.table)))
    made = [score_baselines(data, split="val", ui=data.ui) for data in (plain, other)]
    compared = 0
    for a, b in zip(made[0].baselines, made[1].baselines, strict=True):
        key = [
            dict(
                zip(
                    zip(one.predictions.videos.tolist(), one.predictions.frames.tolist(), strict=True),
                    one.predictions.logits.tolist(),
                    strict=True,
                )
            )
            for one in (a, b)
        ]
        early = [k for k in key[1] if k[1] <= middle[k[0]]]
        compared += len(early)
        assert [key[0][k] for k in early] == [key[1][k] for k in early]
        if a.name in ("colours", "thumbnail"):
            assert any(key[0][k] != key[1][k] for k in key[1] if k[1] > middle[k[0]])
    assert compared >= 20


def test_what_was_kept_is_read_again_and_a_damaged_or_foreign_file_is_computed_again(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, log = opened(phantom, cache=tmp_path / "cache", log=tmp_path / "log"), tmp_path / "log"
    first = logits(score_baselines(data, split="val", ui=data.ui))
    (kept,) = (tmp_path / "cache" / "baselines").glob("*.json")
    computed: list[str] = []
    real = trivial_cache._computed
    monkeypatch.setattr(trivial_cache, "_computed", lambda *a, **k: computed.append("again") or real(*a, **k))

    def again() -> tuple[int, str]:
        log.write_text("")
        found = logits(score_baselines(data, split="val", ui=data.ui))
        assert all(np.array_equal(found[name], first[name]) for name in first)
        return len(computed), log.read_text()

    assert again() == (0, "")
    good = kept.read_bytes()
    kept.write_bytes(good.replace(b"protocol", b"protocoI", 1))
    assert again()[0] == 1
    assert "computed again (its content does not match its own digest)" in log.read_text()
    assert kept.read_bytes() == good
    foreign = json.loads(good)["value"]
    foreign["what"]["manifest"] = "0" * 64
    kept.write_text(trivial_cache.with_digest(foreign))
    assert again()[0] == 2
    assert "computed again (it is of other frames, labels or baselines)" in log.read_text()
    kept.write_bytes(good[:50])
    assert again()[0] == 3
    assert again() == (3, "")
    score_baselines(data, split="test", ui=data.ui)
    score_baselines(opened(phantom, cache=tmp_path / "cache", protocol="all-frames"), split="val", ui=Ui())
    assert len(list(kept.parent.glob("*.json"))) == 3  # another split, another protocol: another file


def test_changed_frames_are_another_file(phantom: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(phantom, tmp_path / "phantom", ignore=shutil.ignore_patterns(".calot")))
    before = logits(score_baselines(opened(root), split="val", ui=Ui()))
    rows = opened(root).manifest.split("val")
    images = rows.table["image"].to_list()
    scored = [image for image, key in zip(images, rows.keyframes, strict=True) if key]
    shutil.copyfile(root / scored[0], root / scored[-1])
    after = logits(score_baselines(opened(root), split="val", ui=Ui()))
    assert len(list((root / ".calot" / "baselines").glob("*.json"))) == 2
    assert (before["thumbnail"] != after["thumbnail"]).any()
    np.testing.assert_array_equal(before["time"], after["time"])


def test_of_two_that_ask_at_once_one_computes(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = opened(phantom, cache=tmp_path)
    data.store("train"), data.store("val")
    computed: list[int] = []
    real = trivial_cache._computed
    monkeypatch.setattr(trivial_cache, "_computed", lambda *a, **k: computed.append(1) or real(*a, **k))
    threads = [
        threading.Thread(target=score_baselines, args=(data,), kwargs={"split": "val", "ui": Ui()}) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) == 1


def test_where_nothing_can_be_kept_it_is_computed_and_said(phantom: Path, tmp_path: Path) -> None:
    data = opened(phantom, cache=tmp_path / "cache", log=tmp_path / "log")
    data.store("train"), data.store("val")
    (tmp_path / "cache" / "baselines").write_text("a file where the folder must be")
    made = score_baselines(data, split="val", ui=data.ui)
    assert [one.name for one in made.baselines] == ["time", "prior", "colours", "thumbnail"]
    assert "are not kept for the next time" in (tmp_path / "log").read_text()


def test_a_data_set_without_train_has_no_baselines_and_says_why(phantom: Path, tmp_path: Path) -> None:
    data = _rewritten(phantom, lambda table: table.filter(pl.col("split") != "train"), cache=tmp_path)
    made = score_baselines(data, split="val", ui=Ui())
    assert (made.baselines, made.clips) == ((), 0)
    assert made.undefined is not None
    assert 'split "train" has no frames' in made.undefined
    assert (OperationTime().name, Thumbnail().name) == ("time", "thumbnail")
