"""Do frames seen by SwinV2 in high resolution, then by V-JEPA 2's last blocks over time, beat either alone?

SwinV2-B at 384 gives 12 x 12 tokens per frame; two frames' tokens are joined by a linear, then blocks 18-23 follow on a
12 x 12 rotary grid. e12's adapters sit in the blocks and SwinV2 is frozen; `train.adaptation=InParts(frames=...,
blocks=...)` adapts each by itself. Planned in the study, never run. Prediction: within e12's interval.
    calot train e14_hybrid --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e12_regularized
from calot.models.backbones.hybrid import SwinVJEPA

base = e12_regularized.experiment
experiment = replace(base, name="e14_hybrid", baseline="e12_regularized", backbone=SwinVJEPA())
