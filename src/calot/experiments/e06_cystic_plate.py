"""Does a positive weight of 5 on C3 (the cystic plate) help it?

Ours: what the study's e06 said it would do, for the criterion it named.
    calot train e06_cystic_plate --data ROOT
"""

from dataclasses import replace

from calot.criteria import PerCriterion
from calot.experiments import e02_frozen_probe
from calot.train.losses import BCE

experiment = replace(
    e02_frozen_probe.experiment,
    name="e06_cystic_plate",
    baseline="e02_frozen_probe",
    loss=BCE(pos_weight=PerCriterion(cystic_plate=5.0)),
)
