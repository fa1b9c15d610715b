"""A sampled operation as a model takes it: the clip of each second under the run's protocol, and its frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from calot.data.clips import ClipTable, windows
from calot.data.dataset import ClipDataset
from calot.data.manifest import Manifest, completed
from calot.data.numbering import FrameNumbering
from calot.data.store import FrameStore
from calot.deploy.sampling import SampledOperation
from calot.experiment import Experiment

#: An operation's frames are numbered by the millisecond, one each second.
MILLISECONDS = 1000
#: What stands in the place of a split in files and messages: nobody trained or chose anything on it.
_SPLIT = "test"


def operation_clips(
    operation: SampledOperation, *, work: Path, experiment: Experiment, name: str, seamless: bool, every: int
) -> ClipDataset:
    """One clip for every `every`th second that has a frame, seen as the run's protocol says.

    A clip never crosses a gap, nor the border between two files unless they are seamless; it is padded as in training.
    """
    frames = operation.frames
    parts = ["1" if seamless else str(frame.file) for frame in frames]
    seconds = np.array([frame.second for frame in frames], dtype=np.int64)
    table = pl.DataFrame(
        {
            "dataset": "operation",
            "split": _SPLIT,
            "video": parts,
            "frame": seconds * MILLISECONDS,
            "image": [f"{second}" for second in seconds.tolist()],
            "keyframe": True,
            "soft_two_structures": pl.Series([None] * len(frames), dtype=pl.Float32),
        }
    )
    manifest = Manifest(completed(table), FrameNumbering(float(MILLISECONDS), MILLISECONDS), source=name)
    row = np.flatnonzero(seconds % every == 0)
    change = np.array([frame.change for frame in frames]) if experiment.clip.reads_change else None
    before = experiment.protocol.before(experiment.clip.length)
    seen = windows(manifest, row=row, rule=experiment.clip, before=before, change=change)
    clips = ClipTable(
        dataset="operation",
        split=_SPLIT,
        protocol=experiment.protocol.name,
        frames=seen.astype(np.int32),
        row=row.astype(np.int32),
        labels=np.full((len(row), 3), np.nan, dtype=np.float32),
        majority=np.full((len(row), 3), -1, dtype=np.int8),
        soft=np.full((len(row), 3), np.nan, dtype=np.float32),
        videos=np.full(len(row), name),
        frame_numbers=manifest.frames[row],
        clip_frame_numbers=manifest.frames[seen],
        frames_per_second=float(MILLISECONDS),
    )
    return ClipDataset(clips, _store(work, count=len(frames), size=experiment.backbone.size))


def _store(work: Path, *, count: int, size: int) -> FrameStore:
    """The work folder's frames; it is removed when the operation is done, so its content is not under digests."""
    return FrameStore(
        path=work,
        split=_SPLIT,
        shape=(count, 3, size, size),
        fingerprint="",
        black=(),
        chunk_frames=count,
        chunks=(),
        sizes=(),
        sources=(),
    )
