"""What stands behind the scores, for a paper's supplement: AP by subgroup, and decisions at thresholds of val."""

from __future__ import annotations

from collections.abc import Iterator

from calot.report.run_folder import RunFolder
from calot.report.study.folder import StudyFolder
from calot.statistics.appearance import NO_DATA, Appearance
from calot.statistics.calibration import choose_thresholds
from calot.statistics.frame_sums import RATES
from calot.statistics.intervals import Interval
from calot.statistics.metrics import sigmoid
from calot.statistics.subgroups import PartScore, Subgroups, subgroups
from calot.statistics.summary import summarise

_ENDS = ("", "_low", "_high")
DECIDED = "sensitivity, specificity, PPV, NPV at the threshold of the highest F1 on val (there optimistic)"
SUBGROUP_HEADS = [
    *("experiment", "seed", "kind", "subgroup", "criterion", "frames", "positives", "positive_videos", "chance"),
    *(f"{name}{end}" for name in ("ap", "difference_from_the_rest") for end in _ENDS),
]
DECISION_HEADS = [
    *("experiment", "seed", "split", "criterion", "threshold_probability", "threshold_chosen_on"),
    *(f"{rate}{end}" for rate in RATES for end in _ENDS),
]


def subgroup_names(study: StudyFolder) -> list[str]:
    """The parts of val by kind: `raters: unanimous, not unanimous`; the same for all runs of one manifest."""
    kinds: dict[str, list[str]] = {}
    for part in next((_parts(run).found for _, run in _sound(study)), ()):
        kinds.setdefault(part.kind, []).append(part.name)
    return [f"{kind}: {', '.join(names)}" for kind, names in kinds.items()]


def _sound(study: StudyFolder) -> Iterator[tuple[str, RunFolder]]:
    """Every run whose receipt did not fail, with its experiment's name."""
    return ((name, run) for name, one in study.experiments.items() for run in one.sound)


def _parts(run: RunFolder) -> Subgroups:
    return subgroups(run.predictions["val"], appearance=Appearance(reason=NO_DATA))


def subgroup_rows(study: StudyFolder) -> Iterator[list[object]]:
    """AP on val of each run in parts of its frames, with the difference from all others, shares."""
    for experiment, run in _sound(study):
        for part in _parts(run).found:
            for name, item in part.criteria.items():
                yield [experiment, run.seed, part.kind, part.name, name, *_of_part(item)]


def decision_rows(study: StudyFolder) -> Iterator[list[object]]:
    """Rates of each run and split at the thresholds of highest F1 on its own val, shares; on val itself optimistic."""
    for experiment, run in _sound(study):
        thresholds = choose_thresholds(run.predictions["val"])
        for split, table in run.predictions.items():
            for name, item in summarise(table, thresholds=thresholds).criteria.items():
                if item.decisions is None:
                    continue
                rates = [end for rate in RATES for end in _ends(item.intervals.rates[rate])]
                chosen = "this same split: optimistic" if split == "val" else "val"
                limit = float(sigmoid(item.decisions.threshold))
                yield [experiment, run.seed, split, name, limit, chosen, *rates]


def _of_part(item: PartScore) -> list[object]:
    counts = [item.frames, item.positives, item.positive_videos]
    return [*counts, item.chance, *_ends(item.ap), *_ends(item.difference)]


def _ends(item: Interval) -> list[float | None]:
    return [item.value, item.low, item.high]
