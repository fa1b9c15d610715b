"""The runs behind `calot attention`: their models, and the clips that they are all shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from calot.analysis.attention import AttentionPass, clips_over_videos
from calot.criteria import IGNORED
from calot.data.clips import ClipTable
from calot.data.dataset import ClipDataset
from calot.data.masks import ClipMasks
from calot.errors import CalotError
from calot.experiment import Experiment
from calot.models.backbones.protocol import no_seam
from calot.models.classifier import Classifier
from calot.pipeline import load_run
from calot.progress import Ui
from calot.run import folder as run_folder
from calot.run.build import build_classifier
from calot.run.data import OpenData
from calot.run.device import make_accelerator, placed

#: Added to a run's seed for the random weights beside it: another draw, also where the run's own began as random ones.
_ANOTHER_DRAW = 1_000_003


@dataclass(frozen=True)
class AttentionRun:
    """A run's model on its device, and its data set."""

    folder: Path
    experiment: Experiment
    model: Classifier
    seed: int
    accelerator: Accelerator
    data: OpenData

    @classmethod
    def of(cls, folder: Path, *, data: Path | OpenData, ui: Ui) -> AttentionRun:
        """Raises CalotError for a folder without a finished run, and where its backbone has no seam."""
        experiment, model, seed = load_run(folder)
        if experiment.backbone.layout.attention is None:
            raise CalotError(f"{folder}: {no_seam(experiment.backbone)}")
        accelerator = make_accelerator(experiment.compute)
        placed(model, accelerator=accelerator)
        opened = data.of_experiment(experiment) if isinstance(data, OpenData) else None
        if opened is None:
            assert isinstance(data, Path)
            opened = OpenData.of(data, experiment=experiment, ui=ui)
        return cls(folder, experiment, model, seed, accelerator, opened)

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

    @cached_property
    def untrained(self) -> Classifier:
        """The same model with random weights of another draw."""
        return random_weights(self.experiment, seed=self.seed, accelerator=self.accelerator)

    def facts(self) -> dict[str, Any]:
        """Who it is, for the files."""
        data = run_folder.read_data(self.folder)
        return {
            "folder": str(self.folder),
            "name": self.experiment.name,
            "seed": self.seed,
            "backbone": self.experiment.backbone.describe(),
            "fingerprint": self.experiment.fingerprint(),
            "dataset": data.get("dataset"),
            "synthetic": bool(data.get("synthetic")),
            "manifest": self.data.manifest.hash,
        }


def random_weights(experiment: Experiment, *, seed: int, accelerator: Accelerator) -> Classifier:
    """A run's model with random weights of another draw than its own, on the device."""
    before = torch.get_rng_state()
    torch.manual_seed(seed + _ANOTHER_DRAW)
    model = build_classifier(experiment, weights=False)
    torch.set_rng_state(before)
    placed(model, accelerator=accelerator)
    return model


def untrained_pass(one: AttentionPass, *, of: AttentionRun, variant: str) -> AttentionPass:
    """The same clips through random weights."""
    return replace(one, model=of.untrained, variant=variant)
