"""An epoch of the last layers on what enters them, against running the frozen layers below again in each epoch."""

from __future__ import annotations

from pathlib import Path

from calot.bench.features import cached_epochs
from calot.bench.side_by_side import Outcome

TARGET = 3.0
#: As in the full-size encoder, 2 of 24 layers train.
LAYERS = 24


def bench_layer_cache(
    *,
    data: Path | None = None,
    frames: int = 300,
    repeats: int = 2,
    protocol: str = "AllFrames()",
    layers: int = LAYERS,
) -> Outcome:
    """`e00_finetune` at tiny width and `layers` layers: training, validation and the clean pass of an epoch."""
    return cached_epochs(
        "e00_finetune",
        bench="layer-cache",
        ways=(
            "every layer computes in every epoch",
            "what enters the first layer that trains, from train.features, fp32",
        ),
        target=TARGET,
        data=data,
        frames=frames,
        repeats=repeats,
        protocol=protocol,
        more=(f"backbone.layers={layers}", "train.adaptation=Unfreeze(layers=2)"),
    )
