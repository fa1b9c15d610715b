"""A data folder opened for one experiment: its manifest, the clips of a split, and the frames behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from calot.data.clips import ClipTable, build_clips
from calot.data.endoscapes import read_endoscapes
from calot.data.manifest import Manifest
from calot.data.store import FrameStore, open_store
from calot.experiment import Experiment
from calot.progress import Ui


@dataclass(frozen=True)
class OpenData:
    """Splits are opened when they are asked for: a run that trains and validates never reads a test frame."""

    root: Path
    manifest: Manifest
    experiment: Experiment
    ui: Ui
    _stores: dict[str, FrameStore] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, root: Path, *, experiment: Experiment, ui: Ui) -> OpenData:
        """Read the folder's tables. Raises CalotError when it is no data set."""
        return cls(root=root.resolve(), manifest=read_endoscapes(root), experiment=experiment, ui=ui)

    def clips(self, split: str, *, training: bool) -> ClipTable:
        return build_clips(
            self.manifest,
            split=split,
            protocol=self.experiment.protocol,
            rule=self.experiment.clip,
            label_rule=self.experiment.label,
            training=training,
        )

    def store(self, split: str) -> FrameStore:
        """The split's frames, decoded once; built on first use."""
        if split not in self._stores:
            with self.ui.task(f"frame store {split}") as advance:
                self._stores[split] = open_store(
                    self.root,
                    self.manifest.split(split),
                    geometry=self.experiment.geometry,
                    size=self.experiment.backbone.size,
                    progress=advance,
                )
        return self._stores[split]
