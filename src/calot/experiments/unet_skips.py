"""Do early layers' details help the last ones? U-Net skips 0 -> 23 and 6 -> 18, gated, the gates zero at first.

Starts as e12 exactly. Prediction: within e12's interval; masks (mIoU) a little better than its.
    calot train unet_skips --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e12_regularized
from calot.models.backbones import DEFAULT
from calot.models.backbones.additions import Skips

experiment = replace(
    e12_regularized.experiment,
    name="unet_skips",
    baseline="e12_regularized",
    backbone=replace(DEFAULT, skips=Skips(sources=(0, 6), targets=(23, 18))),
)
