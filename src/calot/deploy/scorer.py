"""A run's model as other programs see it: stored frames in, one raw logit per criterion out."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from calot.analysis.attention import clips_over_videos
from calot.data.clips import ClipTable
from calot.data.dataset import ClipDataset, EpochIndices
from calot.errors import CalotError
from calot.experiment import Experiment
from calot.models.adaptation import merge_adapter
from calot.models.classifier import Classifier
from calot.pipeline import load_run
from calot.progress import Ui
from calot.provenance.receipt import Receipt, failures
from calot.run import folder as run_folder
from calot.run.data import OpenData
from calot.types import Batch

#: The split that an export is held to.
SPLIT = "val"


class PortableModel(nn.Module):
    """Clips as stored (uint8, the run's frames and size) to raw logits: normalisation inside, adapters merged."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        if self.model.backbone.adapter is not None:
            merge_adapter(self.model.backbone)
        self.model.requires_grad_(False).eval()
        (view,) = self.model.backbone.spec.views
        mean, std = (torch.tensor(figures, dtype=torch.float64) for figures in (view.mean, view.std))
        self.register_buffer("scale", (1 / (255 * std)).float().view(-1, 1, 1))
        self.register_buffer("shift", (-mean / std).float().view(-1, 1, 1))

    def forward(self, video: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b k"]:
        clips = video.to(torch.float32) * self.scale + self.shift
        none, places = clips.new_zeros(clips.shape[0], 0), torch.arange(clips.shape[0])
        return self.model(Batch(video=clips, labels=none, soft=none, index=places)).logits  # type: ignore[no-any-return]


def whole_run(folder: Path) -> tuple[Experiment, Classifier, int]:
    """A complete run's experiment, model and seed. Raises CalotError for an incomplete one, one whose receipt failed,
    and one whose files were changed."""
    if not (folder / "checkpoints" / "best").is_dir():
        raise CalotError(f"{folder}: holds no checkpoint, so there is no model in it; name a trained run")
    if not (folder / "seal.json").is_file() and not (folder / "import.json").is_file():
        raise CalotError(f"{folder}: not a complete run (no seal.json): finish it with `calot train ... --resume`")
    run = load_run(folder)
    receipt = Receipt.load(folder)
    if receipt is not None and receipt.failed:
        raise CalotError(f"{folder}: INVALID, so its model goes nowhere: {failures(receipt.checks)}")
    return run


@dataclass(frozen=True, kw_only=True)
class Exportable:
    """A complete run, opened to be exported: its model on the CPU, and its validation clips."""

    folder: Path
    experiment: Experiment
    model: Classifier
    seed: int
    clips: ClipDataset
    manifest_hash: str

    @classmethod
    def of(cls, folder: Path, *, data: Path | None, ui: Ui) -> Exportable:
        """Raises CalotError for an incomplete run, one whose receipt failed, and one whose files were changed."""
        experiment, model, seed = whole_run(folder)
        if len(experiment.backbone.views) != 1:
            raise CalotError(f"{folder}: {experiment.backbone.name} takes several views of a clip, and an export one")
        root = run_folder.data_root(folder, named=data)
        opened = OpenData.of(root, experiment=experiment, ui=ui)
        run_folder.require_own_data(folder, data=opened)
        dataset = ClipDataset(opened.clips(SPLIT, training=False), opened.store(SPLIT))
        return cls(
            folder=folder,
            experiment=experiment,
            model=model.cpu().eval(),
            seed=seed,
            clips=dataset,
            manifest_hash=opened.manifest.hash,
        )

    @property
    def table(self) -> ClipTable:
        return self.clips.table

    def chosen(self, count: int) -> NDArray[np.int64]:
        """At most `count` clips, drawn evenly over videos."""
        return clips_over_videos(self.table, masked=np.zeros(len(self.table), dtype=bool), count=count)

    def frames(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Some clips as stored, `(b, t, c, h, w)`."""
        request = EpochIndices(epoch=0, indices=tuple(places.tolist()))
        video: NDArray[np.uint8] = self.clips[request].video.numpy()
        return video

    @torch.no_grad()
    def logits(self, video: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The run's own logits of clips, adapter and all, in float32 on the CPU."""
        found: Any = self.model(Batch.unlabelled(torch.from_numpy(video)))
        scores: NDArray[np.float32] = found.logits.float().numpy()
        return scores
