"""Operation by operation: what the decisions of one model mean over the time of a video.

Time is frame number / 25 s (Endoscapes counts frames at 25 a second). All of it needs thresholds frozen on val.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.errors import CalotError
from calot.statistics.calibration import Thresholds
from calot.statistics.metrics import average_precision, ratio
from calot.statistics.predictions import Predictions

FRAMES_PER_SECOND = 25.0
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class CriterionInVideo:
    """One criterion in one operation; `reason` says why AP or the time to detection is None.

    `flips_per_minute`: changes of the decision between neighbouring scored frames, per minute of video.
    `false_alarms_per_hour`: runs of positive decisions that meet no positive label, per hour of video.
    `detection_seconds`: from the first positive label to the first positive decision at or after it.
    """

    positives: int
    prevalence: float
    ap: float | None
    flips_per_minute: float | None
    false_alarms_per_hour: float | None
    detection_seconds: float | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class VideoRow:
    """One operation; `achieved` and `called`: all three criteria held in one frame at least once, in truth and
    decision.
    """

    video: str
    frames: int
    seconds: float
    criteria: dict[str, CriterionInVideo]
    achieved: bool
    called: bool | None


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Decisions on whole operations, counted."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    sensitivity: float | None
    specificity: float | None


@dataclass(frozen=True, kw_only=True)
class VideoTable:
    """Every operation in order of its id, numbers as numbers; `operations` is None where a threshold is missing."""

    rows: tuple[VideoRow, ...]
    operations: Operations | None
    frames_per_second: float = FRAMES_PER_SECOND

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def per_video(predictions: Predictions, *, thresholds: Thresholds) -> VideoTable:
    """One row an operation. Raises CalotError for a table of several seeds: split it with `by_seed` first."""
    if len(predictions.seeds) > 1:
        raise CalotError(
            f"{predictions.source}: seeds {list(predictions.seeds)} in one table; per-video decisions are one model's: "
            "split it with Predictions.by_seed()"
        )
    limits = [thresholds.values[name] for name in predictions.criteria]
    rows = []
    for video in sorted(set(predictions.videos.tolist()), key=_natural):
        place = predictions.videos == video
        rows.append(_row(predictions, place=place, limits=limits, video=video))
    complete = all(limit is not None for limit in limits)
    return VideoTable(rows=tuple(rows), operations=_operations(rows) if complete else None)


def _natural(video: str) -> tuple[int, int, str]:
    return (0, int(video), video) if video.isascii() and video.isdigit() else (1, 0, video)


def _row(predictions: Predictions, *, place: Flags, limits: list[float | None], video: str) -> VideoRow:
    frames, labels, logits = predictions.frames[place], predictions.labels[place] == 1, predictions.logits[place]
    step = float(np.median(np.diff(frames))) if len(frames) > 1 else 0.0
    seconds = (float(frames[-1] - frames[0]) + step) / FRAMES_PER_SECOND
    called = [None if limit is None else logits[:, k] >= limit for k, limit in enumerate(limits)]
    criteria = {
        name: _criterion(frames, truth=labels[:, k], scores=logits[:, k], called=called[k], seconds=seconds)
        for k, name in enumerate(predictions.criteria)
    }
    flags = [flag for flag in called if flag is not None]
    return VideoRow(
        video=video,
        frames=len(frames),
        seconds=seconds,
        criteria=criteria,
        achieved=bool(labels.all(axis=1).any()),
        called=bool(np.logical_and.reduce(flags).any()) if len(flags) == len(called) else None,
    )


def _criterion(
    frames: NDArray[np.int64], *, truth: Flags, scores: NDArray[np.float32], called: Flags | None, seconds: float
) -> CriterionInVideo:
    reasons = [] if truth.any() else ["no positive label"]
    flips = alarms = delay = None
    if called is None:
        reasons.append("no threshold: no positive label where it would be frozen")
    else:
        if truth.any():
            delay = _delay(frames, truth=truth, called=called)
            reasons += ["never called at or after the first positive label"] if delay is None else []
        if seconds > 0:
            flips = int((called[1:] != called[:-1]).sum()) / (seconds / 60)
            alarms = _false_alarms(called, truth=truth) / (seconds / 3600)
        else:
            reasons.append("one frame has no duration")
    return CriterionInVideo(
        positives=int(truth.sum()),
        prevalence=float(truth.mean()),
        ap=average_precision(truth, scores),
        flips_per_minute=flips,
        false_alarms_per_hour=alarms,
        detection_seconds=delay,
        reason="; ".join(reasons) or None,
    )


def _delay(frames: NDArray[np.int64], *, truth: Flags, called: Flags) -> float | None:
    first = int(np.argmax(truth))
    later = np.flatnonzero(called[first:])
    return float(frames[first + int(later[0])] - frames[first]) / FRAMES_PER_SECOND if len(later) else None


def _false_alarms(called: Flags, *, truth: Flags) -> int:
    """Runs of positive decisions without a single positive label in them."""
    edges = np.flatnonzero(np.diff(np.r_[False, called, False].astype(np.int8)))
    return sum(not truth[start:end].any() for start, end in zip(edges[::2], edges[1::2], strict=True))


def _operations(rows: list[VideoRow]) -> Operations:
    truth, called = np.array([row.achieved for row in rows]), np.array([bool(row.called) for row in rows])
    tp, fp = int((truth & called).sum()), int((~truth & called).sum())
    fn, tn = int((truth & ~called).sum()), int((~truth & ~called).sum())
    return Operations(
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        true_negatives=tn,
        sensitivity=ratio(tp, tp + fn),
        specificity=ratio(tn, tn + fp),
    )
