"""A part of `calot explain` and what it may look at: one run's model, the clips of a split, their scores and masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from calot.analysis.attention import clips_over_videos
from calot.analysis.cue_places import CuePlaces
from calot.data.clips import ClipTable
from calot.data.dataset import ClipDataset, batches, uploaded
from calot.data.manifest import Manifest
from calot.data.masks import ClipMasks
from calot.data.store import FrameStore
from calot.errors import CalotError
from calot.evaluation.predict import predictions_table, score
from calot.models.classifier import Classifier
from calot.out_of_memory import while_scoring
from calot.progress import Ui
from calot.statistics.findings import Findings
from calot.statistics.predictions import Predictions
from calot.types import Batch, Outputs


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One run on one split, opened as far as parts ask for it.

    `table` holds every clip that the run's protocol scores, `manifest` the split's rows. `asked` are places in `table`
    of the clips that a person named, `clips` how many to look into per group. `stored` are the run's predictions of the
    split where it has them. `store` and `masks` open frames and true masks (the nearest to each labelled frame, in
    training classes), `cue` says where a suspected cue is. `untrained` is the same model with random weights;
    `on_split` is the run on another split.
    """

    model: Classifier
    accelerator: Accelerator
    table: ClipTable
    manifest: Manifest
    stored: Predictions | None
    seed: int
    fingerprint: str
    batch_size: int
    workers: int
    clips: int
    asked: tuple[int, ...]
    facts: Mapping[str, Any]
    store: Callable[[], FrameStore]
    masks: Callable[[ClipTable], ClipMasks]
    cue: CuePlaces
    untrained: Callable[[], Classifier]
    on_split: Callable[[str], Subject]
    ui: Ui

    @property
    def split(self) -> str:
        return self.table.split

    @cached_property
    def every_mask(self) -> ClipMasks:
        """The mask nearest to each clip's labelled frame, for the whole table."""
        return self.masks(self.table)

    @cached_property
    def masked(self) -> NDArray[np.bool_]:
        """Which clips have a mask, `(n,)`."""
        return np.asarray(self.every_mask.which[:, 0] >= 0)

    @cached_property
    def predictions(self) -> Predictions:
        """Scores and labels of every labelled clip: the run's own, or of a pass now where it has none of the split."""
        return (self.stored or self._scored()).with_labels().by_seed()[0]

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """The same scores in the order of `table`, `(n, k)`; NaN for a clip without labels.

        Raises CalotError where the predictions are not of the table's clips.
        """
        found = self.predictions
        place = {key: i for i, key in enumerate(zip(found.videos.tolist(), found.frames.tolist(), strict=True))}
        keys = list(zip(self.table.videos.tolist(), self.table.frame_numbers.tolist(), strict=True))
        bare_rows = np.asarray((self.table.majority < 0).any(axis=1)).tolist()
        if absent := [key for key, bare in zip(keys, bare_rows, strict=True) if not bare and key not in place]:
            raise CalotError(
                f"{found.source}: no scores for {self.clip_name(keys.index(absent[0]))}; score the run again with "
                f"`calot evaluate RUN --split {self.split}`"
            )
        rows = np.full((len(keys), found.logits.shape[1]), np.nan, dtype=np.float32)
        for row, key in enumerate(keys):
            if key in place:
                rows[row] = found.logits[place[key]]
        return rows

    def dataset(self, clips: NDArray[np.int64] | None = None, *, masks: bool = False) -> ClipDataset:
        """Some clips of the table (all of them for None), with their true masks where they are asked for."""
        table = self.table if clips is None else self.table.select(clips)
        return ClipDataset(table, self.store(), self.masks(table) if masks else None)

    def passes(
        self, dataset: ClipDataset, *, label: str, model: Classifier | None = None
    ) -> Iterator[tuple[Outputs, Batch]]:
        """Forward passes in evaluation mode over a data set, without gradients, in order; parts where memory is short.

        The latest that `capture` collected is of the batch that comes with it; what memory did not suffice for is done
        again, so earlier ones may be there twice: take the last, then clear.
        """
        shown = model or self.model
        shown.eval()
        done, at_a_time, order = 0, while_scoring(self.ui.say), np.arange(len(dataset))
        gpu = self.accelerator.device.type == "cuda"
        loaded = batches(dataset, order=order, epoch=0, batch_size=self.batch_size, workers=self.workers, pin=gpu)

        def compute(part: Batch) -> Outputs:
            with self.accelerator.autocast(), torch.inference_mode():
                found: Outputs = shown(part)
            return found

        with self.ui.task(label) as advance:
            for _, batch in uploaded(loaded, device=self.accelerator.device):
                for outputs, part in at_a_time.parts(batch, compute=compute, where=label):
                    self._require_finite(outputs, dataset=dataset, batch=part)
                    yield outputs, part
                    done += len(part)
                    advance(done, len(dataset))

    def clip_name(self, index: int) -> str:
        """A clip as `--clip` takes it: `160_36025`."""
        return f"{self.table.videos[index]}_{self.table.frame_numbers[index]}"

    def _scored(self) -> Predictions:
        with self.ui.task(f"scoring {self.split}") as advance:
            done = 0

            def on_batch(count: int) -> None:
                nonlocal done
                done += count
                advance(done, len(self.table))

            found = score(
                self.model,
                dataset=self.dataset(),
                accelerator=self.accelerator,
                batch_size=self.batch_size,
                workers=self.workers,
                on_batch=on_batch,
            )
        how = {"seed": self.seed, "fingerprint": self.fingerprint, "manifest_hash": self.manifest.hash}
        return predictions_table(found.logits, table=self.table, **how)  # type: ignore[arg-type]

    def _require_finite(self, outputs: Outputs, *, dataset: ClipDataset, batch: Batch) -> None:
        bad = ~torch.isfinite(outputs.logits).all(dim=1)
        if bool(bad.any()):
            clip = dataset.table.clip(int(batch.index[bad][0]))
            raise CalotError(
                f"video {clip.video} frame {clip.frame}: its scores are not finite: the weights have diverged. Train "
                "again, or use compute.precision=fp32"
            )


@dataclass(frozen=True, kw_only=True)
class ExplainPart(ABC):
    """A question that a run is asked. `name` is that of its file, of its section and of its files in the folder."""

    name: str

    @abstractmethod
    def measure(self, subject: Subject) -> Findings:
        """Ask it. Where a run lacks what the question needs, `facts["absent"]` says what, in one sentence."""


def spread_over_videos(table: ClipTable, *, among: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of these clips: one of each video, then a second of each, and so on, the same ones every time."""
    some = table.select(among)
    return np.asarray(among[clips_over_videos(some, masked=np.zeros(len(some), dtype=np.bool_), count=count)])
