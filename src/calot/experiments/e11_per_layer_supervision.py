"""Does attention follow better when every quarter of the encoder, not only its end, is shown where the anatomy is?

The mean of the same term over layers 5, 11, 17 and 23. Ours. Prediction: mass on the anatomy rises in all four.
    calot train e11_per_layer_supervision --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e11_attention_supervision
from calot.train.attention_losses import AttentionKL
from calot.train.losses import Term

attention = Term(name="attention", loss=AttentionKL(layers=(5, 11, 17, 23)), weight=0.1, first_epoch=2)
experiment = replace(
    e11_attention_supervision.experiment,
    name="e11_per_layer_supervision",
    baseline="e11_attention_supervision",
    loss=e11_attention_supervision.experiment.loss.with_term(attention),
)
