"""Does it help to let adapters change a weight's direction and size apart (DoRA, Liu et al. 2024)?

e10b with one magnitude per output: 73,728 weights more. Ours. Prediction: within e10b's interval.
    calot train lora_dora --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10b_lora_r32_qkv
from calot.models.adaptation import LoRA

base = e10b_lora_r32_qkv.experiment
adaptation = LoRA(rank=32, alpha=64, targets=("q", "k", "v"), dropout=0.1, dora=True, lr=1e-4)
experiment = replace(
    base, name="lora_dora", baseline="e10b_lora_r32_qkv", train=replace(base.train, adaptation=adaptation)
)
