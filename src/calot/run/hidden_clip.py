"""A validation clip of a pretraining with what each kind of mask hid of it, for a page that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calot.data.dataset import ClipDataset, EpochIndices
from calot.experiment import Experiment
from calot.pretraining.hiding import anatomy_in, hidden_in_validation
from calot.pretraining.masks import Extent
from calot.pretraining.objective import MaskedPrediction
from calot.progress import Ui
from calot.run import folder as run_folder
from calot.run.data import OpenData
from calot.types import Hidden

#: What became of a token: the encoder saw it, it was to be predicted, or neither (cut off so that clips are alike).
SEEN, PREDICTED, UNUSED = range(3)


@dataclass(frozen=True)
class HiddenClip:
    """`frames` (t, h, w, c) as the encoder sees them; of each kind of mask, what became of each token (time, row,
    column)."""

    video: str
    frame: int
    frames: NDArray[np.uint8]
    tokens: dict[str, NDArray[np.uint8]]


def hidden_clip(folder: Path, *, experiment: Experiment, ui: Ui) -> HiddenClip:
    """The middle clip of a run's validation split, or the next one with anatomy where masks of it place blocks, under
    what every epoch's val loss hid of it."""
    objective, grid = experiment.objective, experiment.backbone.grid
    assert isinstance(objective, MaskedPrediction)
    data = OpenData.of(run_folder.data_root(folder), experiment=experiment, ui=ui)
    table = data.clips("val", training=False)
    val = ClipDataset(table, data.store("val"), masks=data.masks(table))
    place = _shown(val, grid=grid)
    batch = val[EpochIndices(epoch=0, indices=(place,))]
    (hidden,) = hidden_in_validation(batch, kinds=objective.masks, grid=grid, val=val)
    return HiddenClip(
        video=str(table.videos[place]),
        frame=int(table.frame_numbers[place]),
        frames=batch.video[0].permute(0, 2, 3, 1).numpy(),
        tokens={name: _fates(places, grid=grid) for name, places in hidden.hidden.items()},
    )


def _shown(val: ClipDataset, *, grid: Extent) -> int:
    middle = len(val) // 2
    later = np.arange(middle, len(val))
    anatomy = anatomy_in(None if val.masks is None else val.masks.read(later), grid=grid) or ()
    return next((place for place, tokens in enumerate(anatomy, start=middle) if tokens.any()), middle)


def _fates(places: Hidden, *, grid: Extent) -> NDArray[np.uint8]:
    """Of the first clip."""
    fates = np.full(int(np.prod(grid)), UNUSED, dtype=np.uint8)
    fates[places.context[0].numpy()] = SEEN
    fates[places.targets[0].numpy()] = PREDICTED
    return fates.reshape(grid)
