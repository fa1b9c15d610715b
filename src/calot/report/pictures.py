"""Which clips the page shows, and how a clip becomes one picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from calot.statistics.predictions import Predictions
from calot.writing import whole_file

#: A sheet is at most this many frames of this height, so many per row: eight sheets weigh about a megabyte in a page.
SHEET_FRAMES, SHEET_COLUMNS = 6, 3
FRAME_HEIGHT = 180
_GAP = 2


@dataclass(frozen=True, kw_only=True)
class ClipChoice:
    """A scored clip to show; `loss`: binary cross-entropy summed over criteria, in nats; `row`: place in the table."""

    kind: Literal["best", "worst"]
    row: int
    video: str
    frame: int
    loss: float
    positive: bool

    @property
    def file_name(self) -> str:
        return f"{self.video}_{self.frame}.jpg"


def choose_clips(predictions: Predictions, *, count: int = 4) -> list[ClipChoice]:
    """The `count` best and `count` worst clips by loss: half of each with a positive criterion where there are enough.

    A video gives a second clip of a kind only when no other video is left. No clip is chosen twice.
    """
    losses = clip_losses(predictions)
    positive: np.ndarray = np.any(predictions.labels == 1, axis=1)
    order = [int(row) for row in np.argsort(losses, kind="stable") if np.isfinite(losses[row])]
    count = min(count, len(order) // 2) if len(order) > 1 else len(order)
    best = _half_positive(order, positive=positive, videos=predictions.videos, count=count)
    left = [row for row in reversed(order) if row not in set(best)]
    worst = _half_positive(left, positive=positive, videos=predictions.videos, count=min(count, len(left)))
    kinds: tuple[tuple[Literal["best", "worst"], list[int]], ...] = (("best", best), ("worst", worst))
    return [
        ClipChoice(
            kind=kind,
            row=row,
            video=str(predictions.videos[row]),
            frame=int(predictions.frames[row]),
            loss=float(losses[row]),
            positive=bool(positive[row]),
        )
        for kind, rows in kinds
        for row in rows
    ]


def clip_losses(predictions: Predictions) -> np.ndarray:
    """Binary cross-entropy of each clip in nats, summed over criteria, from raw logits in float64."""
    logits = np.asarray(predictions.logits, dtype=np.float64)
    labels = np.asarray(predictions.labels, dtype=np.float64)
    losses: np.ndarray = (np.logaddexp(0.0, logits) - labels * logits).sum(axis=1)
    return losses


def _half_positive(
    order: Sequence[int], *, positive: np.ndarray, videos: Sequence[str] | np.ndarray, count: int
) -> list[int]:
    """`count` rows, in `order`: half with a positive and half without, either side filled from the other when short."""
    positives = _distinct_videos([row for row in order if positive[row]], videos=videos)
    negatives = [row for row in order if not positive[row]]
    half = min(len(positives), max(count - count // 2, count - len(negatives)))
    taken = {str(videos[row]) for row in positives[:half]}
    negatives = sorted(_distinct_videos(negatives, videos=videos), key=lambda row: str(videos[row]) in taken)
    chosen = positives[:half] + negatives[: count - half]
    return sorted(chosen, key=list(order).index)


def _distinct_videos(rows: Iterable[int], *, videos: Sequence[str] | np.ndarray) -> list[int]:
    """The same rows with each video's first one ahead of all seconds, those ahead of all thirds, and so on."""
    seen: dict[str, int] = {}
    ranked = []
    for row in rows:
        turn = seen.get(str(videos[row]), 0)
        seen[str(videos[row])] = turn + 1
        ranked.append((turn, row))
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])]


def write_clip_sheet(images: Sequence[np.ndarray], path: Path) -> Path:
    """Write a clip (uint8 `h w 3` per frame) as one JPEG of two rows, oldest frame top left, newest bottom right.

    Thinned evenly to 6 frames, the first and the last kept, and scaled down to 180 px high, their shape kept.
    """
    if not images:
        raise ValueError(f"no frames for {path.name}: a sheet needs at least one")
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape != images[0].shape:
            raise ValueError(f"frames of {path.name} must be uint8 h w 3 of one size, got {image.dtype} {image.shape}")
    kept = np.unique(np.linspace(0, len(images) - 1, min(len(images), SHEET_FRAMES)).round().astype(int))
    height, width = images[0].shape[:2]
    size = (max(1, round(width * min(1.0, FRAME_HEIGHT / height))), min(height, FRAME_HEIGHT))
    columns = min(len(kept), SHEET_COLUMNS)
    rows = -(-len(kept) // columns)
    sheet = Image.new("RGB", (columns * (size[0] + _GAP) - _GAP, rows * (size[1] + _GAP) - _GAP), "black")
    for place, index in enumerate(kept):
        frame = Image.fromarray(images[index]).resize(size, Image.Resampling.LANCZOS)
        row, column = divmod(place, columns)
        sheet.paste(frame, (column * (size[0] + _GAP), row * (size[1] + _GAP)))
    encoded = BytesIO()  # written by us: on a full disk Pillow silently truncates a JPEG
    sheet.save(encoded, format="JPEG", quality=82, optimize=True)
    with whole_file(path) as part:
        part.write_bytes(encoded.getvalue())
    return path
