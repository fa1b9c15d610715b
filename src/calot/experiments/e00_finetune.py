"""Does the pipeline learn at all? The whole small model trained end to end, a sanity run at tiny scale.

Ours; the study has no such run. Prediction: on the phantom, val mAP above chance with an interval that excludes it.
    calot train e00_finetune --data ROOT --scale tiny
"""

from calot.experiment import Experiment
from calot.models.adaptation import FullFineTune
from calot.train.stage import Stage

experiment = Experiment(
    name="e00_finetune",
    train=Stage(adaptation=FullFineTune(lr=5e-4), weight_decay=0.05, epochs=15),
)
