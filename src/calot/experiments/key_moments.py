"""Do moments of change tell more than the last 16 seconds? 16 frames at equal quantiles of frame change, of 64 seconds.

Causal and free of labels. Prediction: better on the cystic plate, whose dissection takes minutes.
    calot train key_moments --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.data.clip_rules import KeyMoments
from calot.experiments import e12_regularized

experiment = replace(
    e12_regularized.experiment,
    name="key_moments",
    baseline="e12_regularized",
    clip=KeyMoments(length=16, window=64),
)
