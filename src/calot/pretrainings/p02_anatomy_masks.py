"""Does an encoder learn more of the anatomy where it must predict it? Short blocks lie on segmentation masks' anatomy.

Where a clip has no mask, its blocks lie anywhere, as in p01. Masks of training and validation videos are read, labels
are not: a probe on this encoder is no longer a result of video alone. Prediction: on the hub's encoder a probe gains
over p01's, most for C2 (the triangle), and nothing where few clips have a mask. Not run at full size yet.
    calot pretrain ROOT p02_anatomy_masks --out DIR
"""

from dataclasses import replace

from calot.pretraining.masks import LONG_RANGE, AnatomyBlocks
from calot.pretraining.objective import MaskedPrediction
from calot.pretrainings.p01_masked_prediction import experiment as p01

experiment = replace(
    p01,
    name="p02_anatomy_masks",
    baseline="p01_masked_prediction",
    objective=MaskedPrediction(
        masks=(AnatomyBlocks(name="anatomy", blocks=8, spatial_scale=0.15), LONG_RANGE), keep="last epoch"
    ),
)
