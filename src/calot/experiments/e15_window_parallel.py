"""Do windows help where global attention stays? A parallel path, added by one factor per head that starts at zero.

Starts as e12 exactly; the factors train at the heads' rate. Planned by the study, never run. Prediction: within e12's
interval, factors near zero in most heads.
    calot train e15_window_parallel --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e12_regularized
from calot.models.backbones import DEFAULT
from calot.models.backbones.additions import ParallelWindows

experiment = replace(
    e12_regularized.experiment,
    name="e15_window_parallel",
    baseline="e12_regularized",
    backbone=replace(DEFAULT, windows=ParallelWindows(size=8)),
)
