"""Attention on the anatomy with an interval over videos, from what a run kept of its chosen epoch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calot.errors import CalotError
from calot.provenance.custody import Identity
from calot.provenance.run_files import AGAIN, AttentionFile, read_file
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import interval_fields, plain_interval, proportion_interval, without_each


@dataclass(frozen=True, kw_only=True)
class AttentionOnAnatomy:
    """Means over the clips whose masks show anatomy, as in metrics.csv, with intervals over videos.

    `mass` is the share of attention on the anatomy, `area` the share of tokens that it covers, `enrichment` the first
    over the second: 1 is what attention to all tokens alike has. `stage` and `epoch` are counted from 1.
    """

    stage: int
    epoch: int
    clips: int
    videos: int
    mass: Interval
    area: Interval
    enrichment: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        held = {name: interval_fields(getattr(self, name)) for name in ("mass", "area", "enrichment")}
        return {"stage": self.stage, "epoch": self.epoch, "clips": self.clips, "videos": self.videos, **held}


def attention_file(run: Path, *, split: str) -> Path:
    """Where a run keeps it."""
    return run / "attention" / f"{split}.json"


def attention_on_anatomy(run: Path | None, *, split: str) -> AttentionOnAnatomy | None:
    """What a run kept; None where it reads no attention, and of an older calot. Raises CalotError for a file that is
    damaged or another run's."""
    path = None if run is None else attention_file(run, split=split)
    if run is None or path is None or not path.is_file():
        return None
    found = read_file(path, AttentionFile)
    if found["format"] != 1 or found["split"] != split or not found["videos"]:
        raise CalotError(f"{path}: not the attention of {split} that this calot reads; {AGAIN}")
    if (own := Identity.of_run(run)) is not None:
        own.require(found["run"], where=path)
    clips = np.array([video["clips"] for video in found["videos"]], dtype=np.float64)
    mass, area = (clips * [video[name] for video in found["videos"]] for name in ("mass", "area"))
    with np.errstate(divide="ignore", invalid="ignore"):
        left = {name: without_each(sums) for name, sums in (("clips", clips), ("mass", mass), ("area", area))}
        shares = {name: left[name] / left["clips"] for name in ("mass", "area")}
        enrichment = left["mass"] / left["area"]
    whole = {"mass": float(mass.sum() / clips.sum()), "area": float(area.sum() / clips.sum())}
    bounds = {name: proportion_interval(whole[name], left_out=shares[name]) for name in shares}
    ratio = whole["mass"] / whole["area"] if whole["area"] else None
    why = "no token shows anatomy"
    return AttentionOnAnatomy(
        stage=found["stage"],
        epoch=found["epoch"],
        clips=int(clips.sum()),
        videos=len(clips),
        enrichment=plain_interval(ratio, left_out=enrichment, floor=0.0, reason=why),
        **bounds,
    )
