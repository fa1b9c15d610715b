"""How far do decoder and head get on frozen tokens under the full augmentation? Stage 1 of e09 alone.

Documented as the first line of e09: best val mAP 49.94 (epoch 2). Ours as a value of its own, because e10a is measured
against it. Unlike the study, what rotation brings in is black, and ignored in masks (there: reflected, and background).
Prediction: within e02's interval.
    calot train e09_stage_one --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.data.augmentations import FAMILY_D
from calot.experiments import e08_multitask
from calot.train.losses import SegmentationLoss, Term
from calot.train.stage import Compute, Stage

experiment = replace(
    e08_multitask.experiment,
    name="e09_stage_one",
    baseline="e08_multitask",
    augment=FAMILY_D,
    loss=e08_multitask.experiment.loss.with_term(Term(name="segmentation", loss=SegmentationLoss(), weight=0.3)),
    train=Stage(epochs=10, weight_decay=0.05, warmup=1.0, min_lr=1e-7, batch=128),
    compute=Compute(micro_batch=32),
)
