"""Made-up predictions with known answers, shared by the tests of the statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from calot.criteria import CRITERIA
from calot.statistics.predictions import Predictions

HEADER = ["video", "frame", *(f"logit_{name}" for name in CRITERIA), *(f"label_{name}" for name in CRITERIA)]


def table(
    labels: ArrayLike, *, logits: ArrayLike, videos: ArrayLike, seed: int | None = 0, soft: bool = True
) -> pl.DataFrame:
    """Columns of the schema from (n, 3) arrays; frames count up in steps of 25 within each video."""
    truth, score, video = np.asarray(labels), np.asarray(logits), np.asarray(videos)
    frame = np.zeros(len(video), dtype=np.int64)
    for name in np.unique(video):
        frame[video == name] = 25 * np.arange((video == name).sum())
    columns: dict[str, Any] = {"video": [str(name) for name in video], "frame": frame}
    for k, name in enumerate(CRITERIA):
        columns[f"logit_{name}"] = score[:, k].astype(np.float32)
        columns[f"label_{name}"] = truth[:, k].astype(np.int8)
        if soft:
            columns[f"soft_{name}"] = truth[:, k] * np.float32(2 / 3)
    facts = {"dataset": "phantom", "split": "val", "protocol": "keyframes", "seed": seed}
    return pl.DataFrame(columns).with_columns(
        pl.lit(value, dtype=pl.Int64 if name == "seed" else pl.String).alias(name) for name, value in facts.items()
    )


def clustered(
    *, videos: int = 20, frames: int = 40, seed: int = 0, model: int = 0, run: int = 0, gain: float = 1.5, **facts: Any
) -> Predictions:
    """Labels and scores that lean by video. `seed` draws the labels, `model` the scores, `run` is the seed column."""
    rng = np.random.default_rng([1, seed])
    video = np.repeat(np.arange(videos), frames)
    labels = rng.normal(size=(videos, 3))[video] + 0.4 * rng.normal(size=(len(video), 3)) > 0.6
    lean = rng.normal(size=(videos, 3))[video]
    own = np.random.default_rng([2, model, run])
    logits = gain * labels + lean + 0.5 * own.normal(size=(videos, 3))[video] + own.normal(size=labels.shape)
    facts = {"fingerprint": f"model{model}", "manifest_hash": "m" * 64, "frames_per_second": 25.0, **facts}
    return Predictions(frame=table(labels, logits=logits, videos=video, seed=run), **facts)
