"""Does e12 gain from twice the rank? Its regularisation may carry more.

Documented as planned. 9,437,184 adapter weights.
    calot train e12_lora_r64 --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e12_regularized
from calot.models.adaptation import LoRA

base = e12_regularized.experiment
adaptation = LoRA(rank=64, alpha=128, targets=("q", "k", "v"), dropout=0.1, lr=1e-4)
experiment = replace(
    base, name="e12_lora_r64", baseline="e12_regularized", train=replace(base.train, adaptation=adaptation)
)
