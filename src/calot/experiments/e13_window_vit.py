"""Can a small transformer with windows, trained from scratch, judge what a large pretrained one does not?

Swin V2's layers on tubes of video, 8 x 8 windows within a temporal bin, shifted in every other layer; no pretraining.
Planned by the study (24 to 25 million parameters; ours has 23.5), never run. Prediction: far below e12, because 11,000
keyframes of 120 operations are little to learn from.
    calot train e13_window_vit --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.data.mixing import Mixing
from calot.experiments import e12_regularized
from calot.models.adaptation import FullFineTune
from calot.models.backbones.window_vit import WindowViT

base = e12_regularized.experiment
scratch = FullFineTune(lr=1e-3)
experiment = replace(
    base,
    name="e13_window_vit",
    baseline="e12_regularized",
    backbone=WindowViT(),
    mixing=Mixing(mixup_alpha=0.3, cutmix_alpha=0.3),
    train=replace(base.train, adaptation=scratch, lr=1e-3, weight_decay=0.05, epochs=50, warmup=5.0, patience=10),
)
