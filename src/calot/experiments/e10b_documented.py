"""What the study's e10b really trained: rank 32 on queries and values, keys left alone.

Documented as q, k, v: 54.61 (epoch 1). Encoder only: 3,145,728 adapter weights. Against e10b it says what adapting the
keys is worth.
    calot train e10b_documented --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10b_lora_r32_qkv
from calot.models.adaptation import LoRA

base = e10b_lora_r32_qkv.experiment
adaptation = LoRA(rank=32, alpha=64, dropout=0.1, targets=("q", "v"), lr=1e-4)
experiment = replace(
    base, name="e10b_documented", baseline="e10b_lora_r32_qkv", train=replace(base.train, adaptation=adaptation)
)
