"""Does drawing rare clips more often help?

Documented: best val mAP 46.90 (epoch 3). A clip's weight is the mean over criteria of n / (2 x count of its label
value), drawn with replacement. Validation keeps its distribution.
Others: `sampler=any-positive`, `sampler=rare-combination`.
    calot train e04_balanced --data ROOT
"""

from dataclasses import replace

from calot.data.sampling import Balanced
from calot.experiments import e02_frozen_probe

experiment = replace(e02_frozen_probe.experiment, name="e04_balanced", baseline="e02_frozen_probe", sampler=Balanced())
