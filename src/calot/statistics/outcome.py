"""A paired difference, and what may be said about it."""

from __future__ import annotations

from dataclasses import dataclass

from calot.statistics.coverage import MeasuredCoverage
from calot.statistics.rounding import between, rounded

ENOUGH_SEEDS = 5
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """A minus B. `low`, `high`: value +- t * se; `p`: permutation, None where its own false rate does not hold;
    `p_holm`: corrected over the criteria (None for mAP). `coverage` is what such intervals held in simulation.

    `video_error` and `seed_error` are the two sources of the standard error apart; seeds are None where not resampled.
    `minimum_detectable` is what this design finds with 80 % power, by planting it in the predictions.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    standard_error: float | None = None
    video_error: float | None = None
    seed_error: float | None = None
    minimum_detectable: float | None = None
    coverage: MeasuredCoverage | None = None
    reason: str | None = None


def outcome_of(difference: PairedDifference, *, smallest_effect: float) -> str:
    """`higher` or `lower` need an interval that excludes 0, and p < 0.05 where p is shown; `equivalent` needs it within
    the smallest effect.
    """
    if difference.low is None or difference.high is None:
        return "undefined"
    if -smallest_effect < difference.low and difference.high < smallest_effect:
        return "equivalent"
    beside = not difference.low <= 0 <= difference.high
    rare = beside if difference.p is None else difference.p < 1 - LEVEL
    if beside and rare:
        return "higher" if difference.low > 0 else "lower"
    return "disagree" if beside != rare else "undecided"


def verdict_of(
    difference: PairedDifference, *, outcome: str, names: tuple[str, str], about: str, smallest_effect: float
) -> str:
    """The outcome in words: what it is about, and what the design could have found."""
    if difference.value is None or difference.low is None or difference.high is None or outcome == "undefined":
        return f"Undefined: {difference.reason}."
    figures = (
        f"{rounded(100 * difference.value, digits=1, sign=True)} points of mAP, 95 % interval "
        f"{between(difference.low, difference.high, sign=True)}, {_p_words(difference.p)}"
    )
    scope = {
        "the treatment": "This is about the treatment: seeds and videos were both resampled.",
        "these checkpoints": "This is about these checkpoints, not about the treatment: "
        f"that needs {ENOUGH_SEEDS} seeds per side.",
    }[about]
    smallest = difference.minimum_detectable
    detectable = (
        "The design detects no difference with 80 % power."
        if smallest is None
        else f"The design detects {100 * smallest:.1f} points with about 80 % power{_SIMULATED[about]}."
    )
    said = {
        "higher": f"{names[0]} is better than {names[1]}",
        "lower": f"{names[0]} is worse than {names[1]}",
        "equivalent": f"{names[0]} and {names[1]} differ by less than {100 * smallest_effect:g} points",
        "disagree": f"Interval and permutation test disagree on {names[0]} and {names[1]}: no difference is called",
        "undecided": f"No evidence of a difference between {names[0]} and {names[1]}, and none is excluded",
    }.get(outcome, f"{names[0]} and {names[1]}")
    return f"{said} ({figures}). {scope} {detectable}"


#: What power simulation found at the printed figure (docs/results/interval_coverage.md, twice_minimum.md).
_SIMULATED = {
    "these checkpoints": " (66 to 95 % in simulated worlds)",
    "the treatment": " (68 to 90 % in simulated worlds)",
}


def _p_words(p: float | None) -> str:
    if p is None:
        return "no permutation p: its own false rate does not hold here"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
