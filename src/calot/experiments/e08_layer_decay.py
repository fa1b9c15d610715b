"""Should lower layers learn more slowly? e08 with six layers open and a rate that falls by 0.75 per layer.

calot train e08_layer_decay --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e08_multitask
from calot.models.adaptation import Unfreeze

base = e08_multitask.experiment
adaptation = Unfreeze(layers=6, lr=1e-5, layer_decay=0.75)
experiment = replace(
    base, name="e08_layer_decay", baseline="e08_multitask", train=replace(base.train, adaptation=adaptation)
)
