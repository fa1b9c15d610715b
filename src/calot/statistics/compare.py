"""Is A better than B? Paired over videos; refused across manifests; a verdict that says what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.provenance.treatment import NO_RECEIPT, Treatment
from calot.statistics.coverage import MeasuredCoverage, Quantity, measured_coverage, permutation_holds
from calot.statistics.detectable import detectable_differences
from calot.statistics.outcome import ENOUGH_SEEDS, PairedDifference, outcome_of, verdict_of
from calot.statistics.paired_error import PairedError, ScoredSide, paired_error
from calot.statistics.permutation import holm, swap_seeds, swap_videos
from calot.statistics.predictions import NO_LABELS, Predictions, require_same_facts, same_rows
from calot.statistics.resampling import Resampler
from calot.statistics.schema import UNKNOWN

Array = NDArray[np.float64]
MIN_VIDEOS = 3
MIN_POSITIVE_VIDEOS = 2


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side's seeds, one by one: mAP and AP of each, their mean and standard deviation (None with one seed).

    `treatment` says what the runs' receipts prove; where it is invalid there are no numbers. `notes` say how tables
    were read; `combined` what each is the mean of, where it is one, and `passes` how many forward passes a clip cost
    (None where a table does not say).
    """

    name: str
    treatment: Treatment
    fingerprints: tuple[str, ...]
    seeds: tuple[int | None, ...]
    map: tuple[float | None, ...]
    ap: dict[str, tuple[float | None, ...]]
    notes: tuple[str, ...]
    combined: tuple[str, ...]
    passes: tuple[int | None, ...]
    mean: float | None
    deviation: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison with its header; `invalid` says why there is no result."""

    a: Side
    b: Side
    map: PairedDifference
    ap: dict[str, PairedDifference]
    about: str
    outcome: str
    verdict: str
    invalid: str | None
    dataset: str
    split: str
    protocol: str
    manifest_hash: str
    videos: int
    frames: int
    replicates: int
    smallest_effect: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def compare(
    a: Predictions | Sequence[Predictions],
    b: Predictions | Sequence[Predictions],
    *,
    names: tuple[str, str] = ("A", "B"),
    treatments: tuple[Treatment, Treatment] = (NO_RECEIPT, NO_RECEIPT),
    replicates: int = 2000,
    seed: int = 0,
    smallest_effect: float = 0.02,
) -> Comparison:
    """Paired difference A - B of mAP and of each AP; each side is one table or one per seed.

    With fewer than five seeds on a side the verdict is about these checkpoints (videos resampled); from five on about
    the treatment (seeds and videos resampled, p = the larger of the swaps over videos and over seeds). `treatments` is
    what each side's receipts prove: without proof the verdict is stamped; if disproved, there are no numbers. Raises
    CalotError where protocol, manifest, frames or labels differ.
    """
    left, right = (Resampler.of(_labelled(side)) for side in (a, b))
    _refuse_mismatch(left.tables, right.tables, names=names)
    invalid = _untreated(treatments, names=names) or _invalid(left.tables, right.tables, names=names)
    sides = tuple(
        _side(side, name=name, treatment=treatment)
        for side, name, treatment in zip((left, right), names, treatments, strict=True)
    )
    enough = min(len(left.tables), len(right.tables)) >= ENOUGH_SEEDS
    about = "the treatment" if enough else "these checkpoints"
    if invalid:
        differences = {name: PairedDifference(value=None, reason=f"INVALID: {invalid}") for name in (*CRITERIA, "map")}
    else:
        differences = _differences(left, right, replicates=replicates, seed=seed, treatment=enough)
    total = differences.pop("map")
    outcome = "invalid" if invalid else outcome_of(total, smallest_effect=smallest_effect)
    verdict = verdict_of(total, outcome=outcome, names=names, about=about, smallest_effect=smallest_effect)
    first = left.tables[0]
    return Comparison(
        a=sides[0],
        b=sides[1],
        map=total,
        ap=differences,
        about=about,
        outcome=outcome,
        verdict=f"INVALID: {invalid}" if invalid else verdict + _unverified(treatments, names=names),
        invalid=invalid,
        dataset=first.dataset,
        split=first.split,
        protocol=first.protocol,
        manifest_hash=first.manifest_hash,
        videos=len(left.videos),
        frames=len(first.labels),
        replicates=replicates,
        smallest_effect=smallest_effect,
    )


def _labelled(side: Predictions | Sequence[Predictions]) -> list[Predictions]:
    tables = [side] if isinstance(side, Predictions) else list(side)
    if not tables:
        raise CalotError("compare: a side without predictions; give at least one table per side")
    bare = [table.source for table in tables if not table.labelled]
    if bare:
        raise CalotError(f"compare refused: {bare[0]} holds {NO_LABELS}")
    return tables


def _refuse_mismatch(a: Sequence[Predictions], b: Sequence[Predictions], *, names: tuple[str, str]) -> None:
    require_same_facts((*a, *b), refusal="compare refused")
    difference = same_rows(a[0], b[0])
    if difference is not None:
        raise CalotError(f"compare refused: {names[0]} ({a[0].source}) and {names[1]} ({b[0].source}): {difference}")
    for name, tables in zip(names, (a, b), strict=True):
        seeds = [table.seeds[0] for table in tables if table.seeds[0] is not None]
        double = sorted({value for value in seeds if seeds.count(value) > 1})
        if double:
            raise CalotError(
                f"compare refused: seed {double[0]} appears twice on the side of {name}; give one table per seed"
            )


def _invalid(a: Sequence[Predictions], b: Sequence[Predictions], *, names: tuple[str, str]) -> str | None:
    """Equal predictions under another treatment, or under another seed, are not a result."""
    for left in a:
        for right in b:
            same_run = left.fingerprint == right.fingerprint != UNKNOWN
            if left.digest == right.digest:
                if same_run:
                    return f"{names[0]} and {names[1]} are the same run ({left.fingerprint[:12]}): nothing to compare"
                if left.fingerprint == right.fingerprint == UNKNOWN:
                    return f"{names[0]} and {names[1]} hold equal predictions, bit for bit: nothing to compare"
                return (
                    f"{names[0]} and {names[1]} hold equal predictions, bit for bit, under another treatment "
                    f"({left.source} and {right.source}): the treatment took no effect"
                )
    for name, tables in zip(names, (a, b), strict=True):
        seen: dict[str, Predictions] = {}
        for table in tables:
            if table.digest in seen:
                pair = f"{seen[table.digest].seeds[0]} and {table.seeds[0]}"
                return f"seeds {pair} of {name} hold equal predictions, bit for bit: they are not independent runs"
            seen[table.digest] = table
    return None


def _untreated(treatments: Sequence[Treatment], *, names: Sequence[str]) -> str | None:
    """The failed receipt checks of either side."""
    wrong = [f"{name}: {side.why}" for name, side in zip(names, treatments, strict=True) if side.invalid]
    return "; ".join(wrong) or None


def _unverified(treatments: Sequence[Treatment], *, names: Sequence[str]) -> str:
    """One sentence that names the sides without proof; empty where both are proven."""
    bare = [name for name, side in zip(names, treatments, strict=True) if side.status == "unverified"]
    return f" Treatment unverified: {' and '.join(bare)}." if bare else ""


def _side(engine: Resampler, *, name: str, treatment: Treatment) -> Side:
    ap = engine.ap(np.ones((1, len(engine.videos))))[0]
    if treatment.invalid:
        ap = np.full_like(ap, np.nan)
    means = ap.mean(axis=1)
    defined = not np.isnan(means).any()
    columns = {criterion: tuple(_none(value) for value in ap[:, k]) for k, criterion in enumerate(engine.criteria)}
    return Side(
        name=name,
        treatment=treatment,
        fingerprints=tuple(table.fingerprint for table in engine.tables),
        seeds=tuple(table.seeds[0] for table in engine.tables),
        map=tuple(_none(value) for value in means),
        ap=columns,
        notes=tuple(dict.fromkeys(note for table in engine.tables for note in table.notes)),
        combined=tuple(dict.fromkeys(str(t.combination) for t in engine.tables if t.combination is not None)),
        passes=tuple(table.passes for table in engine.tables),
        mean=float(means.mean()) if defined else None,
        deviation=float(means.std(ddof=1)) if defined and len(means) > 1 else None,
    )


def _none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _differences(
    a: Resampler, b: Resampler, *, replicates: int, seed: int, treatment: bool
) -> dict[str, PairedDifference]:
    """Both sides lose the same videos in turn; mAP stands under `map`, and the criteria's p are Holm-corrected."""
    count = len(a.videos)
    names = (*a.criteria, "map")
    held = (*a.positive_videos, min(a.positive_videos))
    sides = ScoredSide.of(a), ScoredSide.of(b)
    left_out = [side.left_out() for side in sides]
    points = [each[0] for each in left_out]
    known = count >= MIN_VIDEOS and max(held) >= MIN_POSITIVE_VIDEOS
    detectable = detectable_differences(*sides, seeds_vary=treatment) if known else [None] * len(names)
    p = swap_videos(a.tables, b.tables, replicates=replicates, seed=seed)
    if treatment:
        p = np.maximum(p, swap_seeds(points[0], points[1], seed=seed))
    found = {}
    for k, name in enumerate(names):
        if held[k] < MIN_POSITIVE_VIDEOS or count < MIN_VIDEOS:
            found[name] = _undefined(points, column=k, videos=count, held=held[k])
            continue
        error = paired_error(left_out[0][:, :, k], left_out[1][:, :, k], seeds_vary=treatment)
        shown = permutation_holds(positive_videos=held[k])
        found[name] = _difference(
            float(points[0][:, k].mean() - points[1][:, k].mean()),
            p=float(p[k]) if shown else None,
            error=error,
            detectable=detectable[k],
            coverage=measured_coverage(_quantity(name, treatment=treatment), positive_videos=held[k]),
        )
    corrected = holm([found[name].p for name in a.criteria])
    for name, value in zip(a.criteria, corrected, strict=True):
        found[name] = replace(found[name], p_holm=value)
    return found


def _quantity(name: str, *, treatment: bool) -> Quantity:
    if name == "map":
        return "treatment_map" if treatment else "difference_map"
    return "treatment_ap" if treatment else "difference_ap"


def _undefined(points: Sequence[Array], *, column: int, videos: int, held: int) -> PairedDifference:
    if held == 0:
        return PairedDifference(value=None, reason="no positive label")
    value = float(points[0][:, column].mean() - points[1][:, column].mean())
    where = f"{videos} videos" if videos < MIN_VIDEOS else "all positive labels lie in one video"
    return PairedDifference(value=value, reason=f"{where}: the difference's variation between videos is unknown")


def _difference(
    value: float, *, p: float | None, error: PairedError, detectable: float | None, coverage: MeasuredCoverage | None
) -> PairedDifference:
    return PairedDifference(
        value=value,
        low=value - error.half,
        high=value + error.half,
        p=p,
        standard_error=error.total,
        video_error=error.video,
        seed_error=error.seed,
        minimum_detectable=detectable,
        coverage=coverage,
    )
