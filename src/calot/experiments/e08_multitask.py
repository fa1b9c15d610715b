"""Does learning to segment the anatomy help to judge the criteria?

Adds the decoder and trains the last two layers. Documented: best val mAP 48.03 (epoch 2); mIoU 27.28, 29.72, 30.21,
30.69. Audit: the final LayerNorm was meant to train and did not (`train.adaptation.final_norm=False` repeats that).
51.2 % of its clips had a mask, most of them SAM 2's: `masks.synthetic=FOLDER`. Prediction: mIoU above the baseline
of one class, mAP within e02's interval.
    calot train e08_multitask --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.criteria import PerCriterion
from calot.experiments import e02_frozen_probe
from calot.models.adaptation import Unfreeze
from calot.models.segmentation import Segmentation
from calot.train.losses import BCE, SegmentationLoss, Term
from calot.train.stage import Compute, Stage

criteria, segmentation = BCE(pos_weight=PerCriterion.of([1, 3, 1])), SegmentationLoss()
experiment = replace(
    e02_frozen_probe.experiment,
    name="e08_multitask",
    baseline="e02_frozen_probe",
    heads=(Segmentation(),),
    loss=criteria.with_term(Term(name="segmentation", loss=segmentation, weight=0.5)),
    train=Stage(adaptation=Unfreeze(layers=2, lr=1e-5), epochs=20, weight_decay=0.05, patience=7),
    compute=Compute(micro_batch=16),
)
