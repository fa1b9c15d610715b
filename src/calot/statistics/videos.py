"""Operation by operation: AP, and what the decisions of one model mean over the time of a video.

Time is the frame number over the table's frames per second; decisions need thresholds frozen on val.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.errors import CalotError
from calot.statistics.calibration import Thresholds
from calot.statistics.jackknife import exact_interval
from calot.statistics.metrics import average_precision
from calot.statistics.operations import (
    OperationRates,
    Operations,
    decided_operations,
    mean_over_operations,
    rate_over_operations,
)
from calot.statistics.predictions import Predictions

NO_THRESHOLDS = "no thresholds: flips, alarms and delays are undefined"
NO_RATE = "frame rate unknown (give it with --fps): flips per minute, alarms per hour and delays are undefined"
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
    decision, or for as many seconds as were asked for (None without a frame rate).
    """

    video: str
    frames: int
    seconds: float | None
    criteria: dict[str, CriterionInVideo]
    achieved: bool | None
    called: bool | None


@dataclass(frozen=True, kw_only=True)
class VideoTable:
    """Every operation in order of its id, numbers as numbers; `operations` is None where a threshold is missing, or a
    frame rate for `held_seconds` (how long all three must hold to count; 0: one frame).

    `rates` are each criterion's over all operations. `notes` say what is undefined in every row, and why.
    """

    rows: tuple[VideoRow, ...]
    operations: Operations | None
    held_seconds: float
    rates: dict[str, OperationRates]
    frames_per_second: float | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def per_video(predictions: Predictions, *, thresholds: Thresholds | None, held_seconds: float = 0.0) -> VideoTable:
    """One row per operation; without thresholds nothing is decided.

    Raises CalotError for a table of several seeds (split it with `by_seed` first), and for a negative time.
    """
    if not 0.0 <= held_seconds < float("inf"):
        raise CalotError(f"held for {held_seconds} seconds: expected 0 (one frame) or more")
    if len(predictions.seeds) > 1:
        raise CalotError(
            f"{predictions.source}: seeds {list(predictions.seeds)} in one table; per-video decisions are one model's: "
            "split it with Predictions.by_seed()"
        )
    limits = [None if thresholds is None else thresholds.values[name] for name in predictions.criteria]
    notes = [NO_THRESHOLDS] if thresholds is None else []
    notes += [NO_RATE] if predictions.frames_per_second is None else []
    rows = []
    for video in sorted(set(predictions.videos.tolist()), key=_natural):
        place = predictions.videos == video
        row = _row(predictions, place=place, limits=limits, video=video, decided=thresholds is not None)
        rows.append(_held(row, predictions, place=place, limits=limits, seconds=held_seconds))
    complete = all(row.achieved is not None and row.called is not None for row in rows)
    why = "; ".join(notes) or "no threshold for this criterion, or no operation that lasts"
    return VideoTable(
        rows=tuple(rows),
        operations=_operations(rows) if complete else None,
        held_seconds=held_seconds,
        rates={name: _rates(rows, criterion=name, why=why) for name in predictions.criteria},
        frames_per_second=predictions.frames_per_second,
        notes=tuple(notes),
    )


def _natural(video: str) -> tuple[int, int, str]:
    return (0, int(video), video) if video.isascii() and video.isdigit() else (1, 0, video)


def _row(predictions: Predictions, *, place: Flags, limits: list[float | None], video: str, decided: bool) -> VideoRow:
    frames, labels, logits = predictions.frames[place], predictions.labels[place] == 1, predictions.logits[place]
    rate = predictions.frames_per_second
    step = float(np.median(np.diff(frames))) if len(frames) > 1 else 0.0
    seconds = None if rate is None else (float(frames[-1] - frames[0]) + step) / rate
    called = [None if limit is None else logits[:, k] >= limit for k, limit in enumerate(limits)]
    criteria = {}
    for k, name in enumerate(predictions.criteria):
        times = None if rate is None else frames / rate
        made = _decided(labels[:, k], called=called[k], seconds=seconds, times=times, decided=decided)
        criteria[name] = _criterion(labels[:, k], scores=logits[:, k], made=made)
    return VideoRow(
        video=video,
        frames=len(frames),
        seconds=seconds,
        criteria=criteria,
        achieved=None,
        called=None,
    )


def _held(
    row: VideoRow, predictions: Predictions, *, place: Flags, limits: list[float | None], seconds: float
) -> VideoRow:
    """The row with its decision on the whole operation."""
    frames, rate = predictions.frames[place], predictions.frames_per_second
    if rate is None and seconds > 0:
        return row
    needed = seconds * (rate or 1.0)
    known = [limit for limit in limits if limit is not None]
    truth: Flags = np.all(predictions.labels[place] == 1, axis=1)
    called: bool | None = None
    if len(known) == len(limits):
        said: Flags = np.all(predictions.logits[place] >= np.array(known), axis=1)
        called = held_for(said, frames=frames, needed=needed)
    return replace(row, achieved=held_for(truth, frames=frames, needed=needed), called=called)


def held_for(held: Flags, *, frames: NDArray[np.int64], needed: float) -> bool:
    """Whether something holds in neighbouring scored frames that lie `needed` frame numbers apart, first to last."""
    return held_passage(held, frames=frames, needed=needed) is not None


@dataclass(frozen=True)
class HeldPassage:
    """Places of the first frame of a passage and of the frame with which it lasted long enough."""

    start: int
    end: int


def held_passage(held: Flags, *, frames: NDArray[np.int64], needed: float) -> HeldPassage | None:
    """The first passage of neighbouring scored frames in which something holds that is `needed` frame numbers long.

    A gap of more than 1.5 usual steps ends a passage: nobody looked in between. 0 needs one frame.
    """
    step = float(np.median(np.diff(frames))) if len(frames) > 1 else 0.0
    since: int | None = None
    for place, holds in enumerate(held):
        apart = place > 0 and frames[place] - frames[place - 1] > 1.5 * step
        if not holds:
            since = None
            continue
        since = place if since is None or apart else since
        if frames[place] - frames[since] >= needed - 1e-9:
            return HeldPassage(since, place)
    return None


@dataclass(frozen=True, kw_only=True)
class _Decided:
    """What one criterion's decisions come to in one video, and why some of it is undefined here and not elsewhere."""

    flips: float | None = None
    alarms: float | None = None
    delay: float | None = None
    reasons: tuple[str, ...] = ()


def _decided(
    truth: Flags, *, called: Flags | None, seconds: float | None, times: NDArray[np.float64] | None, decided: bool
) -> _Decided:
    if called is None:
        return _Decided(reasons=("no threshold: no positive label where it would be frozen",) if decided else ())
    if seconds is None or times is None:
        return _Decided()
    reasons, delay, flips, alarms = [], None, None, None
    if truth.any():
        delay = _delay(times, truth=truth, called=called)
        reasons += ["never called at or after the first positive label"] if delay is None else []
    if seconds > 0:
        flips = int((called[1:] != called[:-1]).sum()) / (seconds / 60)
        alarms = _false_alarms(called, truth=truth) / (seconds / 3600)
    else:
        reasons.append("one frame has no duration")
    return _Decided(flips=flips, alarms=alarms, delay=delay, reasons=tuple(reasons))


def _criterion(truth: Flags, *, scores: NDArray[np.float32], made: _Decided) -> CriterionInVideo:
    reasons = (*(() if truth.any() else ("no positive label",)), *made.reasons)
    return CriterionInVideo(
        positives=int(truth.sum()),
        prevalence=float(truth.mean()),
        ap=average_precision(truth, scores),
        flips_per_minute=made.flips,
        false_alarms_per_hour=made.alarms,
        detection_seconds=made.delay,
        reason="; ".join(reasons) or None,
    )


def _delay(times: NDArray[np.float64], *, truth: Flags, called: Flags) -> float | None:
    first = int(np.argmax(truth))
    later = np.flatnonzero(called[first:])
    return float(times[first + int(later[0])] - times[first]) if len(later) else None


def _false_alarms(called: Flags, *, truth: Flags) -> int:
    """Runs of positive decisions without a single positive label in them."""
    edges = np.flatnonzero(np.diff(np.r_[False, called, False].astype(np.int8)))
    return sum(not truth[start:end].any() for start, end in zip(edges[::2], edges[1::2], strict=True))


def _operations(rows: list[VideoRow]) -> Operations:
    return decided_operations([bool(row.achieved) for row in rows], called=[bool(row.called) for row in rows])


def _rates(rows: list[VideoRow], *, criterion: str, why: str) -> OperationRates:
    """`why` says what is missing where nothing can be timed or decided."""
    items = [(row.criteria[criterion], row.seconds) for row in rows]
    decided = [item for item, _ in items if item.flips_per_minute is not None]
    with_positive = [item for item in decided if item.positives]
    delays = [item.detection_seconds for item in with_positive if item.detection_seconds is not None]
    nothing = "no operation has a positive label" if decided else why
    return OperationRates(
        flips_per_minute=rate_over_operations(
            [item.flips_per_minute for item, _ in items],
            durations=[None if s is None else s / 60 for _, s in items],
            reason=why,
        ),
        false_alarms_per_hour=rate_over_operations(
            [item.false_alarms_per_hour for item, _ in items],
            durations=[None if s is None else s / 3600 for _, s in items],
            reason=why,
        ),
        detected=exact_interval(len(delays), whole=len(with_positive), reason=nothing),
        detection_seconds=mean_over_operations(delays, reason="never detected" if with_positive else nothing),
    )
