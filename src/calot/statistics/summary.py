"""Everything a result must show, from one table of predictions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.provenance.combination import Combination
from calot.statistics.calibration import Calibration, Thresholds, calibration
from calot.statistics.calibration_error import CalibrationError, calibration_error, slope_intervals
from calot.statistics.ceiling import RaterCeiling, rater_ceiling
from calot.statistics.frame_sums import (
    BrierIntervals,
    DecisionPoint,
    VideoUnits,
    brier_intervals,
    decision_intervals,
    decision_points,
)
from calot.statistics.intervals import Interval, Method, VideoIntervals, video_intervals
from calot.statistics.jackknife import NOT_SIMULATED, interval_fields, plain_interval
from calot.statistics.metrics import Brier, Decisions, brier, decisions, mean_ap, prevalence
from calot.statistics.predictions import Predictions
from calot.statistics.reliability import reliability_intervals


@dataclass(frozen=True, kw_only=True)
class CriterionIntervals:
    """The intervals over videos of one criterion's figures; `reliability` has one for each point of the curve, and
    `rates` are empty without a threshold."""

    brier: BrierIntervals
    brier_soft: BrierIntervals | None
    ece: CalibrationError
    slope: Interval
    intercept: Interval
    in_the_large: Interval
    reliability: tuple[Interval, ...]
    rates: dict[str, Interval]


@dataclass(frozen=True, kw_only=True)
class CriterionFrames:
    """What the figures of one criterion are functions of: every seed's frames, one below the other."""

    labels: NDArray[np.int8]
    logits: NDArray[np.float32]
    soft: NDArray[np.float32] | None
    units: VideoUnits


@dataclass(frozen=True, kw_only=True)
class CriterionSummary:
    """One criterion; AP is averaged over seeds where the table holds several, the rest is of all their frames.

    Intervals of what is not AP are computed when they are first asked for.
    """

    ap: Interval
    prevalence: float
    positives: int
    positive_videos: int
    brier: Brier
    brier_soft: Brier | None
    calibration: Calibration
    decisions: Decisions | None
    frames: CriterionFrames

    @cached_property
    def decision_curve(self) -> tuple[DecisionPoint, ...]:
        """Net benefit at the printed threshold probabilities."""
        return decision_points(self.frames.labels, logits=self.frames.logits, units=self.frames.units)

    @cached_property
    def intervals(self) -> CriterionIntervals:
        """Brier score, calibration and decisions with their intervals."""
        labels, logits, units, soft = self.frames.labels, self.frames.logits, self.frames.units, self.frames.soft
        rates = {}
        if self.decisions is not None:
            rates = decision_intervals(labels, scores=logits, threshold=self.decisions.threshold, units=units)
        return CriterionIntervals(
            brier=brier_intervals(labels, logits=logits, units=units),
            brier_soft=None if soft is None else brier_intervals(soft, logits=logits, units=units),
            ece=calibration_error(labels, logits=logits, units=units),
            reliability=reliability_intervals(labels, logits=logits, units=units),
            rates=rates,
            **slope_intervals(labels, logits=logits, units=units, fit=self.calibration),
        )


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

    @cached_property
    def ceiling(self) -> RaterCeiling:
        """The raters and the model on single raters' votes."""
        return rater_ceiling(self.predictions)

    @cached_property
    def mean_skill(self) -> Interval:
        """Mean Brier skill over the criteria; undefined where one is."""
        items = list(self.criteria.values())
        known = [item.brier.skill for item in items if item.brier.skill is not None]
        left_out = np.mean([item.intervals.brier.skill_left_out for item in items], axis=0)
        value = float(np.mean(known)) if len(known) == len(items) else None
        return plain_interval(value, left_out=left_out, reason="the skill of a criterion is undefined")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; every null stands beside its reason."""
        table = self.intervals
        return {
            **header(self.predictions),
            "positives": {name: item.positives for name, item in self.criteria.items()},
            "positive_videos": {name: item.positive_videos for name, item in self.criteria.items()},
            "interval": _interval_facts(table),
            "map": {
                **interval_fields(table.map),
                "chance": float(np.mean([c.prevalence for c in self.criteria.values()])),
            },
            "map_over_defined": {"value": self.over_defined, "criteria": list(self.defined)},
            "ap": {name: {**interval_fields(c.ap), "prevalence": c.prevalence} for name, c in self.criteria.items()},
            "per_seed": list(self.per_seed),
            "seed_deviation": self.seed_deviation,
            "brier": {name: _brier(c.brier, c.intervals.brier) for name, c in self.criteria.items()},
            "brier_soft": {name: _brier(c.brier_soft, c.intervals.brier_soft) for name, c in self.criteria.items()},
            "brier_skill_macro": self.mean_skill.value,
            "brier_skill_macro_interval": interval_fields(self.mean_skill),
            "ece": {name: c.calibration.ece for name, c in self.criteria.items()},
            "calibration": {name: _calibration(c) for name, c in self.criteria.items()},
            "thresholds": asdict(self.thresholds) if self.thresholds else None,
            "decisions": {name: _decisions(c) for name, c in self.criteria.items()},
            "decision_curve": {name: _curve(c.decision_curve) for name, c in self.criteria.items()},
            "rater_ceiling": self.ceiling.to_dict(),
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
        "combination": None if p.combination is None else combination_facts(p.combination),
        "passes": p.passes,
        "notes": list(p.notes),
    }


def combination_facts(combination: Combination) -> dict[str, Any]:
    """What predictions are the mean of, as plain JSON values; `said` is the sentence that pages and tables show."""
    members = [asdict(member) for member in combination.members]
    return {"said": str(combination), "passes": combination.passes, "mean": combination.mean, "members": members}


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
    units = VideoUnits.of(np.concatenate([part.videos for part in seeds]))
    return CriterionSummary(
        ap=interval,
        prevalence=prevalence(labels),
        positives=int(labels.sum()),
        positive_videos=len(np.unique(seeds[0].videos[labels == 1])),
        brier=brier(every, logits=logits),
        brier_soft=brier(soft, logits=logits) if soft is not None else None,
        calibration=calibration(every, logits=logits),
        decisions=decisions(every, scores=logits, threshold=threshold) if threshold is not None else None,
        frames=CriterionFrames(labels=every, logits=logits, soft=soft, units=units),
    )


def _interval_facts(table: VideoIntervals) -> dict[str, Any]:
    coverage = {name: None if item is None else asdict(item) for name, item in table.coverage.items()}
    return {
        "level": 0.95,
        "unit": "video",
        "method": table.method,
        "replicates": table.replicates,
        "measured_coverage": coverage,
        "of_other_figures": f"jackknife over videos, exact for shares of videos: {NOT_SIMULATED}",
        "holds": "the sampling of videos, with these checkpoints held fixed",
    }


def _brier(item: Brier | None, intervals: BrierIntervals | None) -> dict[str, Any]:
    if item is None or intervals is None:
        return {"value": None, "reference": None, "skill": None, "reason": "the table holds no rater means"}
    shown = {"value": interval_fields(intervals.value), "skill": interval_fields(intervals.skill)}
    return {**asdict(item), "intervals": shown}


def _calibration(item: CriterionSummary) -> dict[str, Any]:
    held = item.intervals
    return {
        **asdict(item.calibration),
        "reliability": [
            asdict(point) | {name: value for name, value in interval_fields(bounds).items() if name != "value"}
            for point, bounds in zip(item.calibration.reliability, held.reliability, strict=True)
        ],
        "ece_perfect": held.ece.perfect,
        "ece_debiased": interval_fields(held.ece.debiased),
        "intervals": {n: interval_fields(getattr(held, n)) for n in ("slope", "intercept", "in_the_large")},
    }


def _decisions(item: CriterionSummary) -> dict[str, Any]:
    if item.decisions is None:
        return {"threshold": None, "reason": "no threshold frozen on val was given for this criterion"}
    shown = {name: interval_fields(rate) for name, rate in item.intervals.rates.items()}
    return {**asdict(item.decisions), "intervals": shown}


def _curve(points: tuple[DecisionPoint, ...]) -> list[dict[str, Any]]:
    return [
        {
            "probability": point.probability,
            **{name: interval_fields(getattr(point, name)) for name in ("model", "treat_all", "gain")},
        }
        for point in points
    ]
