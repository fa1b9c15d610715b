"""Research question 3, one of four: five frames (the oldest repeated up to 16), global attention.

Against e12 it says what eleven more seconds of the past are worth. Prediction: a little below e12.
    calot train frames5_global --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.data.clip_rules import ClipRule
from calot.experiments import e12_regularized

experiment = replace(
    e12_regularized.experiment,
    name="frames5_global",
    baseline="e12_regularized",
    clip=ClipRule(length=5, pad_to=16),
)
