"""Does VideoMAE, adapted as e10a adapts V-JEPA 2, see the criteria as well?

Prediction: below e10a, because its pretraining reconstructs pixels and its features are less linear in what they hold.

calot train videomae_lora --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10a_lora_r16
from calot.models.backbones.videomae import VideoMAE

experiment = replace(e10a_lora_r16.experiment, name="videomae_lora", baseline="e10a_lora_r16", backbone=VideoMAE())
