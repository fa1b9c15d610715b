"""Do adapters of rank 32 on queries, keys and values do better than rank 16 on queries and values?

Documented: best val mAP 54.61 (epoch 1), C2 60.34, 9.39 M trainable. Audit: `k_proj` matched nothing, so that keys were
never adapted (`e10b_documented`). Here all three: 4,718,592. Prediction: above e10a by less than its interval.
    calot train e10b_lora_r32_qkv --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10a_lora_r16
from calot.models.adaptation import LoRA
from calot.train.stage import Compute

base = e10a_lora_r16.experiment
experiment = replace(
    base,
    name="e10b_lora_r32_qkv",
    baseline="e10a_lora_r16",
    train=replace(base.train, adaptation=LoRA(rank=32, alpha=64, dropout=0.1, targets=("q", "k", "v"), lr=1e-4)),
    compute=Compute(micro_batch=64),
)
