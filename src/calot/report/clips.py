"""The best and the worst clips as the page shows them: the strip, what the raters said, what was predicted."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calot.criteria import CRITERIA, label
from calot.report.pictures import ClipChoice, choose_clips
from calot.report.tables import KEYS
from calot.report.timelines import clock
from calot.statistics.metrics import sigmoid
from calot.statistics.predictions import Predictions

#: All pictures together stay below this, so that the page stays small enough to mail.
_BUDGET_BYTES = 1_700_000

_RULE = {
    kind: (
        f"The clips of {which} loss (binary cross-entropy summed over the criteria), half of them with a positive "
        "criterion where there are enough; a video gives a second clip only when no other video is left."
    )
    for kind, which in (("worst", "highest"), ("best", "lowest"))
}


@dataclass(frozen=True, kw_only=True)
class CriterionLine:
    """One criterion of a shown clip: what raters said and what was predicted."""

    key: str
    name: str
    truth: str
    probability: str


@dataclass(frozen=True, kw_only=True)
class ClipView:
    """One clip as the page shows it."""

    source: str
    video: str
    frame: int
    clock: str
    loss: str
    rows: Sequence[CriterionLine]


@dataclass(frozen=True, kw_only=True)
class ClipGroup:
    """The best or the worst clips."""

    title: str
    rule: str
    clips: Sequence[ClipView]


def clip_groups(predictions: Predictions, *, pictures: Mapping[tuple[str, int], Path]) -> list[ClipGroup]:
    """Best and worst clips of the split that have a picture in the run's folder, each group with its rule."""
    choices = [choice for choice in choose_clips(predictions) if (choice.video, choice.frame) in pictures]
    groups, spent = [], 0
    for kind, title in (("worst", "Worst clips"), ("best", "Best clips")):
        views = []
        for choice in (c for c in choices if c.kind == kind):
            raw = pictures[choice.video, choice.frame].read_bytes()
            if spent + len(raw) <= _BUDGET_BYTES:
                spent += len(raw)
                views.append(_view(predictions, choice=choice, jpeg=raw))
        if views:
            groups.append(ClipGroup(title=title, rule=_RULE[kind], clips=views))
    return groups


def _view(predictions: Predictions, *, choice: ClipChoice, jpeg: bytes) -> ClipView:
    probability, rate = sigmoid(predictions.logits[choice.row]), predictions.frames_per_second
    lines = []
    for place, criterion in enumerate(CRITERIA):
        if predictions.soft is None:
            truth = f"{predictions.labels[choice.row, place]} (majority)"
        else:
            truth = f"{predictions.soft[choice.row, place]:.2f}"
        lines.append(
            CriterionLine(
                key=KEYS[criterion], name=label(criterion), truth=truth, probability=f"{probability[place]:.2f}"
            )
        )
    return ClipView(
        source="data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii"),
        video=choice.video,
        frame=choice.frame,
        clock="time unknown" if rate is None else clock(choice.frame / rate),
        loss=f"{choice.loss:.2f}",
        rows=lines,
    )
