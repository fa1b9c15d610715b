"""The tables that `calot metrics` and `calot compare` are given: files of any group, or the runs they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from calot.provenance.treatment import Treatment
    from calot.statistics.calibration import Thresholds
    from calot.statistics.frozen import FrozenOnVal
    from calot.statistics.predictions import Predictions, Reading


#: How many differing fields a side's name tells.
_FEW = 3


class ScoreKind(StrEnum):
    """What stands under `logit_<criterion>`."""

    logits = "logits"
    probabilities = "probabilities"


Map = Annotated[
    list[str] | None,
    typer.Option("--map", help="THEIRS=OURS: rename a column, such as score_c1=logit_two_structures. Repeatable."),
]
Kind = Annotated[ScoreKind | None, typer.Option("--scores", help="What the score columns contain.")]
Clip = Annotated[
    bool, typer.Option("--clip-probabilities", help="Score probabilities of exactly 0 or 1 as ties at the ends.")
]
Rate = Annotated[float | None, typer.Option("--fps", help="Frame numbers per second, if the table does not say.")]
ThresholdFile = Annotated[Path | None, typer.Option(help="Thresholds frozen on val, as JSON.")]
Frozen = Annotated[Path | None, typer.Option(help="All values frozen on val, as --freeze wrote them.")]
Freeze = Annotated[Path | None, typer.Option(help="Write the values frozen on this val table here.")]
Sensitivity = Annotated[float | None, typer.Option(help="Also decide at the highest cut with this sensitivity (0.9).")]
Coverage = Annotated[float | None, typer.Option(help="Share of frames whose prediction set has their label (0.9).")]
Held = Annotated[float, typer.Option(help="Seconds for which all three criteria must hold; 0: in one frame.")]


@dataclass
class Runs:
    """The runs of one side: a table for each, and what their receipts prove."""

    tables: list[Predictions] = field(default_factory=list)
    treatments: dict[str, Treatment] = field(default_factory=dict)

    def add(self, run: Path, *, split: str, options: Options) -> None:
        """A run, or a file of predictions, with what its receipt proves."""
        path = table_of(run, split=split)
        self.tables.append(options.load_among_others(path))
        self.treatments[str(run)] = treatment_of_table(path, table=self.tables[-1])


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says of tables that calot did not write."""

    map: tuple[str, ...] = ()
    scores: ScoreKind | None = None
    clip: bool = False
    fps: float | None = None

    def words(self) -> tuple[object, ...]:
        """The same options again, for the next command."""
        pairs = (word for text in self.map for word in ("--map", text))
        scores = () if self.scores is None else ("--scores", self.scores.value)
        fps = () if self.fps is None else ("--fps", f"{self.fps:g}")
        return *pairs, *scores, *(("--clip-probabilities",) if self.clip else ()), *fps

    def reading(self) -> Reading:
        """Raises CalotError where a `--map` is not THEIRS=OURS, or does not name a column of calot."""
        from calot.errors import CalotError
        from calot.statistics.predictions import Reading
        from calot.statistics.scores import ScoreRule

        columns: dict[str, str] = {}
        for text in self.map:
            theirs, sign, ours = text.rpartition("=")
            if not sign or not theirs.strip() or theirs.strip() in columns:
                raise CalotError(f"--map {text}: expected THEIRS=OURS, each once, like score_c1=logit_two_structures")
            columns[theirs.strip()] = ours.strip()
        kind: Literal["logits", "probabilities"] | None = None
        if self.scores is not None:
            kind = "logits" if self.scores is ScoreKind.logits else "probabilities"
        return Reading(columns=columns, scores=ScoreRule(kind=kind, clip=self.clip))

    def load(self, path: Path) -> Predictions:
        """A table as these options read it."""
        from calot.errors import CalotError
        from calot.statistics.predictions import load_predictions

        found = load_predictions(path, reading=self.reading()).with_labels()
        if self.fps is None:
            return found
        if not 0 < self.fps < float("inf"):
            raise CalotError(f"--fps {self.fps}: expected frame numbers per second, more than 0")
        if (known := found.frames_per_second) not in (None, self.fps):
            raise CalotError(f"{path}: states {known:g} frame numbers per second itself, not --fps {self.fps:g}")
        return replace(found, frames_per_second=self.fps)

    def load_among_others(self, path: Path) -> Predictions:
        """The same for several tables: `--scores probabilities` leaves tables of raw logits alone."""
        from calot.errors import CalotError

        if self.scores is not ScoreKind.probabilities:
            return self.load(path)
        try:
            return replace(self, scores=None).load(path)
        except CalotError:
            return self.load(path)


def table_of(path: Path, *, split: str) -> Path:
    """The file itself, or `predictions/<split>.parquet` of a run's folder."""
    from calot.errors import CalotError

    if not path.is_dir():
        return path
    table = path / "predictions" / f"{split}.parquet"
    if not table.is_file():
        have = sorted(item.stem for item in table.parent.glob("*.parquet"))
        if not (path / "experiment.json").is_file() and not have:
            raise CalotError(f"{path}: not a run's folder; give a run, or a table of predictions")
        raise CalotError(f"{path}: no predictions/{split}.parquet; have {have}; make it with: calot evaluate {path}")
    return table


def run_of(path: Path) -> Path | None:
    """The folder of the run that a table belongs to, or None for a bare file."""
    run = path.parent.parent
    return run if path.parent.name == "predictions" and (run / "experiment.json").is_file() else None


def data_of(path: Path) -> Path | None:
    """The data set that the run of a table was described on, where that is a folder here."""
    from calot.reading import read_json

    run = run_of(path)
    try:
        root = None if run is None else _object(read_json(run / "data.json")).get("root")
    except (OSError, ValueError):
        return None
    return Path(root) if isinstance(root, str) and Path(root).is_dir() else None


def treatment_of_table(path: Path, *, table: Predictions) -> Treatment:
    """What the receipt of the run that a table belongs to proves of it. Raises CalotError where the table is another
    run's, or a file of the run was changed."""
    from calot.provenance.custody import Identity, require_own, require_sealed
    from calot.provenance.receipt import Receipt
    from calot.provenance.treatment import NO_RECEIPT, treatment_of

    run = run_of(path)
    if run is None:
        return NO_RECEIPT
    require_sealed(run)
    require_own(table, own=Identity.of_run(run), where=path)
    return treatment_of(Receipt.load(run), fingerprint=table.fingerprint, combination=table.combination)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What the command line says of values chosen on val: a file of them, a file to write, and targets to choose by."""

    thresholds: Path | None = None
    frozen: Path | None = None
    freeze: Path | None = None
    sensitivity: float | None = None
    coverage: float | None = None

    def values_for(self, table: Predictions, *, path: Path) -> tuple[FrozenOnVal | None, str]:
        """Values given, or frozen on val: this table, or the val table beside it; and a note of where."""
        from calot.errors import CalotError
        from calot.statistics.frozen import FrozenOnVal

        found, note = None, "no thresholds (--thresholds, or val.parquet beside the table): decisions are not scored"
        beside = path.with_name("val.parquet")
        if self.frozen is not None:
            if self.sensitivity is not None or self.coverage is not None:
                raise CalotError("--frozen has its own targets: leave out --sensitivity and --coverage")
            found, note = FrozenOnVal.load(self.frozen), f"thresholds and all else frozen in {self.frozen}"
            found.require_same_model(table, where=str(self.frozen))
        elif table.split == "val":
            note = "thresholds were chosen on these same frames: the decisions' rates are optimistic"
            found = self._freeze(table)
        elif path.name != beside.name and beside.is_file():
            found, note = self._freeze(_val_beside(beside)), f"thresholds frozen on {beside}"
        if self.freeze is not None:
            self._write(found, table=table)
        return found, note

    def thresholds_for(self, found: FrozenOnVal | None, *, note: str) -> tuple[Thresholds | None, str]:
        """The thresholds of F1: a file of their own, or those frozen with the rest."""
        from calot.statistics.calibration import Thresholds

        if self.thresholds is not None:
            return Thresholds.load(self.thresholds), f"thresholds from {self.thresholds}"
        return (None if found is None else found.thresholds), note

    def _freeze(self, val: Predictions) -> FrozenOnVal:
        from calot.statistics.frozen import SENSITIVITY, freeze
        from calot.statistics.prediction_sets import LEVEL

        sensitivity = SENSITIVITY if self.sensitivity is None else self.sensitivity
        return freeze(val, sensitivity=sensitivity, level=LEVEL if self.coverage is None else self.coverage)

    def _write(self, found: FrozenOnVal | None, *, table: Predictions) -> None:
        from calot.destination import require_free_file
        from calot.errors import CalotError

        if found is None or self.freeze is None or not found.is_own(table) or table.split == "test":
            raise CalotError(f"--freeze {self.freeze}: {table.source} is not val; values are frozen on val predictions")
        require_free_file(self.freeze, inputs=[Path(table.source)], option="--freeze")
        found.write(self.freeze)


def _val_beside(path: Path) -> Predictions:
    from calot.statistics.predictions import load_predictions

    return load_predictions(path).with_labels()


def sides_of(runs: list[Path], *, split: str, options: Options) -> dict[str, Runs]:
    """Runs of one experiment, differing only in seed, form one side; a lone file is a separate side.

    A side is named by its experiment and what was changed in it, so that no two have one name.
    """
    asked: dict[str, _Asked] = {}
    sides: dict[str, Runs] = {}
    for run in runs:
        found = _asked_of(table_of(run, split=split), given=run)
        asked.setdefault(found.key, found)
        sides.setdefault(found.key, Runs()).add(run, split=split, options=options)
    names = _told_apart(list(asked.values()))
    return {name: sides[key] for name, key in zip(names, asked, strict=True)}


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What one run was asked for: its name with its changes, and the fields of its resolved experiment."""

    given: Path
    name: str
    fields: Mapping[str, Any]
    key: str


def _asked_of(path: Path, *, given: Path) -> _Asked:
    """The treatment that the run of a table resolved to, without its seed; a lone file stands for itself."""
    from calot.errors import CalotError
    from calot.provenance.run_facts import changed_name, is_treatment, leaves
    from calot.reading import read_json

    run = run_of(path)
    if run is None:
        return _Asked(given=given, name=str(path), fields={}, key=str(path))
    source = run / "experiment.json"
    try:
        record = _object(read_json(source))
        resolved = _object(record.get("experiment", {}))
        value = {key: item for key, item in resolved.items() if key != "seed" and is_treatment(key)}
        fields = leaves(value) | {"scale": record.get("scale")}
        key = json.dumps([record["name"], value, record.get("scale")], sort_keys=True)
        return _Asked(given=given, name=changed_name(record), fields=fields, key=key)
    except (OSError, ValueError, KeyError) as error:
        raise CalotError(f"{source}: not a run's experiment ({error!r}); run the experiment again") from error


def _told_apart(asked: list[_Asked]) -> list[str]:
    """Their names; of equal ones each with the fields in which they differ, else with the folder given."""
    names = [item.name for item in asked]
    shown = []
    for item in asked:
        alike = [other for other in asked if other.name == item.name]
        if len(alike) == 1:
            shown.append(item.name)
            continue
        every = dict.fromkeys(name for other in alike for name in other.fields)
        apart = [n for n in every if len({json.dumps(o.fields.get(n), sort_keys=True) for o in alike}) > 1]
        more = f" and {len(apart) - _FEW} more" if len(apart) > _FEW else ""
        values = " ".join(f"{name}={item.fields.get(name)}" for name in apart[:_FEW])
        shown.append(f"{item.name} {values}{more}".rstrip())
    return [name if shown.count(name) == 1 else f"{names[i]} in {asked[i].given}" for i, name in enumerate(shown)]


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, found {type(value).__name__}")
    return value
