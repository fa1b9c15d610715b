"""Is e10b best after one or two epochs? The same with at most two, so that the schedule ends there.

The study's best epoch was the first. A shorter cosine is another treatment than stopping early; its warm-up is cut to
half an epoch, since e10b's would take all of it.
    calot train e10b_recipe --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10b_lora_r32_qkv

base = e10b_lora_r32_qkv.experiment
experiment = replace(
    base, name="e10b_recipe", baseline="e10b_lora_r32_qkv", train=replace(base.train, epochs=2, warmup=0.5)
)
