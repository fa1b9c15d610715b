"""The review page of an assessed operation: a player, what the model says on its seek bar, and the reader's own marks.

One offline HTML file beside the recordings, which it refers to by relative paths and never contains.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from calot.criteria import CRITERIA, label
from calot.errors import CalotError
from calot.reading import require_file
from calot.report.page import page_templates, template_source
from calot.report.review_marks import Mark
from calot.report.review_tracks import CriterionTrack, fault_marks, tracks_of
from calot.report.timelines import clock
from calot.statistics.assessment import HELD, STILLS, Assessment
from calot.statistics.calls import passages
from calot.writing import write_text

PAGE = "review.html"


@dataclass(frozen=True, kw_only=True)
class Still:
    """A picture for the operative note, as a data address, and its moment."""

    title: str
    second: float
    source: Markup


def write_review(folder: Path, *, recordings: Sequence[Path] | None, marks: Sequence[Mark] = ()) -> Path:
    """Write `review.html` into an assessed operation's folder.

    Without `recordings` the page names none, and asks for them when it is opened. Raises CalotError where the folder
    is not a finished assessment, or the recordings are not as many as were assessed.
    """
    made = Assessment.read(folder)
    files = made.facts["recordings"]
    if recordings is not None and len(recordings) != len(files):
        raise CalotError(f"{folder}: {len(files)} recordings were assessed and {len(recordings)} given. Give them all.")
    sources = [None] * len(files) if recordings is None else [_relative(path, folder=folder) for path in recordings]
    tracks = tracks_of(made)
    data = {
        "name": made.facts["name"],
        "key": "".join(made.facts["plan"]["recordings"])[:48],
        "seconds": made.facts["seconds"],
        "files": [
            {"begins": file["begins"], "seconds": file["seconds"], "source": source}
            for file, source in zip(files, sources, strict=True)
        ],
        "transitions": _transitions(made),
        "held": None if made.facts["held"] is None else made.facts["held"]["start"],
        "criteria": [{"id": name, "label": label(name)} for name in CRITERIA],
        "raters": [asdict(mark) for mark in marks],
    }
    return write_text(folder / PAGE, _render(made, folder=folder, tracks=tracks, data=data))


def _render(made: Assessment, *, folder: Path, tracks: Sequence[CriterionTrack], data: dict[str, Any]) -> str:
    environment = page_templates()
    names = ("style.css", "review.css", "review.js")
    base, own, script = (template_source(name, environment=environment) for name in names)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    facts = made.facts
    return environment.get_template("review.html").render(
        style=base + own,
        script=script,
        script_digest=f"sha256-{digest}",
        data=Markup(json.dumps(data).replace("<", "\\u003c")),
        facts=facts,
        tracks=tracks,
        faults=fault_marks(made),
        stills=_stills(made, folder=folder),
        unseen=_unseen(made),
        lines=_summary(facts),
        criteria=[(name, label(name)) for name in CRITERIA],
        clock=clock,
        sets=_sets(facts),
        raters=bool(data["raters"]),
    )


def _relative(path: Path, *, folder: Path) -> str:
    """Where a recording lies from the page, as an address."""
    require_file(path, remedy="Give the recordings that were assessed, in order.")
    try:
        text = os.path.relpath(path.resolve(), folder.resolve())
    except ValueError as error:  # another drive
        raise CalotError(
            f"{path}: lies on another drive than {folder}; use --unlinked: the page then asks for it."
        ) from error
    return quote(Path(text).as_posix())


def _transitions(made: Assessment) -> list[dict[str, Any]]:
    """Every moment at which a call changes, with what it becomes."""
    seconds = made.scores["time"].to_numpy().astype(np.int64)
    found = []
    for name in CRITERIA:
        spans = passages(
            made.scores[f"call_{name}"].to_list(), seconds=seconds, step=made.facts["plan"]["every_seconds"]
        )
        found += [{"time": span.start, "text": f"{label(name)}: {span.what}"} for span in spans[1:]]
    return sorted(found, key=lambda item: (item["time"], item["text"]))


def _stills(made: Assessment, *, folder: Path) -> list[Still]:
    found = []
    for name, moment in made.facts["moments"].items():
        path = folder / STILLS / f"{name}.jpg"
        try:
            data = base64.b64encode(path.read_bytes()).decode("ascii")
        except OSError as error:
            raise CalotError(f"{path}: cannot be read ({error.strerror}). Assess the operation again.") from error
        title = "All three held" if name == HELD else f"{label(name)}, best"
        found.append(Still(title=title, second=moment["second"], source=Markup(f"data:image/jpeg;base64,{data}")))
    return found


def _unseen(made: Assessment) -> list[tuple[str, str, float, float]]:
    """Spans that are not assessable: of what, why, from when to when."""
    return [
        (
            "all criteria" if span["criterion"] is None else label(span["criterion"]),
            span["reason"],
            span["start"],
            span["end"],
        )
        for span in made.facts["not_assessable"]
    ]


def _summary(facts: dict[str, Any]) -> list[str]:
    total = facts["seconds"]
    said = [f"{label(n)}: achieved in {clock(s)} of {clock(total)}." for n, s in facts["achieved_seconds"].items()]
    runs = facts["plan"]["runs"]
    seeds = ", ".join(str(run["seed"]) for run in runs)
    said.append(
        f"{facts['plan']['experiment']}, seed{'s' if len(runs) > 1 else ''} {seeds}; {facts['plan']['window']}."
    )
    return said


def _sets(facts: dict[str, Any]) -> str:
    """What stands behind an abstention, in a sentence."""
    frozen = facts["frozen_on_val"]
    if frozen is None:
        return "No val predictions stand beside the run, so nothing is decided: only scores are shown."
    if not facts["plan"]["abstains"]:
        return "Thresholds frozen on val decide alone; the model was not let abstain."
    if None in frozen["limits"].values():
        return (
            f"{frozen['videos']} val operations are too few for prediction sets at {frozen['coverage']:.0%}: where "
            "there is no limit, the threshold decides alone."
        )
    return (
        f"The model abstains where its threshold and its {frozen['coverage']:.0%} prediction set, both frozen on "
        f"{frozen['videos']} val operations, do not say the same."
    )
