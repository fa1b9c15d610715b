"""What does V-JEPA 2's own pretraining, continued on surgical video, give an encoder? No label is read.

Published (Assran et al. 2025): masks, predictor, L1, momentum 0.99925, weight decay 0.04. Ours: a cosine from 1e-4,
where 3,072 clips per step allowed 5.25e-4; no crops; gradients clipped at norm 1.
As published, the last epoch is kept: on the phantom the lowest val loss came near the lowest effective rank.
Prediction: a frozen probe gains on the hub's encoder, most where train has many operations. Not run at full size yet.
    calot pretrain ROOT --out DIR
"""

from calot.data.clips import AllFrames
from calot.experiment import Experiment
from calot.models.adaptation import FullFineTune
from calot.models.backbones.predictor import Predictor
from calot.models.backbones.vjepa2 import VJEPA2
from calot.pretraining.objective import MaskedPrediction
from calot.train.stage import Stage

steps = {"epochs": 40, "warmup": 4, "batch": 64, "patience": 40}
experiment = Experiment(
    name="p01_masked_prediction",
    protocol=AllFrames(),
    backbone=VJEPA2(weights="facebook/vjepa2-vitl-fpc64-256", predictor=Predictor()),
    objective=MaskedPrediction(keep="last epoch"),
    train=Stage(adaptation=FullFineTune(lr=1e-4), lr=1e-4, weight_decay=0.04, decayed="matrices", **steps),
)
