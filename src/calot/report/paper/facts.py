"""What the runs' files say, each fact with the file it stands in: all that a paper's text may be filled from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

from calot.criteria import CRITERIA, label
from calot.report.paper.phrases import grouped, setting_in_words, stages_in_words
from calot.report.paper.supplement import DECIDED, subgroup_names
from calot.report.results import candidates_text, openings_text
from calot.report.run_folder import RunFolder
from calot.report.scores import interval_facts
from calot.report.study.folder import StudyFolder
from calot.statistics.outcome import ENOUGH_SEEDS

_IF = re.compile(r"^%% if: (.*)$", re.M)


@dataclass(frozen=True, kw_only=True)
class PaperEvidence:
    """A fact, and the file of a run, or of the paper, where it stands."""

    text: str
    place: str


@dataclass(frozen=True, kw_only=True)
class BibEntry:
    """A BibTeX entry that the runs call for."""

    key: str
    entry: str


@dataclass(frozen=True, kw_only=True)
class PaperFacts:
    """Facts of all finished runs of a folder."""

    study: StudyFolder

    @property
    def run(self) -> RunFolder:
        """One to read from what all runs share."""
        return self.study.finished[0]

    @cached_property
    def references(self) -> list[BibEntry]:
        """The entries of `references.bib` that something in the runs calls for."""
        text = resources.files("calot.report.paper").joinpath("references.bib").read_text(encoding="utf-8")
        facts = list(self._words())
        found = []
        for wanted, entry in zip(_IF.findall(text), _IF.split(text)[2::2], strict=True):
            if any(re.search(wanted, fact) for fact in facts):
                key = re.search(r"@\w+\{(\w+),", entry)
                assert key is not None
                found.append(BibEntry(key=key[1], entry=entry.strip()))
        return found

    def cited(self, *keys: str) -> str:
        """` [@lora]` of those that the runs call for; empty where none is."""
        known = {reference.key for reference in self.references}
        held = [key for key in keys if key in known]
        return f" [{', '.join(f'@{key}' for key in held)}]" if held else ""

    def _words(self) -> Iterator[str]:
        yield f"dataset {self.run.data.get('dataset')}"
        yield "interval"
        if self.study.against_baselines:
            yield "compared"
        if any(len(one.sound) >= ENOUGH_SEEDS for one in self.study.experiments.values()):
            yield "seeds vary"
        for run in self.study.finished:
            yield str(run.model.get("backbone"))
            yield from _types(run.experiment.get("experiment"))
            yield from (f"package {name}" for name in run.environment.get("packages") or {})

    def evidence(self) -> dict[str, PaperEvidence]:
        """By name, every fact that a checklist may be filled with; what is not known is not among them."""
        found = {**self._of_data(), **self._of_model(), **self._of_statistics()}
        return {name: PaperEvidence(text=text, place=place) for name, (text, place) in found.items() if text}

    def _of_data(self) -> dict[str, tuple[str, str]]:
        data, splits = self.run.data, self.run.data.get("splits") or {}
        sizes = "; ".join(
            f"{name}: {part.get('videos')} videos, {part.get('scored')} scored frames" for name, part in splits.items()
        )
        positives = "; ".join(
            f"{name}: {', '.join(f'{label(c)} {100 * share:.1f} %' for c, share in _shares(part))}"
            for name, part in splits.items()
        )
        agreement = [
            f"{name}: {100 * value:.1f}"
            for name, part in splits.items()
            if (value := (part.get("rater_agreement") or {}).get("leave_one_rater_out_map")) is not None
        ]
        raters = "; ".join(agreement)
        experiment = self.run.experiment.get("experiment") or {}
        kind = "Synthetic (phantom) operations, drawn by calot: no patients." if self.run.synthetic else ""
        geometry = (
            f"; frames fitted by {setting_in_words(experiment['geometry'])}" if experiment.get("geometry") else ""
        )
        rule = experiment.get("frames") or {}
        return {
            "source": (f"{data.get('dataset')}. {kind}".strip(), "data.json: dataset, synthetic"),
            "subsets": (f"protocol {data.get('protocol')}: {sizes}", "data.json: protocol, splits"),
            "preprocessing": (f"{data.get('window')}{geometry}", "data.json: window; experiment.json: geometry"),
            "missing": (_missing(rule) if rule else "", "experiment.json: frames"),
            "excluded": (_excluded(data), "data.json: windows, dropped"),
            "reference": (str(data.get("label_rule") or ""), "data.json: label_rule"),
            "raters": (f"mAP of one rater by the others, {raters}" if raters else "", "data.json: rater_agreement"),
            "partitions": (f"by video, no video in two splits; {sizes}", "data.json: splits"),
            "numbers": ("; ".join(part for part in (sizes, _excluded(data)) if part), "data.json: splits, windows"),
            "prevalence": (positives, "data.json: splits.positives"),
        }

    def _of_model(self) -> dict[str, tuple[str, str]]:
        study, run = self.study, self.run
        backbones = sorted({str(r.model.get("backbone")) for r in study.finished if r.model.get("backbone")})
        weights = sorted({r.weights for r in study.finished if r.weights})
        held = {name: one.any_run for name, one in study.experiments.items() if one.any_run is not None}
        counts = {
            name: f"{run.model['parameters']['trainable']:,}"
            for name, run in held.items()
            if (run.model.get("parameters") or {}).get("trainable") is not None
        }
        packages = ", ".join(f"{name} {version}" for name, version in (run.environment.get("packages") or {}).items())
        code = f"calot {run.environment.get('calot')}, sources sha256 {str(run.environment.get('code'))[:16]}"
        resolved = {name: run.experiment.get("experiment") or {} for name, run in held.items()}
        stages = {name: said for name, what in resolved.items() if (said := stages_in_words(what))}
        losses = {
            name: setting_in_words(what["loss"]) for name, what in resolved.items() if what.get("loss") is not None
        }
        combined = [str(r.combination) for r in study.finished if r.combination is not None]
        return {
            "technology": ("deep learning on video" if backbones else "", "model.json: backbone"),
            "model": ("; ".join([*backbones, f"trained parameters: {grouped(counts)}"]), "model.json"),
            "initial": ("; ".join(weights), "model.json: weights, weights_are"),
            "training": (grouped(stages), "experiment.json: experiment.train, experiment.then"),
            "losses": (grouped(losses), "experiment.json: experiment.loss, sampler"),
            "selection": ("; ".join(sorted({one.chosen for one in study.finished})), "metrics.csv"),
            "ensembles": (
                "; ".join(combined) or "none: every prediction is of one run",
                "experiment.json: combination",
            ),
            "software": (f"Python {run.environment.get('python')}, {packages}" if packages else "", "environment.json"),
            "code": (code if run.environment.get("code") else "", "environment.json: calot, code"),
            "output": (
                "raw logits of three criteria per frame, as probabilities through a sigmoid",
                "predictions/val.parquet",
            ),
        }

    def _of_statistics(self) -> dict[str, tuple[str, str]]:
        study = self.study
        held = next((one.intervals for one in study.experiments.values() if one.intervals is not None), None)
        interval = "; ".join(fact.text for fact in interval_facts(held)[:2]) if held else ""
        seeds = "; ".join(f"{n}: {len(e.sound)}" for n, e in study.experiments.items() if e.sound)
        scores = "; ".join(
            f"{name} {100 * held.map.value:.1f}"
            for name, one in study.experiments.items()
            if (held := one.intervals) is not None and held.map.value is not None
        )
        smallest = [
            100 * found.comparison.map.minimum_detectable
            for found in study.against_baselines.values()
            if found.comparison is not None and found.comparison.map.minimum_detectable is not None
        ]
        power = (
            f"detectable with about 80 % power: {min(smallest):.1f} to {max(smallest):.1f} points" if smallest else ""
        )
        looked = [r for r in study.finished if any((r.path / "analysis").glob("attention_*/attention.json"))]
        explained = [r for r in study.finished if any((r.path / "analysis").glob("explain_*/*.json"))]
        tried = candidates_text(study.results, manifest_hash=self.run.manifest_hash)
        tested = any("test" in r.predictions for r in study.finished)
        parts = subgroup_names(study)
        return {
            "metrics": ("average precision per criterion and their mean (macro mAP), on val", "scores.csv"),
            "uncertainty": (f"{interval}; seeds {seeds}; paired over videos", "scores.csv, differences.csv"),
            "power": (power, "differences.csv: minimum_detectable"),
            "performance": (f"val mAP: {scores}" if scores else "", "scores.csv, differences.csv"),
            "internal": ("val split of the same data set, by video", "predictions/val.parquet"),
            "decisions": (f"{DECIDED}, of each run" if parts else "", "decisions.csv"),
            "subgroups": (f"AP in parts of val, with intervals: {'; '.join(parts)}" if parts else "", "subgroups.csv"),
            "tested": ("test split" if tested else "", "predictions/test.parquet"),
            "tuning": (tried if not tried.startswith("unknown") else "", "ledger.jsonl"),
            "openings": (openings_text(study.results, manifest_hash=self.run.manifest_hash), "ledger.jsonl"),
            "explained": (
                f"attention read in {len(looked)} runs, explanations in {len(explained)}"
                if looked or explained
                else "",
                "RUN/analysis/",
            ),
            "failures": (
                f"clips and criteria of {len(explained)} runs" if explained else "",
                "RUN/analysis/explain_val",
            ),
            "limits": (
                "the chapter Limits of the study's document" if (study.path / "study.md").is_file() else "",
                "study.md",
            ),
        }


def _types(value: Any) -> Iterator[str]:
    """Every component's class, and every field that holds a number above zero, by name."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if name == "_type":
                yield str(part)
            elif isinstance(part, int | float) and part:
                yield str(name)
            else:
                yield from _types(part)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _types(part)


def _shares(part: Mapping[str, Any]) -> list[tuple[str, float]]:
    held = part.get("positives") or {}
    return [(c, float(held[c])) for c in CRITERIA if held.get(c) is not None]


def _missing(rule: Mapping[str, Any]) -> str:
    said = [
        "unreadable images were dropped" if rule.get("drop_unreadable") else "an unreadable image stops a run",
        "black frames were dropped" if rule.get("drop_black") else "black frames stay",
    ]
    return "; ".join(said)


def _excluded(data: Mapping[str, Any]) -> str:
    """What was left out of the scored frames, as far as data.json counts it."""
    windows, dropped = data.get("windows") or {}, data.get("dropped") or {}
    by_rule = {name: part.get("left_out_by_the_label_rule") for name, part in windows.items()}
    counts = {f"{name}, clips left out by the label rule": count for name, count in by_rule.items()}
    counts["unreadable images"] = (dropped.get("unreadable") or {}).get("count")
    known = {what: count for what, count in counts.items() if count is not None}
    if known and not any(known.values()):
        return "no clip was left out by the label rule, and no image was unreadable"
    return "; ".join(f"{what}: {count}" for what, count in known.items())
