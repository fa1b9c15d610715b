"""Does focal loss help with rare positives?

Documented: best val mAP 24.98 (epoch 2). Caveat: alpha 0.25 weighs the rare positives a third of the negatives, the
wrong way round for these labels; `loss.alpha=0.75`, one alpha per criterion, or `loss.alpha=None` are other runs.
    calot train e03_focal --data ROOT
"""

from dataclasses import replace

from calot.experiments import e02_frozen_probe
from calot.train.losses import FocalLoss

experiment = replace(
    e02_frozen_probe.experiment, name="e03_focal", baseline="e02_frozen_probe", loss=FocalLoss(alpha=0.25, gamma=2.0)
)
