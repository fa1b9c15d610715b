"""How does the peer do under this protocol? SwinCVS in two stages: SwinV2 learns from frames, then an LSTM from it.

Documented: 67.45 +- 0.41 test mAP on keyframes; others' re-runs 65.5 to 65.8. Audit of the public code: its schedule is
configured and never stepped (here a constant rate, min_lr = lr); its clips are cut from frame numbers sorted as text,
without those at a video's start and the last (here contiguous past frames, padded at the start); its figures of
normalisation are in reversed order, and each frame is then stretched to 0-1 (repeated by
`backbone.normalisation="reversed min-max"`). Also ours: in stage 1 the LSTM learns too, from vectors that pass nothing
back (`pooling.detached`), and its val mAP chooses the epoch, where they used the frame head's and began the LSTM in
stage 2. Prediction: 64 to 68.
    calot train swincvs_frozen --data ROOT
"""

from dataclasses import replace

from calot.experiments import swincvs_e2e
from calot.models.adaptation import Frozen
from calot.models.pooling import LSTMPooling
from calot.train.losses import CombinedLoss

base = swincvs_e2e.experiment
terms = tuple(replace(term, weight=1.0, change=None) for term in base.loss.every_term())
experiment = replace(
    base,
    name="swincvs_frozen",
    baseline="swincvs_e2e",
    pooling=LSTMPooling(hidden=256, layers=2, detached=True),
    loss=CombinedLoss(terms=terms),
    then=(replace(base.train, adaptation=Frozen()),),
)
