"""`calot metrics` and `calot compare`: results from anyone's predictions, without torch."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calot.cli.next_step import report_of, say_next, with_results
from calot.cli.tables import (
    Chosen,
    Clip,
    Coverage,
    Freeze,
    Frozen,
    Held,
    Kind,
    Map,
    Options,
    Rate,
    Sensitivity,
    ThresholdFile,
)

if TYPE_CHECKING:
    from calot.cli.tables import Runs
    from calot.provenance.data_ledger import DataLedger
    from calot.provenance.treatment import Treatment
    from calot.statistics.frozen import FrozenOnVal
    from calot.statistics.predictions import Predictions
    from calot.statistics.summary import Summary
    from calot.statistics.trivial import BesideTrivial
    from calot.statistics.videos import VideoTable

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Split = Annotated[str, typer.Option(help="Which predictions of a run's folder: val or test.")]

Results = Annotated[Path, typer.Option(help="Results root, whose ledger counts openings of test.")]

#: What `calot metrics --json` still reports when there is no result, because of a receipt or for lack of labels.
_HEADER = (
    *("protocol", "dataset", "split", "manifest_hash", "fingerprint", "predictions_digest", "videos", "frames"),
    *("frames_per_second", "seeds", "positives", "positive_videos", "label_rule", "notes", "test_openings"),
    *("causal", "causality", "window", "trained_on", "selection", "epochs", "candidates"),
    *("treatment", "invalid", "unscored", "combination", "passes"),
)
#: What `calot metrics --json` holds beside the header: null where nothing can be scored.
_SCORES = (
    *("interval", "map", "map_over_defined", "ap", "per_seed", "seed_deviation", "brier", "brier_soft"),
    *("brier_skill_macro", "brier_skill_macro_interval", "ece", "calibration", "thresholds", "thresholds_source"),
    *("decisions", "decision_curve", "rater_ceiling", "per_video", "optimism", "optimism_of_setting"),
    "attention_on_anatomy",
    "confidence_target",
    *("temperature_scaling", "at_sensitivity", "prediction_sets", "subgroups", "calibration_drift"),
)


def metrics(
    predictions: Annotated[Path, typer.Argument(help="A .parquet, .csv, .tsv or .xlsx of predictions, or a run.")],
    json: Json = False,
    split: Split = "val",
    thresholds: ThresholdFile = None,
    frozen: Frozen = None,
    freeze: Freeze = None,
    sensitivity: Sensitivity = None,
    coverage: Coverage = None,
    held: Held = 0.0,
    by_video: Annotated[bool, typer.Option("--by-video", help="Print one line per operation, too.")] = False,
    map: Map = None,
    scores: Kind = None,
    clip_probabilities: Clip = False,
    fps: Rate = None,
    results: Results = Path("results"),
    data: Annotated[
        Path | None, typer.Option(help="The data set that a bare table is of, for the raters' confidence (SAGES).")
    ] = None,
) -> None:
    """AP, Brier score, calibration, decisions and rater ceiling of one table of predictions, each with a 95 % interval
    over videos; exit code 1 and no numbers where the run's receipt failed, 2 where there are no labels."""
    from calot.cli.printed_metrics import print_metrics
    from calot.cli.printed_trivial import print_trivial
    from calot.cli.tables import data_of, run_of, table_of, treatment_of_table
    from calot.provenance.data_ledger import DataLedger
    from calot.statistics.summary import header

    options = Options(map=tuple(map or ()), scores=scores, clip=clip_probabilities, fps=fps)
    path = table_of(predictions, split=split)
    table = options.load(path)
    record = DataLedger(manifest_hash=table.manifest_hash, data=data_of(path), results=results)
    opened = record.test_openings() if table.split == "test" and record.known else None
    proved = asdict(treatment_of_table(path, table=table))
    proof = {"test_openings": opened, "treatment": proved, "invalid": None, "unscored": None}
    proof |= _made(path, record=record)
    proof["trivial_baselines"] = None
    if not table.labelled:
        _unscored(header(table) | proof, json=json)
    chosen = Chosen(thresholds=thresholds, frozen=frozen, freeze=freeze, sensitivity=sensitivity, coverage=coverage)
    fields, trivial, operations = _scored(table, path=path, chosen=chosen, proof=proof, held=held, json=json)
    fields["confidence_target"] = _against_confidence(table, root=data or data_of(path), given=data is not None)
    if operations is None and by_video:
        fields["notes"].append("--by-video: decisions are one model's, and this table holds several seeds: split it")
    if json:
        fields["per_video"] = operations.to_dict() if operations is not None else None
        print(jsonlib.dumps(fields, indent=1, allow_nan=False))
        return
    print_metrics(fields, operations=operations, by_video=by_video)
    print_trivial(trivial)
    run = run_of(path)
    if run is not None:
        say_next("report", run)
    elif not by_video:
        say_next("metrics", predictions, *options.words(), *with_results(results), "--by-video")


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more runs or files; seeds of one experiment form one side.")
    ],
    json: Json = False,
    split: Split = "val",
    smallest_effect: Annotated[float, typer.Option(help="Smallest difference of mAP that matters, a share.")] = 0.02,
    map: Map = None,
    scores: Kind = None,
    clip_probabilities: Clip = False,
    results: Results = Path("results"),
    tuned: Annotated[
        bool, typer.Option("--tuned", help="Give sweeps in place of runs: each seed at its best setting on val.")
    ] = False,
) -> None:
    """Paired differences over videos, the first experiment against each other one; exit code 1 where one is INVALID:
    equal predictions, or a failed receipt."""
    from calot.cli.beside_comparison import compared_rows, print_compared, print_header_fields
    from calot.cli.tables import run_of, sides_of, table_of
    from calot.cli.tuned import tuned_sides
    from calot.errors import CalotError
    from calot.provenance.treatment import weakest
    from calot.statistics.compare import compare as compare_sides

    if not 0 <= smallest_effect <= 1:
        raise CalotError(f"--smallest-effect {smallest_effect}: need a share from 0 to 1, such as 0.02 for two points")
    options = Options(map=tuple(map or ()), scores=scores, clip=clip_probabilities)
    sides, runs, told = (
        tuned_sides(runs, split=split, options=options)
        if tuned
        else (sides_of(runs, split=split, options=options), runs, [])
    )
    if len(sides) < 2:
        raise CalotError(f"compare: {len(runs)} runs of one experiment ({', '.join(sides)}); name a run of another one")
    proven = {name: weakest(side.treatments) for name, side in sides.items()}
    first, *others = sides
    found = [
        compare_sides(
            sides[first].tables,
            sides[name].tables,
            names=(first, name),
            treatments=(proven[first], proven[name]),
            smallest_effect=smallest_effect,
        )
        for name in others
    ]
    header, beside = _beside(sides, runs=runs, split=split, results=results)
    if json:
        choices = {"tuned": [side.to_dict() for side in told]} if tuned else {}
        shown = {"header": header, **choices, "comparisons": compared_rows(found, beside=beside)}
        print(jsonlib.dumps(shown, indent=1, allow_nan=False))
    else:
        print_header_fields(header)
        print("\n".join(line for side in told for line in side.lines()), end="\n" if told else "")
        print_compared(found, beside=beside)
        folders = [run for given in runs if (run := run_of(table_of(given, split=split))) is not None]
        say_next(*(report_of(folders) if folders else ("metrics", runs[0], *options.words(), "--by-video")))
    if any(item.invalid for item in found):
        raise typer.Exit(1)


def _beside(
    sides: dict[str, Runs], *, runs: list[Path], split: str, results: Path
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What all sides share, and what each is seen beside; none of it where a side has a failed receipt."""
    from calot.cli.beside_comparison import header_fields, side_fields
    from calot.cli.tables import run_of, table_of
    from calot.provenance.treatment import weakest

    first, path = next(iter(sides.values())).tables[0], table_of(runs[0], split=split)
    header = header_fields(first, run=run_of(path), path=path, results=results)
    found: dict[str, dict[str, Any]] = {}
    for name, side in sides.items():
        folders = [run for given in side.treatments if (run := run_of(table_of(Path(given), split=split))) is not None]
        found[name] = {} if weakest(side.treatments).invalid else side_fields(side, runs=folders)
    return header, found


def _made(path: Path, *, record: DataLedger) -> dict[str, Any]:
    """How the result came about: causality, what it was trained on, selection, and how many candidates there were."""
    from dataclasses import replace

    from calot.cli.tables import run_of
    from calot.provenance.ledger import NAME as LEDGER
    from calot.provenance.run_facts import CAUSAL, RunFacts, candidates_of
    from calot.report.results import find_results

    run = run_of(path)
    facts = RunFacts.of(run)
    if run is not None and record.results is not None and not (record.results / LEDGER).is_file():
        record = replace(record, results=find_results(run))
    found = candidates_of(record)
    causality = "unknown" if facts.causal is None else CAUSAL[facts.causal]
    return facts.to_dict() | {"causality": causality, "candidates": asdict(found) | {"said": str(found)}}


def _kept_by_run(path: Path, *, split: str) -> dict[str, Any]:
    """What a run kept of its epochs: the optimism of choosing one, and where the chosen one looked."""
    from calot.cli.tables import run_of
    from calot.statistics.anatomy import attention_on_anatomy
    from calot.statistics.optimism import optimism_of_run
    from calot.statistics.sweep import setting_optimism

    attention = attention_on_anatomy(run_of(path), split=split)
    return {
        "optimism": optimism_of_run(run_of(path), split=split).to_dict(),
        "optimism_of_setting": setting_optimism(run_of(path)).to_dict(),
        "attention_on_anatomy": None if attention is None else attention.to_dict(),
    }


def _scored(
    table: Predictions, *, path: Path, chosen: Chosen, proof: dict[str, Any], held: float, json: bool
) -> tuple[dict[str, Any], BesideTrivial, VideoTable | None]:
    """Everything of a labelled table, the baselines beside it, and its operations where it holds one seed; ends here
    with exit code 1 where a receipt failed."""
    from calot.cli.tables import data_of, run_of, treatment_of_table
    from calot.statistics.summary import summarise
    from calot.statistics.trivial import beside_trivial
    from calot.statistics.videos import per_video

    treatment = treatment_of_table(path, table=table)
    values, note = chosen.values_for(table, path=path)
    limits, note = chosen.thresholds_for(values, note=note)
    summary = summarise(table, thresholds=limits)
    fields = summary.to_dict() | proof
    fields["notes"] += [note]
    fields["thresholds_source"] = note
    if treatment.invalid:
        _withhold(fields, treatment=treatment, json=json)
    fields |= _behaviour(summary, frozen=values, root=data_of(path))
    if treatment.stamp:
        fields["notes"].insert(0, treatment.stamp)
    fields |= _kept_by_run(path, split=table.split)
    trivial = beside_trivial(table, run=run_of(path))
    fields["trivial_baselines"] = trivial.to_dict()
    one = len(table.seeds) == 1
    return fields, trivial, per_video(table, thresholds=limits, held_seconds=held) if one else None


def _against_confidence(table: Predictions, *, root: Path | None, given: bool) -> dict[str, Any] | None:
    """Squared error against raters weighted by their confidence, where the data set is here and asked them."""
    from calot.analysis.confidence import targets_of
    from calot.errors import CalotError
    from calot.statistics.confidence import confidence_score

    if root is None or len(table.seeds) > 1:
        return None
    try:
        targets = targets_of(root, manifest_hash=table.manifest_hash)
    except CalotError:
        if given:
            raise
        return None
    if targets is None:
        if given:
            raise CalotError(f"--data {root}: its raters were not asked how sure they were")
        return None
    return confidence_score(table, targets=targets).to_dict()


def _behaviour(summary: Summary, *, frozen: FrozenOnVal | None, root: Path | None) -> dict[str, Any]:
    """What the table shows beyond its scores; the images are looked at once, where they are."""
    from calot.analysis.appearance import seen_frames
    from calot.progress import Ui
    from calot.statistics.behaviour import behaviour_of

    seen = seen_frames(summary.predictions, root=root, ui=Ui())
    return behaviour_of(summary, frozen=frozen, appearance=seen).to_dict()


def _unscored(fields: dict[str, Any], *, json: bool) -> None:
    """What a table without labels contains and what it lacks; there is no result, which is exit code 2."""
    from calot.cli.printed_metrics import print_header
    from calot.statistics.predictions import NO_LABELS

    shown = dict.fromkeys(_SCORES) | fields | {"positives": None, "positive_videos": None, "unscored": NO_LABELS}
    if json:
        print(jsonlib.dumps(shown, indent=1, allow_nan=False))
    else:
        print_header(shown)
        for note in fields["notes"]:
            print(f"Note: {note}")
        print(NO_LABELS[0].upper() + NO_LABELS[1:])
    raise typer.Exit(2)


def _withhold(fields: dict[str, Any], *, treatment: Treatment, json: bool) -> None:
    """The failing check in place of the numbers, which is exit code 1."""
    from calot.cli.printed_metrics import print_header

    if json:
        shown = dict.fromkeys((*fields, *_SCORES)) | {name: fields[name] for name in _HEADER}
        print(jsonlib.dumps(shown | {"invalid": treatment.why, "per_video": None}, indent=1, allow_nan=False))
    else:
        print_header(fields)
        print(f"{treatment.stamp}\nThere is no result to show. Fix the experiment and train it again.")
    raise typer.Exit(1)
