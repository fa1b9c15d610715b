"""A run, or every seed of an experiment, against its declared baseline: a paired difference, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calot.criteria import label
from calot.errors import CalotError
from calot.provenance.run_files import ExperimentFile, read_file
from calot.provenance.treatment import weakest
from calot.report.forest import Estimate, Forest, difference_forest
from calot.report.run_folder import RunFolder, read_run
from calot.report.tables import Row, Table, columns, interval_text, number, plain_reason, points
from calot.report.verdict import Reason
from calot.statistics.compare import Comparison, compare

_CAPTION = (
    "Difference in AP on the same videos, this minus baseline, in points. Dot: the value. Bar: 95 % interval over "
    "videos. A bar that contains 0 shows no difference, and excludes none inside it."
)


@dataclass(frozen=True, kw_only=True)
class Paired:
    """A comparison in words, with its table and figure where it was possible; `invalid` where a receipt forbids it."""

    reason: Reason
    comparison: Comparison | None = None
    invalid: bool = False
    forest: Forest | None = None
    table: Table | None = None
    caption: str = _CAPTION


@dataclass(frozen=True, kw_only=True)
class Partners:
    """The run of its baseline that a run is held against, or all of them where the receipt of each failed; `problem`
    says why there is none."""

    runs: Sequence[RunFolder] = ()
    problem: str = ""


def partners_of(run: RunFolder, *, results: Path) -> Partners | None:
    """The baseline's run of the same seed (else of the lowest) on the same frames; None when no baseline is named."""
    if not run.experiment.get("baseline"):
        return None
    try:
        others = baseline_runs(run, results=results)
    except CalotError as error:
        return Partners(problem=f"No comparison: {str(error).replace(f'{results}/', '')}")
    if (problem := no_partner(run, others)) is not None:
        return Partners(problem=problem)
    found = comparable(run, others)
    sound = one_a_seed(with_result(found))
    return Partners(runs=sorted(sound, key=lambda other: (other.seed != run.seed, other.seed))[:1] or found)


def against_baseline(run: RunFolder, *, partners: Partners | None) -> Paired | None:
    """This run against the one it is held against; None when it names no baseline."""
    if partners is None:
        return None
    if partners.problem:
        return Paired(reason=Reason("Against its baseline.", partners.problem))
    return pair([run], partners.runs)


def baseline_runs(run: RunFolder, *, results: Path) -> list[RunFolder]:
    """The runs of this run's baseline experiment below `results`, at the same scale."""
    name, here = str(run.experiment.get("baseline")), run.path.resolve()
    paths = [path for path in _candidates(results) if path.resolve() != here and _names(path, experiment=name)]
    return [other for other in map(read_run, paths) if other.experiment.get("scale") == run.experiment.get("scale")]


def pair(treated: Sequence[RunFolder], baseline: Sequence[RunFolder]) -> Paired:
    """Compare finished runs of one experiment with finished runs of another, on val: the newest of each seed.

    A run whose receipt failed is left out, and named.
    """
    names = (treated[0].label, baseline[0].label)
    left_out = failed_receipts([*treated, *baseline])
    sides = [one_a_seed(with_result(side)) for side in (treated, baseline)]
    if not all(sides):
        reason = Reason("Against its baseline.", f"INVALID: {names[0]} against {names[1]}: {'; '.join(left_out)}.")
        return Paired(reason=reason, invalid=True)
    first, second = (weakest({f"seed {run.seed}": run.treatment for run in side}) for side in sides)
    try:
        tables = ([run.predictions["val"] for run in side] for side in sides)
        result = compare(*tables, names=names, treatments=(first, second))
    except CalotError as error:
        return Paired(reason=Reason("Against its baseline.", f"No comparison: {error}."))
    seeds = f" Seeds {_listed(result.a.seeds)} against {_listed(result.b.seeds)}."
    without = f" Left out: {'; '.join(left_out)}." if left_out else ""
    return Paired(
        reason=Reason("Against its baseline.", f"{plain_reason(result.verdict)}{seeds}{without}"),
        comparison=result,
        invalid=result.invalid is not None,
        forest=None if result.invalid else _forest(result),
        table=None if result.invalid else paired_table(result),
    )


def paired_table(result: Comparison) -> Table:
    """mAP and each AP: difference, interval, permutation p, Holm's p over the criteria, detectable."""
    rows = []
    for name, item in (("macro mAP", result.map), *((label(c), d) for c, d in result.ap.items())):
        cells = (
            name,
            points(item.value, reason=item.reason, sign=True),
            interval_text(item.low, item.high, sign=True, reason=item.reason if item.value is not None else ""),
            number(item.p, reason=""),
            number(item.p_holm, reason="") if name != "macro mAP" else "not corrected",
            points(item.minimum_detectable, reason=""),
        )
        rows.append(Row(cells=cells, strong=name == "macro mAP"))
    heads = ("quantity", "difference, points", "95 % interval", "p", "p, Holm", "detectable with about 80 % power")
    title = f"{result.a.name} minus {result.b.name}, {result.split} split, about {result.about}"
    return Table(title=title, columns=columns(*heads), rows=rows)


def _forest(result: Comparison) -> Forest:
    rows = [Estimate(name="macro mAP", interval=result.map, strong=True)]
    rows += [Estimate(name=label(c), interval=item, criterion=c) for c, item in result.ap.items()]
    return difference_forest(rows, title=f"{result.a.name} minus {result.b.name}")


def no_partner(run: RunFolder, others: Sequence[RunFolder]) -> str | None:
    """Why none of the baseline's runs can be compared with this one, or None."""
    baseline = run.experiment.get("baseline")
    if not others:
        return f"No run of {baseline} at this scale stands in the results root: train it on the same data."
    if not any(other.finished for other in others):
        return f"No run of {baseline} here is finished yet."
    if not comparable(run, others):
        frames = sorted({_frames(other) for other in others if other.finished})
        return (
            f"Refused: {baseline} was scored on other frames (manifest {', '.join(frames)}; here "
            f"{_frames(run)}). A difference between the two would not be one between the experiments."
        )
    return None


def _frames(run: RunFolder) -> str:
    manifest, protocol = run.scored_frames
    return f"{str(manifest)[:12]} under {protocol}"


def comparable(run: RunFolder, others: Sequence[RunFolder]) -> list[RunFolder]:
    """The finished ones scored on the same frames."""
    return [other for other in others if other.finished and other.scored_frames == run.scored_frames]


def with_result(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """The finished ones whose receipt did not fail."""
    return [run for run in runs if run.has_result]


def failed_receipts(runs: Sequence[RunFolder]) -> list[str]:
    """`e03_focal seed 1, receipt check dose failed (why)` of each run whose receipt failed."""
    return [f"{run.label} seed {run.seed}, {run.treatment.why}" for run in runs if run.treatment.invalid]


def one_a_seed(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """The newest run (last by folder name) of each seed, by seed."""
    newest = {run.seed: run for run in sorted(runs, key=lambda run: run.path.name)}
    return [newest[seed] for seed in sorted(newest)]


def _candidates(results: Path) -> list[Path]:
    """Runs as they lie in a results root, `<experiment>/<run>`, or one level up or down; never a search of a disk."""
    return sorted({file.parent for depth in ("*", "*/*", "*/*/*") for file in results.glob(f"{depth}/experiment.json")})


def _names(path: Path, *, experiment: str) -> bool:
    """Whether a folder's experiment.json names this experiment; an unreadable one is not a baseline."""
    try:
        return bool(read_file(path / "experiment.json", ExperimentFile).get("name") == experiment)
    except CalotError:
        return False


def _listed(seeds: Sequence[int | None]) -> str:
    return ", ".join("unknown" if seed is None else str(seed) for seed in seeds)
