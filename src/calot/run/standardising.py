"""A pretrained encoder whose features are standardised: what a small head on a frozen encoder reads best.

Published probes normalise an encoder's features before their linear layer (He et al. 2022, masked autoencoders, A.1: a
batch norm without affine parameters). Here mean and deviation, over clips that the encoder was trained on, are folded
into its final norm once, so that the folder is an ordinary encoder which needs no other head.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from calot.data.dataset import ClipDataset, batches
from calot.errors import CalotError
from calot.models.classifier import Classifier
from calot.run.data import OpenData
from calot.run.device import make_accelerator, placed
from calot.run.weights import card, write_encoder

#: The folder's name inside a pretraining's run.
STANDARDISED = "standardised"
#: At most so many training clips are looked at, evenly over all of them.
_CLIPS = 2048
#: A feature that deviates by less is constant.
_LEAST = 1e-6


@dataclass(frozen=True)
class FeatureMoments:
    """Of each feature of the tokens (width,) its mean and standard deviation, in float64, over so many tokens."""

    mean: Tensor
    deviation: Tensor
    clips: int
    tokens: int


def feature_moments(model: Classifier, data: OpenData) -> FeatureMoments:
    """Over tokens of training clips as they are scored; no label is read. Raises CalotError for a constant feature."""
    table = data.clips("train", training=False)
    chosen = np.unique(np.linspace(0, len(table) - 1, min(_CLIPS, len(table))).round().astype(np.int64))
    clips, accelerator = ClipDataset(table, data.store("train")), make_accelerator(data.experiment.compute)
    placed(model, accelerator=accelerator)
    model.eval()
    compute, count, done = data.experiment.compute, 0, 0
    total = squares = torch.zeros(data.experiment.backbone.width, dtype=torch.float64)
    loaded = batches(clips, order=chosen, epoch=0, batch_size=compute.evaluation_batch, workers=compute.workers)
    with torch.inference_mode(), data.ui.task("features") as advance:
        for batch in loaded:
            tokens = model.encode(batch.to(accelerator.device)).values.double().flatten(0, -2).cpu()
            total, squares, count = total + tokens.sum(0), squares + tokens.square().sum(0), count + len(tokens)
            done += len(batch)
            advance(done, len(chosen))
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    still = (~(deviation > _LEAST)).nonzero().flatten().tolist()
    if still:
        raise CalotError(f"feature {still[0]} of the encoder's tokens does not vary: it has collapsed, see metrics.csv")
    return FeatureMoments(mean, deviation, clips=len(chosen), tokens=count)


def write_standardised(folder: Path, model: Classifier, *, data: OpenData) -> Path:
    """Write `standardised/` of a pretraining's run, all of it or none, with the card of `weights/`; changes `model`."""
    found, backbone = feature_moments(model, data), model.backbone
    backbone.spec.standardise(backbone.model, mean=found.mean, deviation=found.deviation)
    return write_encoder(folder / STANDARDISED, backbone=backbone, card=f"{card(folder)}\n{_said(found, data=data)}\n")


def _said(found: FeatureMoments, *, data: OpenData) -> str:
    least, most = float(found.deviation.min()), float(found.deviation.max())
    where = f"{found.clips} training clips ({data.manifest.dataset}, manifest {data.manifest.hash[:12]})"
    return (
        f"Standardised: each feature of the tokens has mean 0 and deviation 1 over {found.tokens} tokens of {where}; "
        f"before, deviations lay between {least:.3g} and {most:.3g}. The final norm's weight and bias hold it; the "
        "predictor's first layer takes it back."
    )
