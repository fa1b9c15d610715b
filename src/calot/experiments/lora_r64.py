"""Does rank 64 do better than 32? alpha / rank stays 2. 9,437,184 adapter weights.

calot train lora_r64 --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10b_lora_r32_qkv
from calot.models.adaptation import LoRA

base = e10b_lora_r32_qkv.experiment
adaptation = LoRA(rank=64, alpha=128, targets=("q", "k", "v"), dropout=0.1, lr=1e-4)
experiment = replace(
    base, name="lora_r64", baseline="e10b_lora_r32_qkv", train=replace(base.train, adaptation=adaptation)
)
