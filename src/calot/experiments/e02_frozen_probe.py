"""How far does a frozen V-JEPA 2 get? Attentive pooling and a small head on frozen tokens: the baseline of the study.

Documented: best val mAP 49.79 (epoch 2; by epoch 42.41, 49.79, 49.01, 48.31), all 1-fps frames, one seed.
Caveats: best-epoch validation on filled labels, no interval; five seeds with intervals by video are needed. The
study scored under `protocol=all-frames`; the default here is keyframes. At tiny scale the encoder is the small one that
comes with calot, pretrained on phantom operations; `backbone.weights=None` makes the run a control with random weights.
    calot train e02_frozen_probe --data ROOT
"""

from calot.experiment import Experiment

experiment = Experiment(name="e02_frozen_probe")
