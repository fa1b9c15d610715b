"""What validation gave clip by clip, as files of a run: `epochs/` of each epoch, `attention/` of the best so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calot.data.clips import ClipTable
from calot.evaluation.attention import ClipAttention
from calot.evaluation.predict import predictions_table
from calot.provenance.custody import Identity
from calot.statistics.anatomy import attention_file
from calot.statistics.optimism import epoch_file
from calot.train.objective import EpochScores
from calot.writing import write_json


@dataclass(frozen=True, kw_only=True)
class EpochClips:
    """One epoch (stage and epoch counted from 1) of a run, and the clips that it was judged by."""

    table: ClipTable
    run: Identity
    stage: int
    epoch: int

    def write(self, folder: Path, *, scores: EpochScores, best: bool) -> None:
        """The predictions; of the best epoch so far the attention, too. A repeated epoch writes the same bytes."""
        if scores.logits is not None:
            made = predictions_table(
                scores.logits,
                table=self.table,
                seed=self.run.seed,
                fingerprint=self.run.fingerprint,
                manifest_hash=self.run.manifest,
            )
            made.write(epoch_file(folder, stage=self.stage, epoch=self.epoch))
        if best and scores.attention:
            where = {"run": self.run.to_json(), "split": self.table.split, "stage": self.stage, "epoch": self.epoch}
            path = attention_file(folder, split=self.table.split)
            write_json(path, {"format": 1, **where, "videos": self._by_video(scores.attention)})

    def _by_video(self, clips: Sequence[ClipAttention]) -> list[dict[str, Any]]:
        found: dict[str, list[ClipAttention]] = {}
        for clip in clips:
            found.setdefault(str(self.table.videos[clip.index]), []).append(clip)
        return [
            {
                "video": video,
                "clips": len(seen),
                "mass": float(np.mean([clip.mass for clip in seen])),
                "area": float(np.mean([clip.area for clip in seen])),
            }
            for video, seen in found.items()
        ]
