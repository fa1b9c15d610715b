"""Does fine detail help beside motion? V-JEPA 2 at 256 and SwinV2-B at 384 on the last five frames, vectors joined.

e12's adapters sit in V-JEPA 2 and SwinV2 is frozen; `train.adaptation=InParts(...)` adapts each by itself. Planned in
the study, never run. Prediction: above e12, because heads see SwinV2's ImageNet features at 2.25 times the pixels.
    calot train multires_fusion --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e12_regularized
from calot.models.backbones.fusion import MultiResolution

base = e12_regularized.experiment
experiment = replace(base, name="multires_fusion", baseline="e12_regularized", backbone=MultiResolution())
