"""Another group's predictions beside a data set's own labels: their number reproduced, and what a protocol changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from calot.criteria import CRITERIA
from calot.data.clips import Protocol
from calot.data.manifest import Manifest
from calot.data.readers import DataFolder, open_folder
from calot.errors import CalotError
from calot.importing.layouts import layout_of
from calot.importing.their_table import Asked, Labels, Place, PredictionLayout, Scores, TheirTable
from calot.statistics.intervals import video_intervals
from calot.statistics.jackknife import interval_fields
from calot.statistics.metrics import average_precision
from calot.statistics.predictions import Predictions
from calot.statistics.scores import ScoreRule, as_logits

#: How far a file's own mAP may be from the one that its scores give: it is printed with four digits.
PRINTED_TO = 1e-4


@dataclass(frozen=True, kw_only=True)
class ScoredRows:
    """One way of scoring the same predictions: mAP, AP by criterion, on how many frames, and what differs."""

    name: str
    map: float | None
    ap: dict[str, float | None]
    frames: int
    said: str


@dataclass(frozen=True, kw_only=True)
class ImportedPredictions:
    """The file's number, the number under a protocol with its interval, and each step between them."""

    layout: str
    source: str
    entry: str
    printed: float | None
    published: ScoredRows | None
    steps: tuple[ScoredRows, ...]
    ties: tuple[float, float] | None
    selection: str
    interval: dict[str, Any]
    notes: tuple[str, ...]
    table: Predictions

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the table."""
        told = {name: value for name, value in vars(self).items() if name not in ("table", "steps", "published")}
        steps = [asdict(step) for step in self.steps]
        published = None if self.published is None else asdict(self.published)
        facts = {"dataset": self.table.dataset, "split": self.table.split, "protocol": self.table.protocol}
        return told | facts | {"published": published, "steps": steps, "manifest_hash": self.table.manifest_hash}


def import_predictions(
    path: Path, *, data: Path, split: str, protocol: Protocol, layout: str | None = None, entry: str | None = None
) -> ImportedPredictions:
    """Read another group's file and join it to a data set. Raises CalotError where the two do not belong together."""
    kind, folder = layout_of(path, name=layout), open_folder(data)
    if kind.by_letter and folder.manifest.dataset.startswith("cholec80"):
        raise CalotError(
            f"{path}: criteria by letter are in Endoscapes' order, and Cholec80-CVS has columns 2 and 3 the other way "
            "round. Name them (logit_cystic_plate ...) and use --layout plain."
        )
    if entry is not None and not kind.has_entries:
        raise CalotError(f"--entry {entry}: {kind.name}'s files have no entries; leave it out")
    theirs = kind.read(path, asked=Asked(entry=entry))
    if not len(theirs.scores):
        raise CalotError(f"{path}: holds no row of predictions")
    if theirs.labels is not None and len(theirs.labels) != len(theirs.scores):
        where = f"{path}, {theirs.entry}" if theirs.entry else str(path)
        raise CalotError(f"{where}: {len(theirs.scores)} rows of scores and {len(theirs.labels)} of labels")
    places = _places(theirs, kind, folder=folder, split=split, path=path)
    if len(set(places)) != len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise CalotError(f"{path}: video {twice[0]}, frame {twice[1]} is in two rows. Give one per frame.")
    published = None
    if theirs.labels is not None:
        said = "their frames, labels and scores, as the file has them"
        published = _score("as published", theirs.scores, theirs.labels, said=said)
        _require_printed(theirs, published, path=path)
    return _under_protocol(theirs, places, published, kind=kind, folder=folder, split=split, protocol=protocol)


def _places(
    theirs: TheirTable, kind: PredictionLayout, *, folder: DataFolder, split: str, path: Path
) -> Sequence[Place]:
    if theirs.places is not None:
        return theirs.places
    part = folder.manifest.split(split)
    order = kind.order(part, root=folder.root)
    if len(order) != len(theirs.scores):
        raise CalotError(
            f"{path}: {len(theirs.scores)} rows without ids, and {kind.name}'s order has {len(order)} for split "
            f'"{split}" of {folder.root}: another split or another data set.'
        )
    if theirs.labels is not None:
        own = dict(zip(zip(part.videos, part.frames.tolist(), strict=True), part.labels, strict=True))
        other = sum(
            place not in own or not np.array_equal(own[place], row)
            for place, row in zip(order, theirs.labels, strict=True)
        )
        if other:
            raise CalotError(
                f"{path}: in {kind.name}'s order the labels of {other} of {len(order)} rows are not those of "
                f"{folder.root}: rows without ids cannot be told apart. Use a layout with ids."
            )
    return order


def _require_printed(theirs: TheirTable, published: ScoredRows, *, path: Path) -> None:
    if theirs.printed is None or published.map is None:
        return
    if abs(theirs.printed - published.map) > PRINTED_TO:
        raise CalotError(
            f"{path}: states mAP {theirs.printed:.4f}, and its own scores and labels give {published.map:.4f}. It was "
            "edited, or is another version's: nothing of it is taken."
        )


def _under_protocol(
    theirs: TheirTable,
    places: Sequence[Place],
    published: ScoredRows | None,
    *,
    kind: PredictionLayout,
    folder: DataFolder,
    split: str,
    protocol: Protocol,
) -> ImportedPredictions:
    own = _own_rows(folder.manifest.split(split), protocol=protocol)
    known = np.array([place in own for place in places])
    asked = np.array([place in own and own[place][2] for place in places])
    if not asked.any():
        raise CalotError(
            f'{folder.root}: none of the {len(places)} rows is a frame that "{protocol.name}" scores in split '
            f'"{split}"; the first is video {places[0][0]}, frame {places[0][1]}. '
            + _where_else(places, folder, split=split)
        )
    wanted = sum(row[2] for row in own.values())
    logits, said = _logits(theirs)
    labels = np.array([own[place][0] if place in own else (-1, -1, -1) for place in places], dtype=np.int8)
    judged = known & (labels >= 0).all(axis=1)
    steps = _relabelled(theirs, labels, judged) if theirs.labels is not None and judged.any() else []
    missing = wanted - int(asked.sum())
    text = (
        f"{protocol.name}: {int(asked.sum())} of its {wanted} frames; {int((~asked).sum())} rows of the file are not "
        f"among them, {missing} frames have no row"
    )
    steps.append(_score("frames", theirs.scores[asked], labels[asked], said=text))
    ties = _broken_ties(theirs.scores[asked], labels[asked])
    shown = (
        ""
        if ties is None
        else f"; with ties broken against and for the model {100 * ties[0]:.2f} to {100 * ties[1]:.2f}"
    )
    text = f"scores kept as float32 logits{shown}"
    steps.append(_score("rounding", logits[asked].astype(np.float64), labels[asked], said=text))
    table = _table(places, own, logits, asked, folder=folder, split=split, protocol=protocol)
    found = video_intervals(table)
    notes = (
        *theirs.notes,
        *said,
        *((f"{missing} of the protocol's frames have no row: not comparable with all of them",) if missing else ()),
    )
    return ImportedPredictions(
        layout=kind.name,
        source=kind.source,
        entry=theirs.entry,
        printed=theirs.printed,
        published=published,
        steps=tuple(steps),
        ties=ties,
        selection=_selection(theirs),
        interval={name: interval_fields(item) for name, item in {"map": found.map, **found.ap}.items()},
        notes=notes,
        table=replace(table, notes=notes),
    )


def _where_else(places: Sequence[Place], folder: DataFolder, *, split: str) -> str:
    """What to try where no row is scored in a split: the one that holds the most of their videos."""
    split_of = dict(folder.manifest.table.select("video", "split").unique().rows())
    found = Counter(split_of[video] for video, _ in places if video in split_of)
    if not found:
        return "The data set has none of these videos."
    most = found.most_common(1)[0][0]
    return "Its videos are there, these frames are not." if most == split else f"Try --split {most}."


def _own_rows(part: Manifest, *, protocol: Protocol) -> dict[Place, tuple[Any, Any, bool]]:
    """Of each frame of a split its labels, rater means, and whether the protocol scores it."""
    places = zip(part.videos, part.frames.tolist(), strict=True)
    scored = (protocol.scored(part) & part.labelled).tolist()
    return dict(zip(places, zip(part.labels, part.soft, scored, strict=True), strict=True))


def _relabelled(theirs: TheirTable, labels: Labels, judged: np.ndarray) -> list[ScoredRows]:
    """The file's rows with the data set's own labels, where it has them."""
    assert theirs.labels is not None
    differ = int((labels[judged] != theirs.labels[judged]).any(axis=1).sum())
    text = f"the data set's majority of raters in place of the file's labels: {differ} frames differ"
    return [_score("labels", theirs.scores[judged], labels[judged], said=text)]


def _selection(theirs: TheirTable) -> str:
    if len(theirs.others) < 2:
        return theirs.selection
    values = list(theirs.others.values())
    return (
        f"{theirs.selection}: {100 * max(values):.2f}; the mean over them is {100 * float(np.mean(values)):.2f}, "
        f"the last {100 * values[-1]:.2f}"
    )


def _score(name: str, scores: Scores, labels: Labels, *, said: str) -> ScoredRows:
    ap = {c: average_precision(labels[:, k], scores[:, k]) for k, c in enumerate(CRITERIA)}
    values = [value for value in ap.values() if value is not None]
    whole = float(np.mean(values)) if len(values) == len(CRITERIA) else None
    return ScoredRows(name=name, map=whole, ap=ap, frames=len(scores), said=said)


def _broken_ties(scores: Scores, labels: Labels) -> tuple[float, float] | None:
    """mAP over the defined criteria if every tie went against the model, and if every one went for it; None where no
    criterion has a positive."""
    found = []
    for sign in (1, -1):
        values = []
        for k in range(len(CRITERIA)):
            order = np.lexsort((sign * labels[:, k], -scores[:, k]))
            rank = np.empty(len(order))
            rank[order] = -np.arange(len(order), dtype=np.float64)
            values.append(average_precision(labels[:, k], rank))
        defined = [value for value in values if value is not None]
        if not defined:
            return None
        found.append(float(np.mean(defined)))
    return found[0], found[1]


def _logits(theirs: TheirTable) -> tuple[np.ndarray, tuple[str, ...]]:
    if theirs.logits:
        return theirs.scores.astype(np.float32), ()
    frame = pl.DataFrame({f"prob_{c}": theirs.scores[:, k] for k, c in enumerate(CRITERIA)})
    done, said = as_logits(frame, scores=ScoreRule(kind="probabilities", clip=True), source="their scores")
    return done.select([f"logit_{c}" for c in CRITERIA]).to_numpy().astype(np.float32), said


def _table(
    places: Sequence[Place],
    own: dict[Place, tuple[Any, Any, bool]],
    logits: np.ndarray,
    asked: np.ndarray,
    *,
    folder: DataFolder,
    split: str,
    protocol: Protocol,
) -> Predictions:
    manifest, rows = folder.manifest, []
    for row in np.flatnonzero(asked).tolist():
        labels, soft, _ = own[places[row]]
        fields: dict[str, Any] = {"video": places[row][0], "frame": places[row][1]}
        for k, criterion in enumerate(CRITERIA):
            fields |= {f"logit_{criterion}": float(logits[row, k])}
            fields |= {f"label_{criterion}": int(labels[k]), f"soft_{criterion}": float(soft[k])}
        rows.append(fields)
    facts = {"dataset": manifest.dataset, "split": split, "protocol": protocol.name}
    return Predictions(
        frame=pl.DataFrame(rows).with_columns(pl.lit(value).alias(name) for name, value in facts.items()),
        manifest_hash=manifest.hash,
        frames_per_second=manifest.numbering.per_second,
        source="imported predictions",
    )
