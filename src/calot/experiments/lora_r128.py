"""Does rank 128 do better than 32? alpha / rank stays 2. 18,874,368 adapter weights.

calot train lora_r128 --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10b_lora_r32_qkv
from calot.models.adaptation import LoRA

base = e10b_lora_r32_qkv.experiment
adaptation = LoRA(rank=128, alpha=256, targets=("q", "k", "v"), dropout=0.1, lr=1e-4)
experiment = replace(
    base, name="lora_r128", baseline="e10b_lora_r32_qkv", train=replace(base.train, adaptation=adaptation)
)
