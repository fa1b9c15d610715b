"""What the page of one run shows, section by section."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from calot.criteria import CRITERIA, label
from calot.provenance.run_facts import CAUSAL, LAST_EPOCH
from calot.report import figures, scores, tables, timelines, verdict
from calot.report.attention_view import anatomy_table, entropy_view
from calot.report.baseline import Paired, against_baseline, partners_of
from calot.report.clips import clip_groups
from calot.report.receipt_view import receipt_view
from calot.report.results import candidates_text, find_results, openings_text
from calot.report.run_folder import RunFolder
from calot.report.split_view import split_view
from calot.report.tables import Fact
from calot.report.trivial_view import trivial_reason, trivial_views
from calot.report.verdict import Reason, Verdict
from calot.statistics.calibration import Thresholds
from calot.statistics.frozen import freeze
from calot.statistics.summary import Summary, summarise
from calot.statistics.sweep import setting_optimism

_KEPT = {LAST_EPOCH: "Val chose no epoch."}
_ENVIRONMENT = {
    "calot": "calot",
    "python": "Python",
    "platform": "Platform",
    "processor": "Processor",
    "cores": "Cores",
    "threads": "Threads",
    "gpu": "GPU",
    "precision": "Precision",
}


def run_context(run: RunFolder, *, results: Path | None = None) -> dict[str, Any]:
    """The values of `run.html`."""
    root = find_results(run.path) if results is None else results
    shown = run.predictions if run.has_result else {}
    frozen = freeze(shown["val"]) if shown else None
    thresholds = None if frozen is None else frozen.thresholds
    summaries = {split: summarise(table, thresholds=thresholds) for split, table in shown.items()}
    partners = partners_of(run, results=root) if shown else None
    paired = against_baseline(run, partners=partners)
    openings = openings_text(root, manifest_hash=run.manifest_hash)
    return {
        **_top(run, summaries=summaries, paired=paired, openings=openings),
        "protocol": _protocol(
            run,
            summaries=summaries,
            openings=openings,
            candidates=candidates_text(root, manifest_hash=run.manifest_hash),
        ),
        "header": run.experiment.get("header"),
        "imported": run.imported is not None or run.combination is not None,
        "combined": None if run.combination is None else str(run.combination),
        "splits": [split_view(run, summary=item, split=name, frozen=frozen) for name, item in summaries.items()],
        "trivial": trivial_views(run, summaries=summaries),
        "seeds": [scores.seeds_table(_seeds(s), split=split) for split, s in summaries.items() if len(s.per_seed) > 1],
        "interval_facts": scores.interval_facts(summaries["val"].intervals) if summaries else [],
        "threshold_rule": _threshold_rule(thresholds),
        **_curves(run),
        **_pictures(run, thresholds=thresholds),
        **_data(run),
        **_difference(run, paired=paired),
        "anatomy": anatomy_table(run) if run.has_result else None,
        "entropy": entropy_view(run, partners=partners),
        **_environment(run),
        "footer": f"Written by calot {run.environment.get('calot', '')} from {run.path.name}. One file, no network.",
    }


def _top(run: RunFolder, *, summaries: dict[str, Summary], paired: Paired | None, openings: str) -> dict[str, Any]:
    started = str(run.environment.get("started", ""))[:16].replace("T", " ")
    return {
        "title": f"{run.label}, seed {run.seed}: calot report",
        "kicker": " · ".join(part for part in ("calot report", run.path.name, started) if part),
        "heading": run.label,
        "banners": [verdict.PHANTOM_BANNER] if run.synthetic else [],
        "stamps": verdict.stamps(run),
        "verdict": _verdict(run, summaries=summaries, paired=paired, openings=openings),
        "contents": _contents(run),
    }


def _verdict(run: RunFolder, *, summaries: dict[str, Summary], paired: Paired | None, openings: str) -> Verdict:
    if run.treatment.invalid:
        return verdict.invalid(run)
    if not run.finished:
        return verdict.unfinished(run)
    val = summaries["val"]
    reasons = verdict.caveats(run) + verdict.mismatch(run, total=val.intervals.map)
    reasons.append(
        verdict.against_chance(
            {name: item.ap for name, item in val.criteria.items()},
            prevalence={name: item.prevalence for name, item in val.criteria.items()},
        )
    )
    reasons.append(trivial_reason(run))
    if paired is not None:
        reasons.append(paired.reason)
    if "test" in summaries:
        total = summaries["test"].intervals.map
        text = f"mAP {tables.in_sentence(tables.points(total.value, reason=total.reason))}"
        if total.low is not None:
            text += f" ({tables.bounds(total)}), chance {tables.points(scores.chance(summaries['test']))}"
        reasons.append(Reason("Test.", f"{text}. {openings}"))
        reasons.append(Reason(_KEPT.get(run.chosen, "Val is optimistic."), _selected(run)))
    else:
        reasons.append(Reason(_KEPT.get(run.chosen, "Val is optimistic."), f"{_selected(run)} {openings}"))
    return Verdict(headline=verdict.headline(run, total=val.intervals.map, chance=scores.chance(val)), reasons=reasons)


def _selected(run: RunFolder) -> str:
    if run.combination is not None:
        return "Each member's epoch was selected by its own val mAP, and members or views may have been chosen by it."
    if run.chosen == LAST_EPOCH:
        return "Val was scored after the last epoch alone; settings may still have been chosen by it."
    if run.imported is None:
        found = run.optimism
        by = "" if found.value is None else f", which flatters it by about {100 * found.value:.1f} points"
        return f"The epoch was selected by this same val mAP{by}."
    return "The epoch was selected elsewhere, and may have been by this same val mAP."


def _contents(run: RunFolder) -> list[tuple[str, str]]:
    scored = [
        ("scores", "Average precision"),
        ("trivial", "Trivial baselines"),
        ("curves", "Learning curves"),
        ("calibration", "Calibration"),
        ("thresholds", "Decisions"),
        ("subgroups", "Subgroups"),
        ("videos", "Videos"),
        ("clips", "Clips"),
    ]
    receipt = [("receipt", "Receipt")]
    found = [("verdict", "Verdict"), *(receipt if run.treatment.invalid else []), ("protocol", "Protocol")]
    found += scored if run.has_result else [("curves", "Learning curves")]
    found += [("data", "Data")] if run.data.get("splits") else []
    found = [link for link in found if (run.imported is None and run.combination is None) or link[0] != "curves"]
    found += [("difference", "Difference"), *([] if run.treatment.invalid else receipt)]
    return [*found, ("environment", "Environment"), ("repeat", "Repeat it")]


def _protocol(run: RunFolder, *, summaries: dict[str, Summary], openings: str, candidates: str) -> list[Fact]:
    data = run.data
    facts = [
        Fact(name="Protocol", text=str(data.get("protocol", "not written yet"))),
        Fact(name="Causal", text="not written yet" if data.get("causal") is None else CAUSAL[data["causal"]]),
        Fact(name="Window", text=str(data.get("window", "not written yet"))),
        Fact(name="Label rule", text=_label_rule(run, summaries=summaries)),
    ]
    for split, summary in summaries.items():
        positives = ", ".join(f"{label(name).split()[0]} {item.positives:,}" for name, item in summary.criteria.items())
        frames = len(summary.predictions.labels) // len(summary.predictions.seeds)
        text = f"{summary.intervals.videos} videos, {frames:,} frames, positives {positives}"
        facts.append(Fact(name=f"Scored, {split}", text=text))
    seeds = ", ".join(str(seed) for seed in summaries["val"].predictions.seeds) if summaries else str(run.seed)
    if run.combination is not None:
        seeds = run.combination.seeds
        facts.append(Fact(name="Combined", text=f"{run.combination}.", wide=True))
    facts += [
        Fact(name="Seeds", text=f"{seeds} ({'this run' if run.combination is None else 'of the members'})"),
        Fact(name="Selection", text=run.chosen),
        Fact(name="Candidates", text=candidates),
        *([Fact(name="Optimism", text=_optimism(run), wide=True)] if run.has_result else []),
        Fact(name="Test openings", text=openings),
        Fact(name="Data", text=f"{data.get('dataset', 'not written yet')}{', synthetic' if run.synthetic else ''}"),
        Fact(name="Frame manifest, sha256", text=str(run.manifest_hash or "not written yet"), wide=True, code=True),
    ]
    return facts


def _optimism(run: RunFolder) -> str:
    said = (str(run.optimism), str(setting_optimism(run.path)))
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in said)


def _label_rule(run: RunFolder, *, summaries: dict[str, Summary]) -> str:
    trained = str(run.data.get("label_rule", "not written yet"))
    scored = [str(summary.to_dict()["label_rule"]) for summary in summaries.values()][:1]
    return "; ".join([f"trained on {trained}", *(f"scored by {rule}" for rule in scored)])


def _seeds(summary: Summary) -> dict[str, Summary]:
    return {f"seed {part.seeds[0]}": summarise(part) for part in summary.predictions.by_seed()}


def _threshold_rule(thresholds: Thresholds | None) -> str:
    return "" if thresholds is None else f"Each threshold {thresholds.rule}. Split named: {thresholds.split}."


def _curves(run: RunFolder) -> dict[str, Any]:
    if run.metrics.is_empty():
        return {"curves": [], "curves_caption": ""}
    best = None if run.treatment.invalid else run.best_row
    parts = ["“Clean” scores training clips in evaluation mode, so the shaded gap compares like with like."]
    if run.treatment.invalid:
        parts.append("Logged while it trained; none of it is a result, and no epoch is marked.")
    elif best is None:
        parts.append("No epoch is marked: val macro mAP is undefined in every one.")
    else:
        last, at_best = run.metrics.row(-1, named=True), run.metrics.row(best, named=True)
        gap = tables.signed(at_best["train_clean_map"] - at_best["val_map"])
        so_far = "" if run.finished else " so far"
        parts.append(f"Dashed: the best epoch{so_far}, {best + 1} of {run.metrics.height}; there the gap is {gap}.")
        if best + 1 == run.metrics.height:
            parts.append("It is the last one: val mAP had not peaked.")
        else:
            parts.append(f"By the last epoch val mAP has moved {tables.signed(last['val_map'] - at_best['val_map'])}.")
    parts += _terms_in_words(run.metrics)
    return {"curves": figures.learning_curves(run.metrics, best_row=best), "curves_caption": " ".join(parts)}


def _terms_in_words(metrics: pl.DataFrame) -> list[str]:
    """How often each term of the loss had anything to act on, and what IoU says."""
    said = []
    for name in figures.loss_terms(metrics):
        shares = metrics[f"share_{name}"].drop_nans().to_list()
        if name != "criteria" and shares:
            low, high = f"{100 * min(shares):.0f} %", f"{100 * max(shares):.0f} %"
            said.append(f"{name} in {low if low == high else f'{low} to {high}'} of an epoch's batches")
    parts = [f"Terms that need a mask acted where a batch had one: {'; '.join(said)}."] if said else []
    if "val_miou" in metrics.columns:
        parts.append("IoU: over the val clips that have a true mask, its mean over the classes that occur.")
    return parts


def _pictures(run: RunFolder, *, thresholds: Thresholds | None) -> dict[str, Any]:
    if not run.has_result:
        return {"timelines": [], "timelines_caption": "", "clips": [], "clips_note": ""}
    val = run.predictions["val"].by_seed()[0]
    caption = (
        "Band: share of raters who call the criterion achieved. Line: predicted probability, one dot per scored frame. "
        "Dashed: the threshold frozen on val, above which a frame is called positive. "
        "Shown are the videos with most positive frames, then the longest one without any. A good model "
        "rises where the band does, and stays low where there is none."
    )
    return {
        "timelines": [
            timelines.timeline(val, video=video, thresholds=thresholds) for video in timelines.choose_videos(val)
        ],
        "timelines_caption": caption,
        "clips": clip_groups(val, pictures=run.pictures["val"]),
        "clips_note": "No pictures of clips in figures/clips/val: the run has not written them.",
    }


def _data(run: RunFolder) -> dict[str, Any]:
    splits, masks = run.data.get("splits") or {}, run.data.get("masks") or {}
    val = run.predictions.get("val")
    soft = None if val is None else val.by_seed()[0].soft
    columns = [] if soft is None else [(name, soft[:, place]) for place, name in enumerate(CRITERIA)]
    caption = (
        "Scored val frames by rater mean. At 0 and 1 the raters agree; in between they do not, and no model can match "
        "all of them."
    )
    return {
        "split_sizes": tables.split_table(splits) if splits else None,
        "classes": tables.class_table(splits) if splits else None,
        "masks": tables.masks_table(masks["splits"]) if masks.get("splits") else None,
        "raters": [figures.rater_agreement(name, soft=values, split="val") for name, values in columns],
        "raters_caption": caption,
    }


def _difference(run: RunFolder, *, paired: Paired | None) -> dict[str, Any]:
    baseline = run.experiment.get("baseline")
    difference = run.experiment.get("difference") or []
    note = (
        f"No field differs from {baseline}."
        if baseline
        else "This experiment names no baseline: it is where others start from."
    )
    if run.combination is not None:
        note = "A mean of other runs' predictions declares no difference: `calot compare` holds it to its members."
    return {
        "difference": tables.difference_table(difference, baseline=str(baseline)) if baseline and difference else None,
        "difference_note": note,
        "receipt": receipt_view(run.receipt, treatment=run.treatment) if run.receipt else None,
        "paired": paired if paired is not None and paired.forest is not None else None,
    }


def _environment(run: RunFolder) -> dict[str, Any]:
    environment, model = run.environment, run.model
    facts = [
        Fact(name=name, text="none" if environment[key] is None else str(environment[key]))
        for key, name in _ENVIRONMENT.items()
        if key in environment
    ]
    if model:
        parameters = model.get("parameters", {})
        facts.append(Fact(name="Backbone", text=str(model.get("backbone", "")), wide=False))
        facts.append(Fact(name="Weights", text=run.weights))
        trained = f"{parameters.get('trainable', 0):,} trainable of {parameters.get('total', 0):,}"
        facts.append(Fact(name="Parameters", text=trained))
    for key, name in (("fingerprint", "Experiment, sha256"), ("code", "Code, sha256")):
        value = run.experiment.get(key) or environment.get(key)
        if value:
            facts.append(Fact(name=name, text=str(value), wide=True, code=True))
    packages = environment.get("packages") or {}
    resolved = run.experiment.get("experiment")
    return {
        "environment": facts,
        "packages": "\n".join(f"{name}=={version}" for name, version in sorted(packages.items())),
        "resolved": json.dumps(resolved, indent=2, ensure_ascii=False) if resolved else "",
        "command": environment.get("command"),
    }
