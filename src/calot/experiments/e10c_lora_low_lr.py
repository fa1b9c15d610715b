"""Does e10a overfit because its learning rate is too high? Half of it, for longer.

Documented: best val mAP 52.56 (epoch 3). Prediction: a later best epoch, not a better one.
    calot train e10c_lora_low_lr --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10a_lora_r16
from calot.models.adaptation import LoRA
from calot.train.stage import Compute

base = e10a_lora_r16.experiment
slow = LoRA(rank=16, alpha=32, dropout=0.1, targets=("q", "v"), lr=5e-5)
experiment = replace(
    base,
    name="e10c_lora_low_lr",
    baseline="e10a_lora_r16",
    train=replace(base.train, adaptation=slow, lr=2.5e-4, warmup=3.0, epochs=20, patience=7),
    compute=Compute(micro_batch=64),
)
