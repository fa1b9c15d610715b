"""Do tokens of several depths judge better than the last alone? Layers 6, 12 and 23, joined by one linear.

Starts as e12 exactly: what joins the levels is zero at first. Prediction: within e12's interval.
    calot train feature_pyramid --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e12_regularized
from calot.models.backbones import DEFAULT
from calot.models.backbones.additions import Pyramid

experiment = replace(
    e12_regularized.experiment,
    name="feature_pyramid",
    baseline="e12_regularized",
    backbone=replace(DEFAULT, pyramid=Pyramid(layers=(6, 12))),
)
