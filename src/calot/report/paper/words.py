"""Paragraphs and cards of a paper, filled from the runs' files; what is not known is left open by name."""

from __future__ import annotations

from calot.report.paper.facts import PaperFacts
from calot.report.study.published import why_not_comparable
from calot.report.tables import value_text
from calot.report.verdict import PHANTOM_BANNER
from calot.statistics.outcome import ENOUGH_SEEDS

_OPEN = "*To be written by the authors; the runs do not say.*"


def methods_text(facts: PaperFacts) -> str:
    """A methods section in Markdown, with `[@key]` where a reference belongs."""
    known, run, study = facts.evidence(), facts.run, facts.study

    def said(name: str) -> str:
        return known[name].text if name in known else f"[{name}: to be written by the authors]"

    seeds = sorted({one.seed for one in study.finished})
    enough = all(len(one.sound) >= ENOUGH_SEEDS for one in study.experiments.values() if one.sound)
    about = (
        "seeds and videos were both resampled"
        if enough
        else f"with fewer than {ENOUGH_SEEDS} seeds per side statements are about these checkpoints"
    )
    synthetic = f" {PHANTOM_BANNER}." if run.synthetic else ""
    data = (
        f"Data. {run.data.get('dataset')}{facts.cited('endoscapes', 'endoscapes_splits')}, protocol "
        f"{run.data.get('protocol')} (manifest {str(run.manifest_hash)[:12]}).{synthetic} {said('numbers')}. Labels: "
        f"{said('reference')}. Input: {said('preprocessing')}. Positive frames: {said('prevalence')}."
    )
    used = facts.cited("assran2025", "swinv2", "videomae", "dinov3")
    adapted = "".join(
        f" {words}{facts.cited(key)}."
        for key, words in (
            ("lora", "Low-rank adapters were used"),
            ("focal", "Focal loss was used"),
            ("mixup", "Clips were mixed with MixUp"),
            ("cutmix", "Clips were mixed with CutMix"),
        )
        if facts.cited(key)
    )
    model = (
        f"Models{used}. {said('model')}. Encoder weights: {said('initial')}.{adapted} Each experiment was trained with "
        f"the seeds {', '.join(map(str, seeds))}; the epoch kept is the {said('selection')}. "
        f"{said('openings')} Training: {said('training')}."
    )
    software = facts.cited("pytorch", "transformers", "sklearn")
    statistics = (
        "Statistics. Average precision per criterion and its mean over the three criteria, averaged over seeds, with "
        "95 % intervals over videos by a leave-one-video-out jackknife on the logit scale with Satterthwaite's degrees "
        f"of freedom{facts.cited('satterthwaite')}. Experiments were compared with their baselines on the same videos: "
        f"{about}{facts.cited('cameron')}; p values over criteria are Holm-corrected{facts.cited('holm')}. A "
        "difference is called where its interval excludes 0 and the permutation p, where its own false rate holds, is "
        "below 0.05; elsewhere there is no evidence of a difference. The minimum detectable difference is given. Runs "
        "whose treatment receipt failed are in no number."
    )
    code = f"Software. {said('software')}{software}; {said('code')}."
    return "\n\n".join(["# Methods", data, model, statistics, code]) + "\n"


def model_card(facts: PaperFacts) -> str:
    """A model card (Mitchell et al. 2019) of the experiments of a folder."""
    known, run = facts.evidence(), facts.run
    lines = [f"# Model card: {facts.study.path.resolve().name}", ""]
    lines += [f"> **{PHANTOM_BANNER}.**", ""] if run.synthetic else []
    chapters = {
        "Model": ("technology", "model", "initial"),
        "Training": ("training", "losses", "selection", "ensembles"),
        "Output": ("output",),
        "Data": ("source", "numbers", "prevalence"),
        "Metrics": ("metrics", "uncertainty", "power"),
        "Results": ("performance", "decisions"),
        "Subgroups": ("subgroups",),
        "Software": ("software", "code"),
        "Limits": ("limits",),
    }
    for title, names in chapters.items():
        held = [known[name] for name in names if name in known]
        lines += [f"## {title}", "", *(f"- {one.text} ({one.place})" for one in held), *([] if held else [_OPEN]), ""]
    for title in ("Intended use", "Uses that are out of scope", "Ethical considerations"):
        lines += [f"## {title}", "", _OPEN, ""]
    return "\n".join(lines)


def data_card(facts: PaperFacts) -> str:
    """A data card of what the runs were trained and scored on."""
    known, run = facts.evidence(), facts.run
    data = run.data
    lines = [f"# Data card: {data.get('dataset')}", ""]
    lines += [f"> **{PHANTOM_BANNER}.**", ""] if run.synthetic else []
    named = {
        "Protocol": f"{data.get('protocol')}, frame manifest sha256 {run.manifest_hash}",
        "Decoded pixels, sha256": value_text(data["pixels"]) if data.get("pixels") else "",
        "Masks": value_text((data.get("masks") or {}).get("splits") or ""),
    }
    for title, name in (
        ("Source", "source"),
        ("Splits", "partitions"),
        ("Positive frames", "prevalence"),
        ("Labels", "reference"),
        ("Agreement of raters", "raters"),
        ("Input", "preprocessing"),
        ("Missing data", "missing"),
    ):
        named[title] = known[name].text if name in known else ""
    for title, text in named.items():
        lines += [f"## {title}", "", text or _OPEN, ""]
    if str(data.get("dataset")) == "endoscapes":
        lines += ["## Licence", "", "Endoscapes2023: CC BY-NC-SA 4.0 (its own archive says so).", ""]
        lines += ["## Overlaps", "", "Operations 121 and 127 (val) are also in other public sets; test is clean.", ""]
    for title in ("Collection and centres", "Consent and ethics", "Known biases"):
        lines += [f"## {title}", "", _OPEN, ""]
    why = why_not_comparable(
        dataset=str(data.get("dataset")),
        synthetic=run.synthetic,
        protocol=str(data.get("protocol")),
        tested=any("test" in one.predictions for one in facts.study.finished),
    )
    lines += ["## Beside published numbers", "", f"Not comparable: {why}." if why else "Test split, same protocol.", ""]
    return "\n".join(lines)
