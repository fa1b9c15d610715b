"""Everything a result must show, from one table of predictions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from calot.statistics.calibration import Calibration, Thresholds, calibration
from calot.statistics.intervals import Interval, Method, VideoIntervals, video_intervals
from calot.statistics.metrics import Brier, Decisions, brier, decisions, mean_ap, prevalence
from calot.statistics.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class CriterionSummary:
    """One criterion, averaged over seeds where the table holds several."""

    ap: Interval
    prevalence: float
    positives: int
    positive_videos: int
    brier: Brier
    brier_soft: Brier | None
    calibration: Calibration
    decisions: Decisions | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A result with its header; `per_seed` lists mAP and AP seed by seed, `seed_deviation` their spread, apart from the
    intervals.
    """

    predictions: Predictions
    intervals: VideoIntervals
    criteria: dict[str, CriterionSummary]
    over_defined: float | None
    defined: tuple[str, ...]
    per_seed: tuple[dict[str, Any], ...]
    seed_deviation: float | None
    thresholds: Thresholds | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; every null stands beside its reason."""
        table = self.intervals
        return {
            **header(self.predictions),
            "positives": {name: item.positives for name, item in self.criteria.items()},
            "positive_videos": {name: item.positive_videos for name, item in self.criteria.items()},
            "interval": _interval_facts(table),
            "map": {**_interval(table.map), "chance": float(np.mean([c.prevalence for c in self.criteria.values()]))},
            "map_over_defined": {"value": self.over_defined, "criteria": list(self.defined)},
            "ap": {name: {**_interval(c.ap), "prevalence": c.prevalence} for name, c in self.criteria.items()},
            "per_seed": list(self.per_seed),
            "seed_deviation": self.seed_deviation,
            "brier": {name: asdict(c.brier) for name, c in self.criteria.items()},
            "brier_soft": {name: _soft(c.brier_soft) for name, c in self.criteria.items()},
            "brier_skill_macro": _macro([c.brier.skill for c in self.criteria.values()]),
            "ece": {name: c.calibration.ece for name, c in self.criteria.items()},
            "calibration": {name: _calibration(c.calibration) for name, c in self.criteria.items()},
            "thresholds": asdict(self.thresholds) if self.thresholds else None,
            "decisions": {name: _decisions(c.decisions) for name, c in self.criteria.items()},
        }


def header(predictions: Predictions) -> dict[str, Any]:
    """What is known about a table before anything is scored, as plain JSON values."""
    p = predictions
    return {
        "protocol": p.protocol,
        "dataset": p.dataset,
        "split": p.split,
        "manifest_hash": p.manifest_hash,
        "fingerprint": p.fingerprint,
        "predictions_digest": p.digest,
        "videos": len(set(p.videos.tolist())),
        "frames": len(p.frames) // len(p.seeds),
        "frames_per_second": p.frames_per_second,
        "seeds": list(p.seeds),
        "label_rule": "majority of raters (mean >= 0.5)" if p.labelled else "no labels",
        "notes": list(p.notes),
    }


def summarise(
    predictions: Predictions,
    *,
    replicates: int = 2000,
    thresholds: Thresholds | None = None,
    method: Method | None = None,
) -> Summary:
    """Score one table; several seeds in it are scored one by one and averaged, never pooled.

    `thresholds` come from `choose_thresholds` on val; without them no decision is scored. `replicates` counts for
    bootstrap methods.
    """
    seeds = predictions.by_seed()
    table = video_intervals(predictions, method=method, replicates=replicates)
    labels, names = seeds[0].labels, predictions.criteria
    criteria = {
        name: _criterion(seeds, column=k, interval=table.ap[name], thresholds=thresholds)
        for k, name in enumerate(names)
    }
    defined = tuple(name for name, item in criteria.items() if item.ap.value is not None)
    values = [item.ap.value for item in criteria.values() if item.ap.value is not None]
    scores = [mean_ap(labels, part.logits) for part in seeds]
    maps = [score.value for score in scores if score.value is not None]
    rows = (
        {"seed": part.seeds[0], "map": score.value, "ap": score.ap} for part, score in zip(seeds, scores, strict=True)
    )
    return Summary(
        predictions=predictions,
        intervals=table,
        criteria=criteria,
        over_defined=float(np.mean(values)) if values else None,
        defined=defined,
        per_seed=tuple(rows),
        seed_deviation=float(np.std(maps, ddof=1)) if len(maps) > 1 else None,
        thresholds=thresholds,
    )


def _criterion(
    seeds: tuple[Predictions, ...], *, column: int, interval: Interval, thresholds: Thresholds | None
) -> CriterionSummary:
    """Brier, calibration and decisions use all seeds' frames together: they are means over frames, which pooling only
    averages.
    """
    name = seeds[0].criteria[column]
    labels = seeds[0].labels[:, column]
    every = np.concatenate([part.labels[:, column] for part in seeds])
    logits = np.concatenate([part.logits[:, column] for part in seeds])
    soft = None
    if seeds[0].soft is not None:
        soft = np.concatenate([part.soft[:, column] for part in seeds if part.soft is not None])
    threshold = thresholds.values[name] if thresholds is not None else None
    return CriterionSummary(
        ap=interval,
        prevalence=prevalence(labels),
        positives=int(labels.sum()),
        positive_videos=len(np.unique(seeds[0].videos[labels == 1])),
        brier=brier(every, logits=logits),
        brier_soft=brier(soft, logits=logits) if soft is not None else None,
        calibration=calibration(every, logits=logits),
        decisions=decisions(every, scores=logits, threshold=threshold) if threshold is not None else None,
    )


def _interval(interval: Interval) -> dict[str, Any]:
    fields: dict[str, Any] = {"value": interval.value, "low": interval.low, "high": interval.high}
    return fields if interval.reason is None else {**fields, "reason": interval.reason}


def _interval_facts(table: VideoIntervals) -> dict[str, Any]:
    coverage = {name: None if item is None else asdict(item) for name, item in table.coverage.items()}
    return {
        "level": 0.95,
        "unit": "video",
        "method": table.method,
        "replicates": table.replicates,
        "measured_coverage": coverage,
        "holds": "the sampling of videos, with these checkpoints held fixed",
    }


def _soft(item: Brier | None) -> dict[str, Any]:
    if item is None:
        return {"value": None, "reference": None, "skill": None, "reason": "the table holds no rater means"}
    return asdict(item)


def _calibration(item: Calibration) -> dict[str, Any]:
    fields = asdict(item)
    fields["reliability"] = [asdict(point) for point in item.reliability]
    return fields


def _decisions(item: Decisions | None) -> dict[str, Any]:
    if item is None:
        return {"threshold": None, "reason": "no threshold frozen on val was given for this criterion"}
    return asdict(item)


def _macro(values: list[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if len(found) == len(values) else None
