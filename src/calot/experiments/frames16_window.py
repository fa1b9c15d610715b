"""Research question 3, one of four: 16 frames, windows of all temporal bins (8 x 8 tokens each, shifted).

Unlike e15's, these windows see time, so that only space is confined. Prediction: within e12's interval.
    calot train frames16_window --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e12_regularized
from calot.models.backbones import DEFAULT
from calot.models.backbones.additions import WindowAttention

experiment = replace(
    e12_regularized.experiment,
    name="frames16_window",
    baseline="e12_regularized",
    backbone=replace(DEFAULT, windows=WindowAttention(size=8, all_bins=True, shifted=True)),
)
