"""What the page of several runs shows: each run, each experiment over its seeds, each declared difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from calot.report import figures, scores, tables, verdict
from calot.report.baseline import Paired, baseline_runs, comparable, failed_receipts, no_partner, pair
from calot.report.forest import Estimate, Forest, forest
from calot.report.results import find_results, openings_text
from calot.report.run_folder import RunFolder
from calot.report.runs_tables import Scored, experiments_table, runs_table, seed_intervals, shown_runs, without_interval
from calot.report.tables import Fact, Table
from calot.report.trivial_view import trivial_tables, trivial_told
from calot.report.verdict import Reason, Stamp, Verdict
from calot.statistics.rounding import how_many
from calot.statistics.summary import summarise

_FEW = 4
_ENDED = {
    "undecided": "no difference shown and none excluded",
    "equivalent": "equivalent",
    "disagree": "interval and permutation test disagree",
    "undefined": "undefined",
    "invalid": "invalid",
    "none": "not compared",
}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Finished runs scored on the same frames; only these may be compared. `experiments`: seeds by (name, scale)."""

    manifest: str
    protocol: str
    runs: Sequence[Scored]
    experiments: Mapping[tuple[str, str], Sequence[Scored]]


@dataclass(frozen=True, kw_only=True)
class GroupView:
    """The runs of one experiment, seed by seed."""

    title: str
    facts: Sequence[Fact]
    forest: Forest | None
    experiments: Table
    runs: Table
    note: str
    trivial: Sequence[Table]
    interval_facts: Sequence[Fact]


def runs_context(runs: Sequence[RunFolder], *, folder: Path, results: Path | None = None) -> dict[str, Any]:
    """The values of `runs.html`."""
    root = results or _root(runs, folder=folder)
    groups = _groups(runs)
    pairs = [paired for group in groups for paired in _pairs(group, given=runs, results=root)]
    banners = [verdict.PHANTOM_BANNER] if any(run.synthetic for run in runs) else []
    several = len(groups) > 1
    names = {run.label for run in runs}
    contents = [("verdict", "Verdict")]
    contents += [
        (f"frames-{n}", f"Scores, {g.manifest[:6]}, {g.protocol}" if several else "Scores")
        for n, g in enumerate(groups, 1)
    ]
    contents += [("differences", "Differences"), ("curves", "Learning curves"), ("fields", "Declared fields")]
    return {
        "title": f"{folder.name}: {len(runs)} runs, calot report",
        "kicker": f"calot report · {how_many(len(runs), 'run')} of {how_many(len(names), 'experiment')}",
        "heading": folder.resolve().name,
        "banners": banners,
        "stamps": _stamps(runs),
        "verdict": Verdict(headline=_headline(groups, pairs=pairs), reasons=_reasons(runs, groups=groups, pairs=pairs)),
        "contents": [*contents, ("repeat", "Repeat them")],
        "groups": [_view(group, folder=folder, results=root) for group in groups],
        "pairs": pairs,
        "curves": [
            figures.map_panel(run.metrics, best_row=run.best_row, title=_short(run), name=f"curve-map-{place}")
            for place, run in enumerate(runs)
            if run.metrics.height and not run.treatment.invalid
        ],
        "fields": _fields(runs),
        "unfinished": [f"{run.label}, seed {run.seed} ({run.path.name})" for run in runs if not run.finished],
        "commands": [(f"{run.label}, seed {run.seed}", run.environment.get("command", "")) for run in runs],
        "footer": f"Written by calot from {folder.resolve().name}. One file, no network.",
    }


def _root(runs: Sequence[RunFolder], *, folder: Path) -> Path:
    found = find_results(runs[0].path)
    return found if found.is_relative_to(folder.resolve()) or folder.resolve().is_relative_to(found) else folder


def _groups(runs: Sequence[RunFolder]) -> list[Group]:
    """Finished runs by the frames they were scored on, in the order in which they stand."""
    by_frames: dict[tuple[str | None, str | None], list[Scored]] = {}
    for run in runs:
        if run.finished:
            scored = Scored(run=run, summary=summarise(run.predictions["val"]))
            by_frames.setdefault(run.scored_frames, []).append(scored)
    groups = []
    for (manifest, protocol), members in by_frames.items():
        experiments: dict[tuple[str, str], list[Scored]] = {}
        for scored in members:
            key = (scored.run.label, str(scored.run.experiment.get("scale")))
            experiments.setdefault(key, []).append(scored)
        groups.append(Group(manifest=str(manifest), protocol=str(protocol), runs=members, experiments=experiments))
    return groups


def _pairs(group: Group, *, given: Sequence[RunFolder], results: Path) -> list[Paired]:
    """Each experiment of the group against its declared baseline: all seeds of both, or the reason why not."""
    found = []
    for members in group.experiments.values():
        first = members[0].run
        if not first.experiment.get("baseline"):
            continue
        seen = {run.path.resolve(): run for run in [*baseline_runs(first, results=results), *_among(first, given)]}
        others = list(seen.values())
        problem = no_partner(first, others)
        if problem is not None:
            found.append(Paired(reason=Reason(f"{first.label}.", problem)))
            continue
        paired = pair([scored.run for scored in members], comparable(first, others))
        found.append(replace(paired, reason=Reason(f"{first.label}.", paired.reason.text)))
    return found


def _among(run: RunFolder, given: Sequence[RunFolder]) -> list[RunFolder]:
    key = (run.experiment.get("baseline"), run.experiment.get("scale"))
    return [other for other in given if (other.name, other.experiment.get("scale")) == key]


def _headline(groups: Sequence[Group], *, pairs: Sequence[Paired]) -> Markup:
    if not groups:
        return Markup("<strong>Unfinished</strong>: no run here has a result yet.")
    if len(groups) > 1:
        text = "These runs were scored on <strong>{} different sets of frames</strong>: they cannot be ranked together."
        return Markup(text).format(len(groups))
    made = [paired.comparison for paired in pairs if paired.comparison is not None]
    if len(made) == 1:
        return verdict.difference_headline(made[0])
    if made:
        apart = sum(item.outcome in ("higher", "lower") for item in made)
        return Markup("Of {} experiments compared with their baselines, <strong>{}</strong> distinguishable.").format(
            len(made), f"{apart} {'is' if apart == 1 else 'are'}"
        )
    if len(groups[0].experiments) == 1:
        return _one_experiment(groups[0])
    if any(paired.invalid for paired in pairs):
        return Markup("<strong>Invalid</strong>: receipts failed, and <strong>nothing is compared</strong>.")
    text = "{} experiments, none of them next to its baseline: <strong>nothing is compared</strong>."
    return Markup(text).format(len(groups[0].experiments))


def _one_experiment(group: Group) -> Markup:
    ((name, _), members), *_ = group.experiments.items()
    members = shown_runs(members)
    if not members:
        return Markup("<strong>Invalid</strong>: every run of {} failed its receipt.").format(name)
    table = seed_intervals(members)
    words = verdict.against(table.map, chance=scores.chance(members[0].summary))
    text = "{}: val mAP over {} is <strong>{}</strong>, {}."
    return Markup(text).format(
        name,
        how_many(len(members), "run"),
        tables.in_sentence(tables.points(table.map.value, reason=table.map.reason)),
        words,
    )


def _reasons(runs: Sequence[RunFolder], *, groups: Sequence[Group], pairs: Sequence[Paired]) -> list[Reason]:
    found = []
    wrong = failed_receipts(runs)
    if wrong:
        text = "Their scores are not shown, and no mean or difference includes them."
        found.append(Reason("Invalid.", f"{'; '.join(wrong)}. {text}"))
    if any(run.synthetic for run in runs):
        found.append(Reason("Synthetic.", f"{verdict.PHANTOM_BANNER}."))
    if len(groups) > 1:
        manifests = ", ".join(f"{group.manifest[:12]} ({group.protocol})" for group in groups)
        text = f"Scores of different frames differ for reasons that no experiment declared. Manifests: {manifests}."
        found.append(Reason("No ranking.", text))
    controls = sorted({run.label for run in runs if run.is_random_control})
    if controls:
        text = (
            f"{verdict.spoken_list(controls)}: the backbone has never been trained, so this is a control, not a result."
        )
        found.append(Reason("Control.", text))
    taken = [f"{run.label} seed {run.seed}" for run in runs if run.imported is not None]
    if taken:
        text = f"Weights trained elsewhere, their training not verified: {verdict.spoken_list(taken)}."
        found.append(Reason("Imported.", text))
    means = [f"{run.label} seed {run.seed}: {run.combination}" for run in runs if run.combination is not None]
    if means:
        text = f"Means of several predictions per clip, where every other run here is one: {'; '.join(means)}."
        found.append(Reason("Combined.", text))
    bare: dict[str, list[str]] = {}
    for run in runs:
        if run.treatment.status == "unverified":
            bare.setdefault(run.treatment.why, []).append(f"{run.label} seed {run.seed}")
    if bare:
        text = "; ".join(f"{verdict.spoken_list(names)}: {why}" for why, names in bare.items())
        found.append(Reason("Treatment unverified.", f"{text}."))
    waiting = [f"{run.label} seed {run.seed}" for run in runs if not run.finished]
    if waiting:
        found.append(Reason("Unfinished.", f"No val predictions yet: {verdict.spoken_list(waiting)}."))
    return [*found, *_weights_told(runs), *trivial_told(runs), *_differences_told(pairs)]


def _weights_told(runs: Sequence[RunFolder]) -> list[Reason]:
    """Where the backbones' weights came from."""
    by_weights: dict[str, list[str]] = {}
    for run in runs:
        if run.weights:
            by_weights.setdefault(run.weights, []).append(run.label)
    told = [f"{verdict.spoken_list(sorted(set(names)))}: {weights}" for weights, names in by_weights.items()]
    return [Reason("Backbone weights.", f"{'; '.join(told)}.")] if told else []


def _differences_told(pairs: Sequence[Paired]) -> list[Reason]:
    """Each comparison if they are few; if many, those that show a difference, and the others grouped by outcome."""
    if len(pairs) <= _FEW:
        return [paired.reason for paired in pairs]
    told: list[Reason] = []
    others: dict[str, list[str]] = {}
    for paired in pairs:
        outcome = "invalid" if paired.invalid else paired.comparison.outcome if paired.comparison else "none"
        if outcome in ("higher", "lower"):
            told.append(paired.reason)
        else:
            others.setdefault(_ENDED[outcome], []).append(paired.reason.lead.rstrip("."))
    ended = [f"{words}: {verdict.spoken_list(names)}" for words, names in others.items()]
    return [*told, Reason("Comparisons.", f"{'; '.join(ended)}. Each stands under Differences.")] if ended else told


def _stamps(runs: Sequence[RunFolder]) -> list[Stamp]:
    unverified, invalid = (sum(run.treatment.status == s for run in runs) for s in ("unverified", "invalid"))
    waiting = sum(not run.finished for run in runs)
    found = [Stamp(f"INVALID: {invalid} of {len(runs)}", warn=True)] if invalid else []
    found += [Stamp(f"{waiting} unfinished", warn=True)] if waiting else []
    found += [Stamp(f"treatment unverified: {unverified} of {len(runs)}", warn=True)] if unverified else []
    protocols = sorted({str(run.data["protocol"]) for run in runs if run.data.get("protocol")})
    return found + [Stamp(f"protocol: {name}") for name in protocols]


def _view(group: Group, *, folder: Path, results: Path) -> GroupView:
    first = group.runs[0]
    reference = scores.chance(first.summary)
    shown = shown_runs(group.runs)
    rows = [Estimate(name=s.name, interval=s.summary.intervals.map, chance=reference) for s in shown]
    frames = len(first.summary.predictions.labels) // len(first.summary.predictions.seeds)
    facts = [
        Fact(name="Protocol", text=str(first.run.data.get("protocol"))),
        Fact(name="Scored, val", text=f"{first.summary.intervals.videos} videos, {frames:,} frames"),
        Fact(name="Selection", text="; ".join(sorted({one.run.chosen for one in group.runs}))),
        Fact(name="Test openings", text=openings_text(results, manifest_hash=group.manifest)),
        Fact(name="Frame manifest, sha256", text=group.manifest, wide=True, code=True),
    ]
    return GroupView(
        title=f"Scores on manifest {group.manifest[:12]}, {group.protocol}",
        facts=facts,
        forest=forest(rows, title="val macro mAP") if rows else None,
        experiments=experiments_table(group.experiments),
        runs=runs_table(group.runs, folder=folder),
        note=without_interval(shown),
        trivial=trivial_tables(group.runs),
        interval_facts=scores.interval_facts(first.summary.intervals),
    )


def _fields(runs: Sequence[RunFolder]) -> list[Table]:
    seen = {run.label: run for run in runs if run.experiment.get("baseline") and run.experiment.get("difference")}
    return [
        tables.difference_table(run.experiment["difference"], baseline=str(run.experiment["baseline"]), name=name)
        for name, run in seen.items()
    ]


def _short(run: RunFolder) -> str:
    text = f"{run.label}, seed {run.seed}"
    return text if len(text) <= 38 else f"{text[:24]}…{text[-12:]}"
