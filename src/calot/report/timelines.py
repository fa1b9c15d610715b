"""Per-video timelines: what the raters said and what the model predicted, keyframe by keyframe."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from calot.criteria import CRITERIA, label
from calot.report.canvas import CRITERION, MUTED, canvas, svg
from calot.statistics.calibration import Thresholds
from calot.statistics.metrics import sigmoid
from calot.statistics.predictions import Predictions

_GAP_SECONDS = 30.0
#: Height from one criterion's 0 to the next one's.
_PITCH = 1.5


def choose_videos(predictions: Predictions, *, count: int = 5) -> list[str]:
    """The videos with most positive frames (any criterion), most first, then the longest one that has none."""
    positive, videos = (predictions.labels == 1).any(axis=1), predictions.videos
    tally = {
        str(video): (int(positive[videos == video].sum()), int((videos == video).sum())) for video in np.unique(videos)
    }
    ranked = sorted(tally, key=lambda video: (-tally[video][0], video))
    with_positives = [video for video in ranked if tally[video][0] > 0][:count]
    without = sorted((video for video in ranked if tally[video][0] == 0), key=lambda video: (-tally[video][1], video))
    return with_positives + without[:1]


def timeline(predictions: Predictions, *, video: str, thresholds: Thresholds | None) -> Markup:
    """Three rows, one per criterion; band: share of raters who say achieved, line: predicted probability.

    Dashed: the threshold that val's decisions use, where there is one.
    """
    rows = np.flatnonzero(predictions.videos == video)
    rows = rows[np.argsort(predictions.frames[rows], kind="stable")]
    seconds = predictions.frames[rows] / (predictions.frames_per_second or 1.0)
    truth = predictions.labels[rows] if predictions.soft is None else predictions.soft[rows]
    probability = sigmoid(predictions.logits[rows])
    positive = int((predictions.labels[rows] == 1).any(axis=1).sum())
    with canvas(width=440.0, height=270.0, left=18.0, top=26.0) as figure:
        axes = figure.subplots()
        for place, criterion in enumerate(CRITERIA):
            base = _PITCH * (len(CRITERIA) - 1 - place)
            _threshold(axes, None if thresholds is None else thresholds.values.get(criterion), base=base)
            _row(
                axes, seconds, truth=truth[:, place], probability=probability[:, place], base=base, criterion=criterion
            )
        _axes(axes, seconds, clocked=predictions.frames_per_second is not None)
        title = f"Video {video}: {positive} of {rows.size} frames with a criterion"
        figure.text(0.0, 0.985, title, va="top", fontsize=12.5, fontweight="bold")
        spoken = f"Timeline of video {video}: rater mean and predicted probability"
        return svg(figure, name=f"timeline-{video}", describe=spoken)


def _row(
    axes: Any, seconds: np.ndarray, *, truth: np.ndarray, probability: np.ndarray, base: float, criterion: str
) -> None:
    """One criterion, its 0 at height `base`: neither band nor line crosses a gap in the scored frames."""
    colour = CRITERION[criterion]
    steps = np.diff(seconds)
    gap = max(_GAP_SECONDS, 2 * float(np.median(steps))) if steps.size else _GAP_SECONDS
    for part in np.split(np.arange(seconds.size), np.flatnonzero(steps > gap) + 1):
        band = base + np.append(truth[part], truth[part[-1]])
        axes.fill_between(_edges(seconds[part]), base, band, step="post", alpha=0.28, linewidth=0, color=colour)
        axes.plot(seconds[part], base + probability[part], color=colour, linewidth=1.5, marker="o", markersize=2.2)
    axes.text(0.0, base + 1.05, label(criterion), fontsize=11.5, va="bottom", transform=axes.get_yaxis_transform())


def _threshold(axes: Any, logit: float | None, *, base: float) -> None:
    if logit is not None:
        axes.axhline(base + float(sigmoid(logit)), color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))


def _axes(axes: Any, seconds: np.ndarray, *, clocked: bool) -> None:
    """A 0 and a 1 for each criterion; time as mm:ss, or frame numbers where the frame rate is unknown."""
    bases = [_PITCH * place for place in range(len(CRITERIA))]
    axes.set_yticks([base + value for base in bases for value in (0, 1)], ["0", "1"] * len(bases))
    axes.set_ylim(-0.08, bases[-1] + 1.4)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 1.5, 3, 6, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock(value) if clocked else f"{value:.0f}"))
    axes.set_xlim(seconds.min() - 3, seconds.max() + 3)
    axes.set_xlabel("time in the video, mm:ss" if clocked else "frame number (frame rate unknown)")


def _edges(seconds: np.ndarray) -> np.ndarray:
    """Where each frame's share of the band begins and ends: half-way to its neighbours."""
    if seconds.size == 1:
        return np.array([seconds[0] - 2.5, seconds[0] + 2.5])
    middle = (seconds[1:] + seconds[:-1]) / 2
    return np.concatenate([[2 * seconds[0] - middle[0]], middle, [2 * seconds[-1] - middle[-1]]])


def clock(seconds: float) -> str:
    """Seconds as mm:ss; minutes go past 59."""
    whole = max(0, round(seconds))
    return f"{whole // 60:02d}:{whole % 60:02d}"
