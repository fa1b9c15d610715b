"""Are half the layers enough? Every other layer of the encoder (24 -> 12), at half the cost of a pass.

`backbone.pruning.keep` is `spread`, `first` or `last`. Prediction: well below e12 at first, since no layer was trained
to follow the one before the last; LoRA closes part of the gap.
    calot train layers_12 --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e12_regularized
from calot.models.backbones import DEFAULT
from calot.models.backbones.additions import Pruning

experiment = replace(
    e12_regularized.experiment,
    name="layers_12",
    baseline="e12_regularized",
    backbone=replace(DEFAULT, layers=12, pruning=Pruning(of=24, keep="spread")),
)
