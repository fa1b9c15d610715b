"""Queries alone, at the parameters of e10b (rank 96): can LoRA change where attention goes from that side?

calot train lora_q --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10b_lora_r32_qkv
from calot.models.adaptation import LoRA

base = e10b_lora_r32_qkv.experiment
adaptation = LoRA(rank=96, alpha=192, targets=("q",), dropout=0.1, lr=1e-4)
experiment = replace(
    base, name="lora_q", baseline="e10b_lora_r32_qkv", train=replace(base.train, adaptation=adaptation)
)
