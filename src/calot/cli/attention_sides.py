"""The runs behind `calot attention`: their models, and the clips that they are all shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calot.analysis.attention import AttentionPass, clips_over_videos
from calot.cli.opened_run import OpenedRun
from calot.criteria import IGNORED
from calot.data.clips import ClipTable
from calot.data.dataset import ClipDataset
from calot.data.masks import ClipMasks
from calot.errors import CalotError


class AttentionRun(OpenedRun):
    """A run whose backbone's attention is read."""

    def chosen(self, split: str, *, count: int) -> ClipTable:
        """Clips drawn evenly over the videos of a split, those with a mask first."""
        table = self.data.clips(split, training=False)
        masked = self.masks(table).which[:, 0] >= 0
        return table.select(clips_over_videos(table, masked=masked, count=count))

    def same(self, clips: ClipTable) -> ClipTable:
        """The same labelled frames as this run's protocol and clip rule show them. Raises CalotError for a frame that
        it never scores."""
        table = self.data.clips(clips.split, training=False)
        place = {key: i for i, key in enumerate(zip(table.videos.tolist(), table.frame_numbers.tolist(), strict=True))}
        wanted = list(zip(clips.videos.tolist(), clips.frame_numbers.tolist(), strict=True))
        if absent := [key for key in wanted if key not in place]:
            raise CalotError(
                f"--against {self.folder}: it scores {len(table)} clips of {clips.split}, and not video {absent[0][0]} "
                f'frame {absent[0][1]}: its protocol is "{table.protocol}". Name a run of the same protocol.'
            )
        return table.select(np.array([place[key] for key in wanted], dtype=np.int64))

    def masks(self, table: ClipTable) -> ClipMasks:
        """The mask nearest to each labelled frame, with every class that is on disk."""
        codes = self.data.folder.reader.mask_codes
        return self.data.nearest_masks(table, codes={raw: raw if c != IGNORED else IGNORED for raw, c in codes.items()})

    def shown(self, clips: ClipTable, *, variant: str) -> AttentionPass:
        """These clips through this run's model."""
        return AttentionPass(
            model=self.model,
            dataset=ClipDataset(clips, self.data.store(clips.split), self.masks(clips)),
            accelerator=self.accelerator,
            variant=variant,
            workers=self.experiment.compute.workers,
        )


def untrained_pass(one: AttentionPass, *, of: AttentionRun, variant: str) -> AttentionPass:
    """The same clips through random weights."""
    return replace(one, model=of.untrained, variant=variant)
