"""Values alone, at the parameters of e10b (rank 96): attention itself cannot change in the layer adapted.

calot train lora_v --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10b_lora_r32_qkv
from calot.models.adaptation import LoRA

base = e10b_lora_r32_qkv.experiment
adaptation = LoRA(rank=96, alpha=192, targets=("v",), dropout=0.1, lr=1e-4)
experiment = replace(
    base, name="lora_v", baseline="e10b_lora_r32_qkv", train=replace(base.train, adaptation=adaptation)
)
