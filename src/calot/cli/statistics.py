"""`calot metrics` and `calot compare`: results of anybody's predictions, without torch."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from calot.provenance.treatment import Treatment
    from calot.statistics.calibration import Thresholds
    from calot.statistics.predictions import Predictions

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Split = Annotated[str, typer.Option(help="Which predictions of a run's folder: val or test.")]

#: What `calot metrics --json` still tells of predictions whose treatment a receipt disproves: no result among it.
_HEADER = (
    *("protocol", "dataset", "split", "manifest_hash", "fingerprint", "predictions_digest", "videos", "frames"),
    *("seeds", "positives", "positive_videos", "label_rule", "notes", "test_openings", "treatment"),
)


@dataclass
class _Runs:
    """The runs of one side: a table each, and what their receipts prove."""

    tables: list[Predictions] = field(default_factory=list)
    treatments: dict[str, Treatment] = field(default_factory=dict)


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
    """AP with 95 % intervals over videos, Brier score, calibration and decisions of one table of predictions; exit code
    1 and no numbers where the run's receipt failed."""
    from calot.cli.printed import print_metrics
    from calot.provenance import ledger
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
    treatment = _treatment(path, table=table)
    fields |= {"test_openings": opened, "treatment": asdict(treatment)}
    if treatment.invalid:
        _withhold(fields, treatment=treatment, json=json)
        raise typer.Exit(1)
    if treatment.stamp:
        fields["notes"].insert(0, treatment.stamp)
    operations = per_video(table, thresholds=frozen) if frozen is not None and len(table.seeds) == 1 else None
    if json:
        fields["invalid"] = None
        fields["per_video"] = operations.to_dict() if operations is not None else None
        print(jsonlib.dumps(fields, indent=1, allow_nan=False))
        return
    print_metrics(fields, operations=operations, by_video=by_video)
    print(f"\nNext: calot compare {predictions} OTHER_RUN")


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more runs or files; seeds of one experiment form one side.")
    ],
    json: Json = False,
    split: Split = "val",
    smallest_effect: Annotated[float, typer.Option(help="Smallest difference of mAP that matters.")] = 0.02,
) -> None:
    """Paired differences over videos, the first experiment against each other one; exit code 1 where one is INVALID:
    equal predictions, or a receipt that failed."""
    from calot.cli.printed import print_comparison
    from calot.errors import CalotError
    from calot.provenance.treatment import weakest
    from calot.statistics.compare import compare as compare_sides
    from calot.statistics.permutation import holm

    sides = _sides(runs, split=split)
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
    corrected = holm([item.map.p for item in found])
    if json:
        rows = [{**item.to_dict(), "map_p_holm_over_comparisons": p} for item, p in zip(found, corrected, strict=True)]
        print(jsonlib.dumps({"comparisons": rows}, indent=1, allow_nan=False))
    else:
        for item, p in zip(found, corrected, strict=True):
            print_comparison(item, holm_p=p if len(found) > 1 else None)
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


def _run_of(path: Path) -> Path | None:
    """The folder of the run that a table belongs to, or None for a bare file."""
    run = path.parent.parent
    return run if path.parent.name == "predictions" and (run / "experiment.json").is_file() else None


def _treatment(path: Path, *, table: Predictions) -> Treatment:
    """What the receipt of the run that a table belongs to proves of it."""
    from calot.provenance.receipt import Receipt
    from calot.provenance.treatment import NO_RECEIPT, treatment_of

    run = _run_of(path)
    return NO_RECEIPT if run is None else treatment_of(Receipt.load(run), fingerprint=table.fingerprint)


def _sides(runs: list[Path], *, split: str) -> dict[str, _Runs]:
    """Runs of one experiment, their seeds apart, form one side; a lone file is a side of its own."""
    from calot.statistics.predictions import load_predictions

    keys: dict[str, str] = {}
    sides: dict[str, _Runs] = {}
    for run in runs:
        path = _table_of(run, split=split)
        name, key = _experiment_of(path)
        if keys.get(name, key) != key:  # same name, another value: an override made it another treatment
            name = str(run)
        keys[name] = key
        side = sides.setdefault(name, _Runs())
        side.tables.append(load_predictions(path))
        side.treatments[str(run)] = _treatment(path, table=side.tables[-1])
    return sides


def _experiment_of(path: Path) -> tuple[str, str]:
    """Name, and the resolved value without its seed, of the run that a table belongs to."""
    from calot.errors import CalotError

    run = _run_of(path)
    if run is None:
        return str(path), str(path)
    source = run / "experiment.json"
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


def _withhold(fields: dict[str, Any], *, treatment: Treatment, json: bool) -> None:
    """The failing check in place of the numbers."""
    from calot.cli.printed import print_header

    if json:
        shown = {name: value if name in _HEADER else None for name, value in fields.items()}
        print(jsonlib.dumps(shown | {"invalid": treatment.why, "per_video": None}, indent=1, allow_nan=False))
        return
    print_header(fields)
    print(f"{treatment.stamp}\nThere is no result to show. Mend the experiment and train it again.")
