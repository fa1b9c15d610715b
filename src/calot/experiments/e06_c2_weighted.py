"""Does a positive weight of 5 on C2 (the hepatocystic triangle) fix the weakest criterion?

Documented: best val mAP 49.79 (epoch 2), equal to e02 in every digit: the weight was never used, so the documented
number is not a result. The study called C2 "cystic plate"; its column is the hepatocystic triangle.
    calot train e06_c2_weighted --data ROOT
"""

from dataclasses import replace

from calot.criteria import PerCriterion
from calot.experiments import e02_frozen_probe
from calot.train.losses import BCE

experiment = replace(
    e02_frozen_probe.experiment,
    name="e06_c2_weighted",
    baseline="e02_frozen_probe",
    loss=BCE(pos_weight=PerCriterion(hepatocystic_triangle=5.0)),
)
