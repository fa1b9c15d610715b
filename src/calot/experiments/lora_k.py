"""Keys alone, at the parameters of e10b (rank 96): can LoRA change where attention goes from that side?

calot train lora_k --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10b_lora_r32_qkv
from calot.models.adaptation import LoRA

base = e10b_lora_r32_qkv.experiment
adaptation = LoRA(rank=96, alpha=192, targets=("k",), dropout=0.1, lr=1e-4)
experiment = replace(
    base, name="lora_k", baseline="e10b_lora_r32_qkv", train=replace(base.train, adaptation=adaptation)
)
