"""`calot transfer`: a run's score on its own data set, on others, and what is lost between them."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calot.cli.next_step import say_next
from calot.cli.train import Results, Trust

if TYPE_CHECKING:
    from calot.data.manifest import Manifest
    from calot.progress import Ui
    from calot.statistics.predictions import Predictions
    from calot.statistics.transfer import SiteScores, Transferred

_ALL = "all"
#: By the split of the run's own data set that has the operation, too.
_NOT_EXTERNAL = {"val": "the epoch was chosen on it", "test": "the run's own data set has it for testing"}


def transfer(
    runs: Annotated[list[Path], typer.Argument(help="A run's folder, or seeds of one experiment.")],
    data: Annotated[list[Path], typer.Option(help="Another data set's folder. May be repeated.")],
    split: Annotated[str, typer.Option(help="Of the other data sets: all of their splits, or one.")] = _ALL,
    internal: Annotated[str, typer.Option(help="Of the runs' own predictions: val or test.")] = "val",
    out: Annotated[Path | None, typer.Option(help="A folder for tables; by default RUN/transfer of the first.")] = None,
    results: Results = Path("results"),
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    trust: Trust = False,
) -> None:
    """Score runs on other data sets beside their own: internal, external, the drop with its interval over videos, per
    criterion. Refused where an operation that trained a run would be scored."""
    from calot.cli.train import trust_code
    from calot.data.readers import open_folder
    from calot.destination import require_folder
    from calot.progress import Ui
    from calot.run.apart import held_in_both
    from calot.run.signals import stop_on_signal
    from calot.statistics.transfer import site_scores, transferred
    from calot.writing import write_json

    ui, folder = Ui(), out or runs[0] / "transfer"
    _require_once("RUN", runs)
    _require_once("--data", data)
    if out is not None:
        require_folder(out, records=["transfer.json", "00/run00/of.json"])
    trust_code(trust, *runs)
    own = _internal(runs, split=internal)
    found: list[tuple[Path, Transferred]] = []
    shared: list[list[str]] = []
    with stop_on_signal(f"{folder}: stopped; tables that are there stay. Run the same again to continue."):
        for place, root in enumerate(data):
            manifest = open_folder(root).manifest
            tables, named = _external(
                runs, root, manifest=manifest, split=split, folder=folder / f"{place:02d}", results=results, ui=ui
            )
            found.append((root, transferred(own, tables, split=named)))
            both = held_in_both(runs[0], manifest)
            shared.append([f"{video}; {_NOT_EXTERNAL[video.split_here]}" for video in both])
    home = site_scores(own)
    told = _told(runs, home, found, shared=shared)
    write_json(folder / "transfer.json", told)
    if json:
        print(jsonlib.dumps(told, indent=1, allow_nan=False))
        return
    _print(home, found, told=told)
    print(f"\nTables: {folder}")
    say_next("data", "overlap", told["internal"]["root"], data[0])


def _require_once(what: str, paths: list[Path]) -> None:
    """Raises CalotError for a path that is given twice, which would count twice."""
    from calot.errors import CalotError

    places = [path.resolve() for path in paths]
    if twice := next((path for path, place in zip(paths, places, strict=True) if places.count(place) > 1), None):
        raise CalotError(f"{what} {twice}: given twice; give it once")


def _internal(runs: list[Path], *, split: str) -> list[Predictions]:
    """The runs' own predictions; all of one experiment's data set and split. Raises CalotError where they differ."""
    from calot.cli.tables import Options, table_of
    from calot.errors import CalotError
    from calot.statistics.predictions import same_rows

    tables = [Options().load(table_of(run, split=split)) for run in runs]
    for run, table in zip(runs[1:], tables[1:], strict=True):
        if table.fingerprint != tables[0].fingerprint:
            raise CalotError(f"{run}: is not the experiment of {runs[0]}. Give seeds of one experiment.")
        if (apart := same_rows(tables[0], table)) is not None:
            raise CalotError(f"{run}: scored on other frames than {runs[0]}: {apart}. Give seeds of one experiment.")
    return tables


def _external(
    runs: list[Path], root: Path, *, manifest: Manifest, split: str, folder: Path, results: Path, ui: Ui
) -> tuple[list[Predictions], str]:
    """Each run's predictions of a data set, one table per run; what is there from an earlier start is kept."""
    from calot.errors import CalotError
    from calot.run.apart import require_another

    splits = manifest.splits if split == _ALL else (split,)
    if not manifest.labelled.any():
        raise CalotError(f"{root}: has no labels: nothing can be scored on it. `calot predict` needs none.")
    tables = []
    for number, run in enumerate(runs):
        require_another(run, root, manifest=manifest)
        where = folder / f"run{number:02d}"
        keep_tables_of(run, where, ui=ui)
        parts = [
            _scored(run, root, split=s, out=where / f"{s}.parquet", manifest=manifest, results=results, ui=ui)
            for s in splits
        ]
        tables.append(_joined(parts))
    return tables, " + ".join(splits)


def keep_tables_of(run: Path, where: Path, *, ui: Ui) -> None:
    """Tables of an earlier start stay where they are of this run's very weights; others are taken away."""
    from calot.provenance.checkpoint_files import weights_digest
    from calot.reading import read_json
    from calot.writing import write_json

    of = {"format": 1, "run": str(run), "weights": weights_digest(run)}
    stated = where / "of.json"
    if stated.is_file() and read_json(stated).get("weights") == of["weights"]:
        return
    for table in sorted(where.glob("*.parquet")):
        ui.say(f"{table}: of another run than {run}, and taken away")
        table.unlink()
    where.mkdir(parents=True, exist_ok=True)
    write_json(stated, of)


def _scored(run: Path, root: Path, *, split: str, out: Path, manifest: Manifest, results: Path, ui: Ui) -> Predictions:
    from calot.cli.openings import counting_test
    from calot.pipeline import predict_run
    from calot.statistics.predictions import load_predictions

    if out.is_file() and (kept := load_predictions(out)).manifest_hash == manifest.hash:
        return kept.with_labels()
    on_open = counting_test(run, split=split, data=root, results=results, ui=ui)
    predict_run(run, split=split, data=root, ui=ui, out=out, on_open=on_open)
    return load_predictions(out).with_labels()


def _joined(parts: list[Predictions]) -> Predictions:
    """Splits of one data set as one table."""
    from dataclasses import replace

    import polars as pl

    from calot.statistics.schema import UNKNOWN

    if len(parts) == 1:
        return parts[0]
    frame = pl.concat([part.frame for part in parts]).with_columns(split=pl.lit(UNKNOWN))
    return replace(parts[0], frame=frame)


def _told(
    runs: list[Path], home: SiteScores, found: list[tuple[Path, Transferred]], *, shared: list[list[str]]
) -> dict[str, Any]:
    from calot import __version__
    from calot.data.readers import reader_of
    from calot.run import folder as run_folder

    own = run_folder.read_data(runs[0])
    at = Path(own["root"])
    rule = reader_of(at).labels_are if at.is_dir() else "not known: the folder is gone"
    return {
        "calot": __version__,
        "runs": [str(run) for run in runs],
        "window": own.get("window"),
        "internal": home.to_dict() | {"root": str(at), "labels_are": rule},
        "external": [
            item.to_dict() | {"root": str(root), "labels_are": reader_of(root).labels_are, "not_external": both}
            for (root, item), both in zip(found, shared, strict=True)
        ],
    }


def _print(home: SiteScores, found: list[tuple[Path, Transferred]], *, told: dict[str, Any]) -> None:
    from calot.cli.printed import points, table_of_columns
    from calot.criteria import CRITERIA, label
    from calot.terminal import print_table

    names = ("map", *CRITERIA)
    shown = table_of_columns("points", "mAP", *(label(c).split()[0] for c in CRITERIA))

    def add(title: str, items: dict[str, Any]) -> None:
        shown.add_row(title, *(_cell(items[name]) for name in names))

    add(f"internal: {home.dataset} {home.split}", home.ap)
    shown.add_row("  chance", *(points(home.chance[name]) for name in names))
    for _, item in found:
        add(f"external: {item.external.dataset} {item.external.split}", item.external.ap)
        shown.add_row("  chance", *(points(item.external.chance[name]) for name in names))
        add("  drop (internal - external)", item.drop)
    print_table(shown)
    for part in (told["internal"], *(dict(e["external"]) | e for e in told["external"])):
        size = f"{part['videos']} videos, {part['frames']:,} frames, manifest {part['manifest_hash'][:12]}"
        print(f"{part['dataset']} {part['split']}: protocol {part['protocol']}, {size}; labels: {part['labels_are']}")
    print("95 % intervals over videos, these checkpoints held fixed; AP depends on how common positives are (chance).")
    for part in told["external"]:
        for video in part["not_external"]:
            print(f"Not external, of {part['root']}: {video}")
    reasons = {item.reason for _, one in found for item in one.drop.values() if item.reason}
    for reason in sorted(reasons):
        print(f"No interval of a drop: {reason}")


def _cell(item: Any) -> str:
    from calot.cli.printed import points
    from calot.statistics.rounding import between

    if item.value is None or item.low is None:
        return points(item.value)
    return f"{points(item.value)} ({between(item.low, item.high)})"
