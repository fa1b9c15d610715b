"""The run behind `calot explain`, opened on one split as far as its parts ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from calot import __version__
from calot.analysis.cue_places import CuePlaces
from calot.analysis.explaining.part import Subject
from calot.cli.opened_run import OpenedRun
from calot.data.clips import ClipTable
from calot.errors import CalotError, nearest_name
from calot.progress import Ui
from calot.provenance.checkpoint_files import weights_digest
from calot.run import experiment_file
from calot.run import folder as run_folder
from calot.run.data import OpenData
from calot.statistics.predictions import load_predictions


class ExplainedRun(OpenedRun):
    """A run and the data set that it was trained on."""

    @classmethod
    def of(cls, folder: Path, *, data: Path | OpenData, ui: Ui) -> Self:
        """Raises CalotError for a folder without a finished run, and for data that are not the run's own."""
        opened = super().of(folder, data=data, ui=ui)
        run_folder.require_own_data(folder, data=opened.data)
        return opened

    def subject(self, split: str, *, clips: int, asked: Sequence[str], on_open: Callable[[str], None]) -> Subject:
        """The run on a split. `on_open` is called before its clips are, here and for a further split."""
        on_open(split)
        table = self.data.clips(split, training=False)
        path = self.folder / "predictions" / f"{split}.parquet"
        chosen = tuple(named_clip(one, table=table) for one in asked)
        return Subject(
            model=self.model,
            accelerator=self.accelerator,
            table=table,
            manifest=self.data.manifest.split(split),
            stored=load_predictions(path) if path.is_file() else None,
            seed=self.seed,
            fingerprint=experiment_file.read_fingerprint(self.folder),
            batch_size=self.experiment.compute.evaluation_batch,
            workers=self.experiment.compute.workers,
            clips=clips,
            asked=chosen,
            facts=self._asked(table, clips=clips, asked=asked),
            store=lambda: self.data.store(split),
            masks=lambda some: self.data.nearest_masks(some),
            cue=CuePlaces(root=self.data.root, geometry=self.experiment.geometry, size=self.experiment.backbone.size),
            untrained=lambda: self.untrained,
            on_split=lambda other: self.subject(other, clips=clips, asked=(), on_open=on_open),
            ui=self.data.ui,
        )

    def _asked(self, table: ClipTable, *, clips: int, asked: Sequence[str]) -> dict[str, Any]:
        """What findings are of; parts whose `run` and `split` differ do not belong on one page."""
        run = self.facts() | {
            "pooling": repr(self.experiment.pooling),
            "weights": weights_digest(self.folder),
        }
        return {
            "calot": __version__,
            "run": run,
            "split": table.split,
            "protocol": table.protocol,
            "of": len(table),
            "videos": len(set(table.videos.tolist())),
            "clips": clips,
            "asked": list(asked),
        }


def named_clip(name: str, *, table: ClipTable) -> int:
    """The place in a table of a clip called `VIDEO_FRAME`. Raises CalotError naming the nearest one there is."""
    keys = [f"{v}_{f}" for v, f in zip(table.videos.tolist(), table.frame_numbers.tolist(), strict=True)]
    if name in keys:
        return keys.index(name)
    video, _, frame = name.rpartition("_")
    own = np.flatnonzero(table.videos == video)
    here = f"--clip {name}: {table.split} has no such labelled frame ({table.protocol})."
    if len(own) and frame.isdecimal():
        near = own[np.abs(table.frame_numbers[own] - int(frame[:12])).argmin()]
        raise CalotError(f"{here} The nearest of that video is {keys[near]}.")
    videos = list(dict.fromkeys(table.videos.tolist()))
    if len(own):
        raise CalotError(f"{here} Name it VIDEO_FRAME, for example {keys[own[0]]}.")
    raise CalotError(f"{here} Name it VIDEO_FRAME, for example {keys[0]}. Videos:{nearest_name(video, among=videos)}")
