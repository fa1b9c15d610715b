"""Does ten times the weight move attention further?

Documented: entropy 99.3 -> 99.4 at lambda 1, again without any gradient. Prediction: mass on the anatomy rises well
beyond what lambda 0.1 does.
    calot train e11_attention_supervision_l1 --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e11_attention_supervision
from calot.train.attention_losses import AttentionKL
from calot.train.losses import Term

attention = Term(name="attention", loss=AttentionKL(), weight=1.0, first_epoch=2)
experiment = replace(
    e11_attention_supervision.experiment,
    name="e11_attention_supervision_l1",
    baseline="e11_attention_supervision",
    loss=e11_attention_supervision.experiment.loss.with_term(attention),
)
