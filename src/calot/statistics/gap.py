"""The feature-classification gap: what each step from true masks to averaged tokens costs, in words where it shows."""

from __future__ import annotations

from calot.criteria import CRITERIA, label
from calot.statistics.probing import ProbeDifference, Probes

TRUE, PREDICTED, INSIDE = "true masks", "predicted masks", "tokens inside the true mask"
ALL_TOKENS, OWN_HEAD = "all tokens averaged", "the run’s own head"

#: The differences that are asked for, the first minus the second: what it means where it is above zero, and below.
GAPS: dict[tuple[str, str], tuple[str, str]] = {
    (TRUE, PREDICTED): (
        "areas and places of the predicted masks say less than those of the true ones: segmentation errors cost",
        "the predicted masks say more than the true ones: they hold what the mask alone does not show",
    ),
    (TRUE, INSIDE): (
        "the shapes of the true masks say more than the tokens inside them: the encoder loses",
        "the tokens inside the true mask say more than its shapes: the encoder adds",
    ),
    (INSIDE, ALL_TOKENS): (
        "tokens inside the mask say more than all tokens averaged: pooling over everything costs",
        "all tokens averaged say more than those inside the mask: what is around the anatomy adds",
    ),
    (PREDICTED, ALL_TOKENS): (
        "the decoder’s masks say more than averaged tokens: what the decoder found does not reach the classifier, at",
        "averaged tokens say more than the decoder’s masks, by",
    ),
    (TRUE, ALL_TOKENS): (
        "true masks say more than averaged tokens: the whole gap between seeing and classifying is",
        "averaged tokens say more than the true masks, by",
    ),
}


def gap_sentences(found: Probes) -> list[str]:
    """A sentence for each difference whose interval leaves zero out: the mean over criteria where it is defined, else
    by criterion. One that says so where there is none."""
    said = []
    for (one, other), (above, below) in GAPS.items():
        mine = {d.criterion: d for d in found.differences if (d.features, d.less) == (one, other)}
        if not mine:
            continue
        whole = mine[None]
        asked = [whole] if whole.difference.value is not None else [mine[c] for c in CRITERIA]
        said += [_sentence(d, above=above, below=below) for d in asked if d.supported]
    if said:
        return said
    return [
        f"No difference between these features is supported by its interval: {found.clips} clips of {found.videos} "
        "videos cannot say where the criteria get lost."
    ]


def _sentence(one: ProbeDifference, *, above: str, below: str) -> str:
    held = one.difference
    assert held.value is not None
    assert held.low is not None
    assert held.high is not None
    low, high = sorted((abs(held.low), abs(held.high)))
    of = "mAP" if one.criterion is None else f"AP of {label(one.criterion)}"
    text = above if held.value > 0 else below
    return (
        f"{text[0].upper()}{text[1:]} {100 * abs(held.value):.1f} points of {of} ({100 * low:.1f} to {100 * high:.1f})."
    )
