"""Does attention confined to neighbourhoods help the pretrained encoder to judge small anatomy?

Windows of 8 x 8 tokens within one temporal bin in place of global attention, in every layer; frames then meet only in
pooling. Planned by the study, never run. Prediction: below e12, because nothing but pooling sees time; the first 18
layers alone (`backbone.windows.layers=[0,...,17]`) lose less. Cost falls with the window (`calot bench window`).
    calot train e15_vjepa_window --data ROOT masks.synthetic=FOLDER
"""

from dataclasses import replace

from calot.experiments import e12_regularized
from calot.models.backbones import DEFAULT
from calot.models.backbones.additions import WindowAttention

experiment = replace(
    e12_regularized.experiment,
    name="e15_vjepa_window",
    baseline="e12_regularized",
    backbone=replace(DEFAULT, windows=WindowAttention(size=8)),
)
