"""Do low-rank adapters on queries and values adapt the encoder better than a frozen one?

Documented: best val mAP 53.75 (epoch 2), 7.52 M trainable. Audit: 294,912 of its 1,867,776 adapter weights sat in the
predictor, which is never used. Here the encoder alone: 1,572,864. Prediction: the best of the family so far.
    calot train e10a_lora_r16 --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e09_stage_one
from calot.models.adaptation import LoRA
from calot.train.stage import Stage

experiment = replace(
    e09_stage_one.experiment,
    name="e10a_lora_r16",
    baseline="e09_stage_one",
    train=Stage(
        adaptation=LoRA(rank=16, alpha=32, dropout=0.1, targets=("q", "v"), lr=1e-4),
        weight_decay=0.05,
        min_lr=1e-7,
        batch=128,
    ),
)
