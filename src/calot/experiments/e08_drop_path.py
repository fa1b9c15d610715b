"""Does stochastic depth regularise the layers that e08 trains?

calot train e08_drop_path --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e08_multitask
from calot.models.backbones import DEFAULT

experiment = replace(
    e08_multitask.experiment,
    name="e08_drop_path",
    baseline="e08_multitask",
    backbone=replace(DEFAULT, drop_path=0.1),
)
