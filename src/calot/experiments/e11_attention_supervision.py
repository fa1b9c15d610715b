"""Can a loss on the encoder's attention make it look at the anatomy?

KL from a uniform distribution over the anatomy's patches to the attention they receive, last layer, lambda 0.1.
Documented: 49.77; entropy 99.5 -> 99.2. Audit: the loss read detached queries and keys, so it had no gradient, and five
more things changed unsaid. Here the real ones, after LoRA and RoPE. Prediction: mass on the anatomy rises.
    calot train e11_attention_supervision --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e09_stage_one, e10b_lora_r32_qkv
from calot.train.attention_losses import AttentionKL
from calot.train.stage import Compute

base = e10b_lora_r32_qkv.experiment
experiment = replace(
    base,
    name="e11_attention_supervision",
    baseline="e10b_lora_r32_qkv",
    loss=replace(e09_stage_one.loss, attention=AttentionKL(weight=0.1)),
    train=replace(base.train, epochs=10, warmup=1.0),
    compute=Compute(micro_batch=32),
)
