"""Does training the heads first, and the last layer after them, do better than both at once?

Documented: 49.94 (stage 1, epoch 2), 48.49 (stage 2, epoch 1). Audit: hue was always 0; jitter, erasing and blur
flickered per frame (masks did follow the rotation). Here one draw holds for a clip and its mask.
Prediction: stage 2, at 1e-6, moves the val mAP by less than the width of its interval.
    calot train e09_staged --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e09_stage_one
from calot.models.adaptation import Unfreeze
from calot.train.stage import Compute

first = e09_stage_one.experiment.train
second = replace(first, adaptation=Unfreeze(layers=1, lr=1e-6), epochs=5, lr=1e-5, warmup=0.0, patience=3)
experiment = replace(
    e09_stage_one.experiment,
    name="e09_staged",
    baseline="e08_multitask",
    then=(second,),
    compute=Compute(micro_batch=16),
)
