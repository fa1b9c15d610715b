"""The verdict: what a run shows and what it does not, in plain words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from calot.criteria import label
from calot.provenance.combination import Combination
from calot.provenance.receipt import verdict as receipt_verdict
from calot.report.run_folder import RunFolder
from calot.report.tables import bounds, interval_text, plain_reason, points
from calot.statistics.compare import Comparison
from calot.statistics.intervals import Interval

PHANTOM_BANNER = "Phantom data: these scores mean nothing clinically"
_ROUNDING = 2e-3
Standing = Literal["above", "below", "level", "unknown"]
_WORDS: dict[Standing, str] = {
    "above": "above chance",
    "below": "below chance",
    "level": "not distinguishable from chance",
    "unknown": "without an interval",
}

_OUTCOMES = {
    "higher": "{a} scores higher than {b}",
    "lower": "{a} scores lower than {b}",
    "equivalent": "{a} and {b} are equivalent",
    "undecided": "No difference between {a} and {b} is shown",
    "undefined": "The difference between {a} and {b} is undefined",
    "invalid": "<strong>Invalid</strong>: {a} against {b}",
}


@dataclass(frozen=True)
class Reason:
    """One line under the headline: a lead of a few words, the sentence, and a command where there is one to type."""

    lead: str
    text: str
    code: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", tidy(self.text))


@dataclass(frozen=True)
class Stamp:
    """A short warning or fact beside the title."""

    text: str
    warn: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The page's first sentences."""

    headline: Markup
    reasons: Sequence[Reason]

    def __post_init__(self) -> None:
        object.__setattr__(self, "headline", Markup(tidy(str(self.headline))))


def standing(interval: Interval, *, chance: float | None) -> Standing:
    """Where a 95 % interval lies against chance: `level` when it holds chance, `unknown` without an interval."""
    if interval.low is None or interval.high is None or chance is None:
        return "unknown"
    if interval.low > chance:
        return "above"
    return "below" if interval.high < chance else "level"


def stamps(run: RunFolder) -> list[Stamp]:
    """The marks that stand above the headline; a warning one says what the reader must know before the number."""
    found = []
    if not run.finished:
        found.append(Stamp("unfinished" if run.imported is None else "not scored yet", warn=True))
    if run.imported is not None:
        found.append(Stamp("imported: training not verified", warn=True))
    if run.combination is not None:
        found.append(Stamp(f"combined: {_passes(run)}", warn=True))
    if run.treatment.status == "unverified":
        found.append(Stamp("treatment unverified", warn=True))
    elif run.treatment.invalid:
        found.append(Stamp(failing(run), warn=True))
    else:
        found.append(Stamp("treatment verified"))
    if run.is_random_control:
        found.append(Stamp("control: backbone never trained", warn=True))
    protocol = run.data.get("protocol")
    if protocol:
        found.append(Stamp(f"protocol: {protocol}"))
    found.append(Stamp(f"seed {run.seed}" if run.combination is None else f"seeds {run.combination.seeds}"))
    if run.experiment.get("scale"):
        found.append(Stamp(f"scale {run.experiment['scale']}"))
    return found


def headline(run: RunFolder, *, total: Interval, chance: float) -> Markup:
    """`Val mAP is 41.20, above chance (15.20): the 95 % interval over videos is 31.8 to 50.7.`"""
    opening = "As a control, val" if run.is_random_control else "Val"
    if total.value is None:
        return Markup("{} mAP is <strong>undefined</strong>: {}.").format(opening, plain_reason(total.reason))
    if total.low is None:
        text = "{} mAP is <strong>{}</strong> (chance {}), without an interval: {}."
        return Markup(text).format(opening, points(total.value), points(chance), plain_reason(total.reason))
    words = _WORDS[standing(total, chance=chance)]
    text = "{} mAP is <strong>{}</strong>, {} ({}): the 95 % interval over videos is <strong>{}</strong>."
    return Markup(text).format(opening, points(total.value), words, points(chance), bounds(total))


def against(total: Interval, *, chance: float) -> str:
    """`above chance (15.20): 95 % interval over videos 31.8 to 50.7`."""
    words = f"{_WORDS[standing(total, chance=chance)]} ({points(chance)})"
    return words if total.low is None else f"{words}: 95 % interval over videos {bounds(total)}"


def difference_headline(result: Comparison) -> Markup:
    """A paired difference as the headline of a page; about these checkpoints unless there are five seeds per side."""
    said = Markup(_OUTCOMES[result.outcome]).format(a=result.a.name, b=result.b.name)
    if result.outcome in ("invalid", "undefined"):
        return said + Markup(": {}.").format(plain_reason(result.invalid or result.map.reason).rstrip("."))
    text = ": <strong>{}</strong> points of val mAP, 95 % interval {}, about {}."
    interval = interval_text(result.map.low, result.map.high, sign=True)
    return said + Markup(text).format(points(result.map.value, sign=True), interval, result.about)


def unfinished(run: RunFolder) -> Verdict:
    """What an unfinished run can say: how far it got, and how to continue."""
    if run.imported is not None:
        first = Reason("To score it.", "Name a data set.", code="calot evaluate RUN --split val --data ROOT")
        return Verdict(
            headline=Markup("<strong>Not scored yet</strong>: this run was imported and has no result."),
            reasons=[imported_from(run.imported), first],
        )
    epochs = run.metrics.height
    command = str(run.environment.get("command", ""))
    reasons = [
        Reason("How far it got.", f"{epochs} epoch{'' if epochs == 1 else 's'} in metrics.csv; no val predictions.")
    ]
    if command.startswith("calot train") and "--resume" not in command:
        command += " --resume"
    if command:
        reasons.append(Reason("To continue.", "Run this, then report again.", code=command))
    return Verdict(headline=Markup("<strong>Unfinished</strong>: this run has no result yet."), reasons=reasons)


def invalid(run: RunFolder) -> Verdict:
    """What a run can say whose receipt failed: which check, why, and no score."""
    assert run.receipt is not None
    checks = [Reason(f"{check.name.capitalize()}.", f"{check.why}.") for check in run.receipt.failed]
    withheld = (
        "Whatever this run scored, it is not what its experiment declares: its scores are withheld, here and where "
        "runs are compared. Use the learning curves to find the fault. Fix the experiment and train it again."
    )
    names = ", ".join(check.name for check in run.receipt.failed)
    plural = "s" if len(checks) > 1 else ""
    return Verdict(
        headline=Markup("<strong>Invalid</strong>: receipt check{} <strong>{}</strong> failed.").format(plural, names),
        reasons=[*checks, Reason("No result.", withheld), *_synthetic(run)],
    )


def failing(run: RunFolder) -> str:
    """`INVALID: receipt check dose failed`, short enough for a table; empty where none failed."""
    return receipt_verdict(run.receipt.checks) if run.receipt is not None and run.treatment.invalid else ""


def _synthetic(run: RunFolder) -> list[Reason]:
    text = f"{PHANTOM_BANNER}. They show only that the pipeline works from end to end."
    return [Reason("Synthetic.", text)] if run.synthetic else []


def caveats(run: RunFolder) -> list[Reason]:
    """What keeps the number from being a result: phantom data, an untrained backbone, no receipt."""
    found = _synthetic(run)
    if run.is_random_control:
        text = (
            "The weights are random and frozen: the backbone has never been trained, so this is a control, "
            "not a result. It shows what pooling and head make of untrained features."
        )
        found.append(Reason("Control.", text))
    if run.imported is not None:
        found.append(imported_from(run.imported))
    if run.combination is not None:
        found.append(combined_of(run.combination))
    if run.receipt is None and run.combination is None:
        text = "There is no receipt.json: nothing here proves that the declared difference took effect in training."
        found.append(Reason("Treatment unverified.", text))
    elif run.treatment.status == "unverified":
        text = f"Not everything that this run declares is proven: {run.treatment.why}."
        found.append(Reason("Treatment unverified.", text))
    return found


def _passes(run: RunFolder) -> str:
    count = 1 if run.combination is None else run.combination.passes
    return f"{count} forward pass{'' if count == 1 else 'es'} per clip"


def combined_of(combination: Combination) -> Reason:
    """What a combined run's predictions are the mean of, what they cost, and which treatment they rest on."""
    members = "; ".join(f"{m}: {m.unproven or 'verified'}" for m in combination.members)
    text = f"These predictions are a mean: {combination}. A run alone costs 1. Receipts of the members: {members}."
    return Reason("Combined.", text)


def imported_from(record: Mapping[str, Any]) -> Reason:
    """Where a run's weights come from, and what of them rests on the experiment named rather than on the file."""
    assumed = ", ".join(f"{k} {v}" for k, v in record.get("assumed", {}).items() if v is not None)
    left = len(record.get("not_mapped", ()))
    text = (
        f"The weights come from {record.get('file')} (sha256 {str(record.get('sha256'))[:12]}...), "
        f"{record.get('training')}. Taken for {record.get('experiment')} ({record.get('chosen')}); not in the file and "
        f"taken from that experiment: {assumed}. Columns: {record.get('columns', {}).get('note')}. "
        f"Tensors left out: {left}, listed in import.json."
    )
    return Reason("Imported.", text)


def mismatch(run: RunFolder, *, total: Interval) -> list[Reason]:
    """The best epoch's val mAP in metrics.csv must be that of the stored predictions: both come from one checkpoint."""
    if run.best_row is None or total.value is None:
        return []
    logged = float(run.metrics["val_map"][run.best_row])
    if abs(logged - total.value) <= _ROUNDING:
        return []
    text = (
        f"metrics.csv gives the best epoch a val mAP of {points(logged)}, the stored predictions score "
        f"{points(total.value)}: they do not come from the same checkpoint. Predict again from checkpoints/best."
    )
    return [Reason("Mismatch.", text)]


def against_chance(intervals: Mapping[str, Interval], *, prevalence: Mapping[str, float]) -> Reason:
    """Each criterion against its own prevalence, grouped by verdict."""
    groups: dict[str, list[str]] = {}
    for criterion, interval in intervals.items():
        kind = "undefined" if interval.value is None else _WORDS[standing(interval, chance=prevalence.get(criterion))]
        groups.setdefault(kind, []).append(label(criterion))
    parts = [f"{spoken_list(names)}: {kind}" for kind, names in groups.items()]
    return Reason("Each criterion.", "; ".join(parts) + ". Chance is the criterion's prevalence in this split.")


def tidy(text: str) -> str:
    """A true minus sign before a figure, and no line break between a figure and its per-cent sign."""
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", re.sub(r"(?<!\w)-(?=\d)", "\N{MINUS SIGN}", text))


def spoken_list(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
