"""Are five frames enough, labelled by their majority, seen through a centre crop?

Five frames that end on the labelled one (causal), oldest first, padded to 16 with the last as the study pads; batch 64
as there; LoRA r32 on the last quarter of the layers. Documented (a later note of the study): 56.06 (epoch 3).
Validation labels stay the protocol's.
    calot train clip5_majority --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.data.clip_rules import ClipRule, PadWithLast
from calot.data.clips import MajorityLabel
from calot.data.geometry import CentreCrop
from calot.experiments import e12_regularized
from calot.models.adaptation import LoRA

base = e12_regularized.experiment
adaptation = LoRA(rank=32, alpha=64, targets=("q", "k", "v"), layers=tuple(range(18, 24)), lr=1e-4)
experiment = replace(
    base,
    name="clip5_majority",
    baseline="e12_regularized",
    clip=ClipRule(length=5, pad_to=16, padding=PadWithLast()),
    label=MajorityLabel(),
    geometry=CentreCrop(crop=480),
    train=replace(base.train, adaptation=adaptation, batch=64),
)
