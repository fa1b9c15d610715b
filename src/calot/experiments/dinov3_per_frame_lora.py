"""How much of CVS can be seen in single frames? DINOv3 on each frame by itself, adapted as e10a adapts V-JEPA 2.

Prediction: close to e10a on two structures and hepatocystic triangle, below it on the cystic plate.

calot train dinov3_per_frame_lora --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e10a_lora_r16
from calot.models.backbones.per_frame import DINOv3PerFrame

experiment = replace(
    e10a_lora_r16.experiment, name="dinov3_per_frame_lora", baseline="e10a_lora_r16", backbone=DINOv3PerFrame()
)
