"""Is what the criteria need in earlier layers? Layers 6, 12 and 23, each pooled by a query of its own, vectors joined.

Tokens stay as they are, the decoder's too. Prediction: within e12's interval, a little better on two structures.
    calot train multi_layer_pooling --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e12_regularized
from calot.models.layer_pooling import LayerPooling

experiment = replace(
    e12_regularized.experiment,
    name="multi_layer_pooling",
    baseline="e12_regularized",
    pooling=LayerPooling(layers=(6, 12, 23)),
)
