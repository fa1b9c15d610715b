"""What does e10b reach under e11's recipe? The baseline of e11, which then differs from it in its loss alone.

Ours; the study held e11 against e10b, from which it differs in epochs and warm-up too. Prediction: within e10b's
interval.
    calot train e10b_ten_epochs --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10b_lora_r32_qkv
from calot.train.stage import Compute

base = e10b_lora_r32_qkv.experiment
experiment = replace(
    base,
    name="e10b_ten_epochs",
    baseline="e10b_lora_r32_qkv",
    train=replace(base.train, epochs=10, warmup=1.0),
    compute=Compute(micro_batch=32),
)
