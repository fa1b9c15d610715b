"""How far does SwinCVS get without its second head: an LSTM over SwinV2's frame vectors, trained end to end?

calot train swincvs_lstm --data ROOT
"""

from calot.criteria import PerCriterion
from calot.data.clip_rules import ClipRule
from calot.data.geometry import CentreCrop
from calot.experiment import Experiment
from calot.models.adaptation import FullFineTune
from calot.models.backbones.swin import SwinPerFrame
from calot.models.heads import LinearHead
from calot.models.pooling import LSTMPooling
from calot.train.losses import BCE
from calot.train.stage import Stage

full, rates = FullFineTune(lr=1e-5), {"lr": 1e-3, "min_lr": 1e-3, "warmup": 0.0, "weight_decay": 0.02, "clip_norm": 5.0}
loss = BCE(weight=PerCriterion.of([3.19852941, 4.46153846, 2.79518072]))
experiment = Experiment(
    name="swincvs_lstm",
    clip=ClipRule(length=5),
    geometry=CentreCrop(crop=480),
    augment=(),
    backbone=SwinPerFrame(frames=5, drop_path=0.2),
    pooling=LSTMPooling(hidden=256, layers=2),
    head=LinearHead(norm=False),
    loss=loss,
    train=Stage(adaptation=full, epochs=10, batch=4, patience=10, score_every=1, decayed="all", **rates),
)
