"""Does ten times the weight move attention further?

Documented: entropy 99.3 -> 99.4 at lambda 1, again without any gradient. Prediction: mass on the anatomy rises well
beyond what lambda 0.1 does.
    calot train e11_attention_supervision_l1 --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e09_stage_one, e11_attention_supervision
from calot.train.attention_losses import AttentionKL

experiment = replace(
    e11_attention_supervision.experiment,
    name="e11_attention_supervision_l1",
    baseline="e11_attention_supervision",
    loss=replace(e09_stage_one.loss, attention=AttentionKL(weight=1.0)),
)
