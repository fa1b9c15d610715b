"""Which clips are shown, and the sheets of frames they are shown as."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from make_run import make_predictions
from PIL import Image

import calot.report
from calot.drawing import LIGHT
from calot.report.pictures import FRAME_HEIGHT, SHEET_COLUMNS, SHEET_FRAMES, choose_clips, clip_losses, write_clip_sheet


def test_best_and_worst_clips_are_half_positive_and_from_distinct_videos() -> None:
    predictions = make_predictions()
    choices = choose_clips(predictions, count=4)
    for kind in ("best", "worst"):
        kept = [choice for choice in choices if choice.kind == kind]
        assert len(kept) == 4
        assert sum(choice.positive for choice in kept) == 2
        assert len({choice.video for choice in kept}) == 4
    assert len({choice.row for choice in choices}) == 8


def test_the_single_worst_positive_clip_is_the_one_with_the_highest_loss() -> None:
    predictions = make_predictions()
    losses, positive = clip_losses(predictions), predictions.labels.any(axis=1)
    worst = [choice for choice in choose_clips(predictions) if choice.kind == "worst" and choice.positive]
    assert worst[0].loss == pytest.approx(losses[positive].max())
    assert (worst[0].video, worst[0].frame) == (predictions.videos[worst[0].row], predictions.frames[worst[0].row])


def test_clip_loss_is_the_sum_of_three_binary_cross_entropies() -> None:
    predictions = make_predictions()
    p = 1 / (1 + np.exp(-predictions.logits.astype(np.float64)))
    expected = -np.log(np.where(predictions.labels == 1, p, 1 - p)).sum(axis=1)
    np.testing.assert_allclose(clip_losses(predictions), expected, rtol=1e-9)


def test_one_video_still_gives_its_clips() -> None:
    choices = choose_clips(make_predictions(videos=1), count=3)
    assert [choice.kind for choice in choices] == ["best"] * 3 + ["worst"] * 3


def test_a_sheet_keeps_the_first_and_the_last_frame_and_their_shape(tmp_path: Path) -> None:
    frames = [np.full((480, 854, 3), 10 * step, dtype=np.uint8) for step in range(16)]
    path = write_clip_sheet(frames, tmp_path / "clips/val/1_25.jpg")
    rows = SHEET_FRAMES // SHEET_COLUMNS
    with Image.open(path) as sheet:
        assert sheet.format == "JPEG"
        assert sheet.height == pytest.approx(rows * FRAME_HEIGHT, abs=2 * rows)
        assert sheet.width == pytest.approx(SHEET_COLUMNS * FRAME_HEIGHT * 854 / 480, abs=4 * SHEET_COLUMNS)
        grey = np.asarray(sheet.convert("L"))
    assert abs(int(grey[5, 5]) - 0) <= 3
    assert abs(int(grey[-5, -5]) - 150) <= 3


def test_a_sheet_refuses_frames_that_are_not_uint8_images_of_one_size(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        write_clip_sheet([], tmp_path / "x.jpg")
    with pytest.raises(ValueError, match="uint8"):
        write_clip_sheet([np.zeros((4, 4, 3), dtype=np.float32)], tmp_path / "x.jpg")
    with pytest.raises(ValueError, match="one size"):
        write_clip_sheet([np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)], tmp_path / "x.jpg")


def test_figures_in_files_have_the_colours_of_the_page() -> None:
    css = (Path(calot.report.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"--(\w+): (#\w+);", css.split("@media")[0]))
    assert (LIGHT.ink, LIGHT.muted, LIGHT.rule, LIGHT.paper) == tuple(
        light[n] for n in ("ink", "muted", "rule", "paper")
    )
    assert LIGHT.series == (light["c1"], light["c2"], light["c3"])
