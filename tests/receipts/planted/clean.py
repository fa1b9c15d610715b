"""Honest runs that differ in as many ways as they can: none of them may raise an alarm."""

from __future__ import annotations

from calot.experiments import names

D = "augment=[HorizontalFlip(), Rotation(), ColourJitter(), RandomErasing(), GaussianBlur()]"

#: Shipped experiments with changes, beside every shipped one as it is.
CHANGED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("e00_finetune", ("augment=[]", "train.adaptation.layer_decay=0.7", "train.clip_norm=5.0")),
    ("e02_frozen_probe", ("pooling=MeanPooling()", "head=LinearHead()")),
    ("e02_frozen_probe", ("mixing=Mixing(mixup_alpha=0.2, per_clip=True)", "label=SoftLabel()")),
    ("e02_frozen_probe", ("sampler=AnyPositive(share=0.7)", "geometry=CentreCrop()", "clip.stride=2")),
    ("e02_frozen_probe", (D, "train.weight_decay=0.0", "label_smoothing=0.3")),
    ("e08_multitask", ("augment=[Rotation(degrees=90), RandomErasing(probability=1.0, fill=black)]",)),
    ("e10a_lora_r16", ("train.adaptation.rank=1", "train.adaptation.dropout=0.5", "mixing=Mixing()")),
    ("e12_regularized", ("masking=TokenZeroing(patches='nearest pixel')", "mixing.cutmix_probability=0.0")),
)


def clean() -> list[tuple[str, tuple[str, ...]]]:
    """Every shipped experiment, then changed ones."""
    return [*((name, ()) for name in names()), *CHANGED]
