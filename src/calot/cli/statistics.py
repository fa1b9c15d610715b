"""`calot metrics` and `calot compare`: results of anybody's predictions, without torch."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from calot.statistics.calibration import Thresholds
    from calot.statistics.compare import Comparison, PairedDifference
    from calot.statistics.predictions import Predictions
    from calot.statistics.videos import VideoTable

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Split = Annotated[str, typer.Option(help="Which predictions of a run's folder: val or test.")]


def metrics(
    predictions: Annotated[Path, typer.Argument(help="A .parquet or .csv of predictions, or a run's folder.")],
    json: Json = False,
    split: Split = "val",
    thresholds: Annotated[Path | None, typer.Option(help="Thresholds frozen on val, as JSON.")] = None,
    by_video: Annotated[bool, typer.Option("--by-video", help="Print one line an operation, too.")] = False,
    results: Annotated[Path, typer.Option(help="Results root, whose ledger counts openings of test.")] = Path(
        "results"
    ),
) -> None:
    """AP with 95 % intervals over videos, Brier score, calibration and decisions of one table of predictions."""
    from calot.statistics import ledger
    from calot.statistics.predictions import load_predictions
    from calot.statistics.summary import summarise
    from calot.statistics.videos import per_video

    path = _table_of(predictions, split=split)
    table = load_predictions(path)
    frozen, note = _thresholds(table, path=path, given=thresholds)
    fields = summarise(table, thresholds=frozen).to_dict()
    if note:
        fields["notes"].append(note)
    opened = ledger.test_openings(results, manifest_hash=table.manifest_hash) if table.split == "test" else None
    fields["test_openings"] = opened
    operations = per_video(table, thresholds=frozen) if frozen is not None and len(table.seeds) == 1 else None
    if json:
        fields["per_video"] = operations.to_dict() if operations is not None else None
        print(jsonlib.dumps(fields, indent=1, allow_nan=False))
        return
    _print_metrics(fields, operations=operations, by_video=by_video)
    print(f"\nNext: calot compare {predictions} OTHER_RUN")


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more runs or files; seeds of one experiment form one side.")
    ],
    json: Json = False,
    split: Split = "val",
    smallest_effect: Annotated[float, typer.Option(help="Smallest difference of mAP that matters.")] = 0.02,
) -> None:
    """Paired differences over videos, the first experiment against each other one; exit code 1 where one is INVALID."""
    from calot.errors import CalotError
    from calot.statistics.compare import compare as compare_sides
    from calot.statistics.permutation import holm

    sides = _sides(runs, split=split)
    if len(sides) < 2:
        raise CalotError(f"compare: {len(runs)} runs of one experiment ({', '.join(sides)}); name a run of another one")
    (first, reference), *others = sides.items()
    found = [
        compare_sides(reference, other, names=(first, name), smallest_effect=smallest_effect) for name, other in others
    ]
    corrected = holm([item.map.p for item in found])
    if json:
        rows = [{**item.to_dict(), "map_p_holm_over_comparisons": p} for item, p in zip(found, corrected, strict=True)]
        print(jsonlib.dumps({"comparisons": rows}, indent=1, allow_nan=False))
    else:
        for item, p in zip(found, corrected, strict=True):
            _print_comparison(item, holm_p=p if len(found) > 1 else None)
        print(f"\nNext: calot report {_common_folder(runs)}")
    if any(item.invalid for item in found):
        raise typer.Exit(1)


def _table_of(path: Path, *, split: str) -> Path:
    """The file itself, or `predictions/<split>.parquet` of a run's folder."""
    from calot.errors import CalotError

    if not path.is_dir():
        return path
    table = path / "predictions" / f"{split}.parquet"
    if not table.is_file():
        have = sorted(item.stem for item in table.parent.glob("*.parquet"))
        raise CalotError(f"{path}: no predictions/{split}.parquet; have {have}; make it with: calot predict {path}")
    return table


def _thresholds(table: Predictions, *, path: Path, given: Path | None) -> tuple[Thresholds | None, str | None]:
    """Thresholds given, or frozen on val: this table, or the val table beside it."""
    from calot.statistics.calibration import Thresholds, choose_thresholds
    from calot.statistics.predictions import load_predictions

    if given is not None:
        return Thresholds.load(given), f"thresholds from {given}"
    if table.split == "val":
        return choose_thresholds(
            table
        ), "thresholds were chosen on these same frames: the decisions' rates are optimistic"
    beside = path.with_name("val.parquet")
    if table.split != "val" and path.name != beside.name and beside.is_file():
        return choose_thresholds(load_predictions(beside)), f"thresholds frozen on {beside}"
    return None, "no thresholds (--thresholds, or val.parquet beside the table): decisions are not scored"


def _sides(runs: list[Path], *, split: str) -> dict[str, list[Predictions]]:
    """Runs of one experiment, their seeds apart, form one side; a lone file is a side of its own."""
    from calot.statistics.predictions import load_predictions

    keys: dict[str, str] = {}
    sides: dict[str, list[Predictions]] = {}
    for run in runs:
        path = _table_of(run, split=split)
        name, key = _experiment_of(path)
        if keys.get(name, key) != key:  # same name, another value: an override made it another treatment
            name = str(run)
        keys[name] = key
        sides.setdefault(name, []).append(load_predictions(path))
    return sides


def _experiment_of(path: Path) -> tuple[str, str]:
    """Name, and the resolved value without its seed, of the run that a table belongs to."""
    from calot.errors import CalotError

    source = path.parent.parent / "experiment.json"
    if path.parent.name != "predictions" or not source.is_file():
        return str(path), str(path)
    try:
        fields = json_object(source.read_text(encoding="utf-8"))
        value = {key: item for key, item in fields.get("experiment", {}).items() if key != "seed"}
        return str(fields["name"]), jsonlib.dumps([value, fields.get("scale")], sort_keys=True)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CalotError(f"{source}: not a run's experiment ({error!r}); run the experiment again") from error


def json_object(text: str) -> dict[str, Any]:
    """A JSON object, or ValueError."""
    value = jsonlib.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _common_folder(runs: list[Path]) -> Path:
    parents = {run.parent for run in runs}
    return parents.pop() if len(parents) == 1 else Path("results")


def _points(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f}"


def _range(item: dict[str, Any]) -> str:
    if item["low"] is None:
        return str(item.get("reason") or "undefined")
    return f"{100 * item['low']:.1f} to {100 * item['high']:.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _table(*headings: str) -> Any:
    """A table narrow enough for 80 columns, so that a log file loses nothing."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading != "why not")
    return table


def _p(value: float | None) -> str:
    return "< 0.001" if value is not None and value < 0.001 else _number(value)


def _print_metrics(fields: dict[str, Any], *, operations: VideoTable | None, by_video: bool) -> None:
    from rich.console import Console

    from calot.criteria import label

    console = Console()
    _print_header(fields)
    coverage = fields["interval"]["measured_coverage"]
    table = _table("", "AP", "95 % over videos", "chance")
    for name, ap in fields["ap"].items():
        table.add_row(label(name), _points(ap["value"]), _range(ap), f"{100 * ap['prevalence']:.1f}")
    total = fields["map"]
    table.add_row("mAP", _points(total["value"]), _range(total), f"{100 * total['chance']:.1f}")
    console.print(table)
    if coverage:
        print(
            f"Intervals: {fields['interval']['method']}; measured coverage at {coverage['videos']} videos "
            f"{coverage['ap']:.1%} (AP) and {coverage['map']:.1%} ± "
            f"{coverage['standard_error']:.1%} (mAP), nominal 95 %."
        )
    if len(fields["per_seed"]) > 1:
        each = ", ".join(f"{row['seed']}: {_points(row['map'])}" for row in fields["per_seed"])
        print(f"mAP by seed: {each}; standard deviation over seeds {_points(fields['seed_deviation'])}")
    table = _table("", "Brier", "skill", "ECE", "slope", "intercept")
    for name, fit in fields["calibration"].items():
        brier = fields["brier"][name]
        numbers = (brier["value"], brier["skill"], fit["ece"], fit["slope"], fit["intercept"])
        table.add_row(label(name), *map(_number, numbers))
    table.add_row("mean skill", "", _number(fields["brier_skill_macro"]), "", "", "")
    console.print(table)
    _print_decisions(fields["decisions"], console=console)
    if operations is not None and operations.operations is not None:
        o = operations.operations
        print(
            f"All three criteria held, by operation: {o.true_positives} rightly and "
            f"{o.false_positives} wrongly called, "
            f"{o.false_negatives} missed, {o.true_negatives} rightly not called"
        )
    if operations is not None and by_video:
        _print_videos(operations, console=console)
    for note in fields["notes"]:
        print(f"Note: {note}")


def _print_header(fields: dict[str, Any]) -> None:
    positives = ", ".join(f"{name} {count}" for name, count in fields["positives"].items())
    print(
        f"{fields['dataset']} {fields['split']}, protocol {fields['protocol']}, manifest {fields['manifest_hash'][:12]}"
    )
    print(f"{fields['videos']} videos, {fields['frames']} frames; positives: {positives}")
    print(f"Labels: {fields['label_rule']}; seeds: {fields['seeds']}")
    if fields["test_openings"] is not None:
        print(f"Test was opened {fields['test_openings']} times for this manifest")


def _print_decisions(rows: dict[str, Any], *, console: Any) -> None:

    from calot.criteria import label

    rates = ("sensitivity", "specificity", "ppv", "npv", "f1", "balanced_accuracy")
    if not any("reason" not in row for row in rows.values()):
        return
    print("\nDecisions, positive when logit >= cut:")
    table = _table("", "cut", "sens.", "spec.", "PPV", "NPV", "F1", "bal. acc.")
    for name, row in rows.items():
        table.add_row(label(name), _number(row["threshold"]), *(_number(row.get(rate)) for rate in rates))
    console.print(table)


def _print_videos(videos: VideoTable, *, console: Any) -> None:

    table = _table("video", "criterion", "pos.", "AP", "flips/min", "alarms/h", "delay s", "why not")
    for row in videos.rows:
        for name, item in row.criteria.items():
            table.add_row(
                row.video, name, f"{item.positives}/{row.frames}", _number(item.ap), _number(item.flips_per_minute),
                _number(item.false_alarms_per_hour), _number(item.detection_seconds), item.reason or "",
            )  # fmt: skip
    console.print(table)


def _print_comparison(found: Comparison, *, holm_p: float | None) -> None:
    from rich.console import Console

    from calot.criteria import label

    print(f"\n{found.a.name} − {found.b.name}: {found.dataset} {found.split}, protocol {found.protocol}, ", end="")
    print(f"manifest {found.manifest_hash[:12]}, {found.videos} videos, {found.frames} frames")
    for side in (found.a, found.b):
        each = ", ".join(f"seed {seed}: {_points(value)}" for seed, value in zip(side.seeds, side.map, strict=True))
        spread = "" if side.deviation is None else f"; standard deviation over seeds {_points(side.deviation)}"
        print(f"{side.name}: mAP {_points(side.mean)} ({each}{spread})")
    if not found.invalid:
        table = _table("points", "A − B", "95 % interval", "p", "Holm", "MDD", "se v", "se s")
        for name, item in found.ap.items():
            table.add_row(label(name), *_cells(item))
        table.add_row("mAP", *_cells(found.map))
        Console().print(table)
        print("MDD: smallest difference detected with 80 % power; se: standard error from videos, seeds.")
    print(found.verdict)
    if holm_p is not None:
        print(f"p corrected over the comparisons (Holm): {_p(holm_p)}")


def _cells(item: PairedDifference) -> list[str]:
    bounds = {"low": item.low, "high": item.high, "reason": item.reason}
    errors = [_points(value) if value is not None else "–" for value in (item.minimum_detectable, item.video_error)]
    seeds = "–" if item.seed_error is None else _points(item.seed_error)
    return [_points(item.value), _range(bounds), _p(item.p), _p(item.p_holm), *errors, seeds]
