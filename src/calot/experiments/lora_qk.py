"""Queries and keys, at the parameters of e10b (rank 48): attention changes, values do not.

calot train lora_qk --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10b_lora_r32_qkv
from calot.models.adaptation import LoRA

base = e10b_lora_r32_qkv.experiment
adaptation = LoRA(rank=48, alpha=96, targets=("q", "k"), dropout=0.1, lr=1e-4)
experiment = replace(
    base, name="lora_qk", baseline="e10b_lora_r32_qkv", train=replace(base.train, adaptation=adaptation)
)
