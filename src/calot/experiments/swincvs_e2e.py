"""SwinCVS end to end: does a second head, on the last frame's vector, help backbone and LSTM to learn together?

The loss is 0.8 x BCE of the frame head + 0.2 x BCE of the LSTM's; from epoch 6 on each epoch moves 0.04 from the first
to the second; the LSTM's head is scored. Documented: 64.59 test mAP. Audit: see swincvs_frozen. Prediction: below it.
    calot train swincvs_e2e --data ROOT
"""

from dataclasses import replace

from calot.experiments import swincvs_lstm
from calot.models.heads import FrameHead
from calot.train.losses import CombinedLoss, Ramp, Term

base, loss = swincvs_lstm.experiment, swincvs_lstm.loss
terms = (
    Term(name="frame", loss=replace(loss, head="frame"), weight=0.8, change=Ramp(by=-0.04, first_epoch=6)),
    Term(name="criteria", loss=loss, weight=0.2, change=Ramp(by=0.04, first_epoch=6)),
)
experiment = replace(
    base, name="swincvs_e2e", baseline="swincvs_lstm", heads=(FrameHead(lr=1e-5),), loss=CombinedLoss(terms=terms)
)
