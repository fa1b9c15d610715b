"""Predictions of two treatments that are the same for every purpose: equal bytes, equal ranks, or logits within a hair.

A line of the ledger holds a sketch of a run's predictions, so that later runs can be compared without its folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Logits nearer than this in all clips that a sketch holds are the same prediction.
NEAR = 1e-4
_CLIPS = 64


def sketch(logits: NDArray[np.float32], *, digest: str) -> dict[str, Any]:
    """Facts of logits (clips, criteria) for a ledger's line: the digest of their bytes and of each criterion's ranks,
    and the logits of up to 64 clips spread evenly."""
    ranks = np.argsort(logits, axis=0, kind="stable").astype("<i8")
    chosen = np.unique(np.linspace(0, max(0, len(logits) - 1), min(_CLIPS, len(logits))).astype(np.int64))
    sample = logits[chosen].astype(np.float32).tolist()
    return {
        "digest": digest,
        "clips": len(logits),
        "ranks": hashlib.sha256(ranks.tobytes()).hexdigest(),
        "sample": sample,
    }


def alike(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """In what two sketches are the same, if in anything. A line of an older calot has a digest alone."""
    if mine["digest"] == theirs.get("digest"):
        return "the very same predictions"
    if theirs.get("clips") != mine.get("clips") or not mine.get("sample"):
        return None
    if mine["ranks"] == theirs.get("ranks"):
        return "the same ranks of all clips"
    a, b = (np.asarray(side.get("sample"), dtype=np.float64) for side in (mine, theirs))
    if a.shape == b.shape and float(np.abs(a - b).max()) < NEAR:
        return f"the same logits within {NEAR:g}"
    return None
