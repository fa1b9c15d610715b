"""Is the last quarter of the layers enough? Layers 18 to 23: no graph below, 2.17 TFLOP per clip instead of 3.72.

calot train lora_layers_18_23 --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10b_lora_r32_qkv
from calot.models.adaptation import LoRA

base = e10b_lora_r32_qkv.experiment
adaptation = LoRA(rank=32, alpha=64, targets=("q", "k", "v"), layers=tuple(range(18, 24)), dropout=0.1, lr=1e-4)
experiment = replace(
    base, name="lora_layers_18_23", baseline="e10b_lora_r32_qkv", train=replace(base.train, adaptation=adaptation)
)
