"""Research question 3, one of four: five frames (the oldest repeated up to 16), windows of all temporal bins.

Against frames5_global it says what windows do where there is little time to see. Prediction: within its interval.
    calot train frames5_window --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import frames5_global, frames16_window

experiment = replace(
    frames5_global.experiment,
    name="frames5_window",
    baseline="frames5_global",
    backbone=frames16_window.experiment.backbone,
)
