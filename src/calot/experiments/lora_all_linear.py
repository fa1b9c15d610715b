"""Does adapting every linear layer of attention and MLP gain more?

calot train lora_all_linear --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10b_lora_r32_qkv
from calot.models.adaptation import LoRA

base = e10b_lora_r32_qkv.experiment
adaptation = LoRA(rank=32, alpha=64, targets=("q", "k", "v", "proj", "fc1", "fc2"), dropout=0.1, lr=1e-4)
experiment = replace(
    base, name="lora_all_linear", baseline="e10b_lora_r32_qkv", train=replace(base.train, adaptation=adaptation)
)
