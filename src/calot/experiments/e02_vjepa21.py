"""How far does V-JEPA 2.1 get where e02 freezes V-JEPA 2? The same probe on frozen tokens of its ViT-L.

Prediction: above e02 on the cystic plate, whose evidence is small: 2.1 was trained for dense features (every token
predicts, four layers distilled). Its official weights are one file, read as it is; the clips are those of e02.
    calot train e02_vjepa21 --data ROOT backbone.weights=vjepa2_1_vitl_dist_vitG_384.pt
"""

from dataclasses import replace

from calot.experiments import e02_frozen_probe
from calot.models.backbones.vjepa21 import VJEPA21

experiment = replace(e02_frozen_probe.experiment, name="e02_vjepa21", baseline="e02_frozen_probe", backbone=VJEPA21())
