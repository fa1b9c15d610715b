"""`study.html` and `study.md`: the document of a study's folder, made from its runs alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from calot.destination import require_free_file
from calot.errors import CalotError
from calot.report.page import render
from calot.report.study.answers import conclusion_blocks, question_blocks
from calot.report.study.blocks import Document, DocumentSection, document_markdown
from calot.report.study.causes import cause_blocks
from calot.report.study.folder import StudyFolder, read_study
from calot.report.study.sections import (
    experiment_blocks,
    ladder_blocks,
    limit_blocks,
    published_blocks,
    summary_blocks,
)
from calot.report.study.tuning import tuning_blocks
from calot.report.verdict import PHANTOM_BANNER, Reason, Stamp, Verdict, spoken_list
from calot.statistics.rounding import how_many
from calot.writing import write_text

HTML, MARKDOWN = "study.html", "study.md"
#: What counts as held against its baseline: there is an interval.
_HELD = ("better", "worse", "within", "no evidence")


@dataclass(frozen=True, kw_only=True)
class WrittenStudy:
    """Where the document lies, and what it says first."""

    html: Path
    markdown: Path
    headline: str
    missing: tuple[str, ...]


def write_study(folder: Path, *, on_pair: Callable[[int, int], None] | None = None) -> WrittenStudy:
    """Write both from the runs in a folder, of a study that is finished or not; `on_pair` hears of each comparison.

    Raises CalotError where no run is finished, a run cannot be read, or runs were scored under two protocols.
    """
    study = read_study(folder)
    if not study.finished:
        raise CalotError(f"{folder}: no run of this study is finished yet: calot study ... --out {folder} --resume")
    study.compare_all(on_pair)
    document = study_document(study)
    missing = tuple(f"{e.name} {run}" for e in study.experiments.values() for run in e.absent)
    for name in (HTML, MARKDOWN):
        require_free_file(study.path / name, option="the document")
    return WrittenStudy(
        html=write_text(study.path / HTML, render("study.html", context=_context(document))),
        markdown=write_text(study.path / MARKDOWN, document_markdown(document)),
        headline=document.verdict.headline.striptags(),
        missing=missing,
    )


def study_document(study: StudyFolder) -> Document:
    """All chapters."""
    each = [
        block
        for number, one in enumerate(study.experiments.values())
        for block in experiment_blocks(study, one, number=number)
    ]
    chapters = (
        ("summary", "Summary", summary_blocks(study)),
        ("ladder", "Progress ladder", ladder_blocks(study)),
        ("questions", "The study’s questions", question_blocks(study)),
        ("conclusions", "Its wrong conclusions", conclusion_blocks(study)),
        ("causes", "Root causes", cause_blocks(study)),
        ("tuned", "Tuned on both sides", tuning_blocks(study)),
        ("experiments", "Experiments one by one", each),
        ("published", "Published systems", published_blocks(study)),
        ("limits", "Limits", limit_blocks(study)),
    )
    runs, name = study.finished, study.path.resolve().name
    return Document(
        title=f"{name}: a study by calot",
        kicker=f"calot study · {len(runs)} finished runs of {len(study.experiments)} experiments · val",
        heading=name,
        banners=[PHANTOM_BANNER] if any(run.synthetic for run in runs) else [],
        stamps=_stamps(study),
        verdict=Verdict(headline=_headline(study), reasons=_reasons(study)),
        sections=[DocumentSection(anchor=a, title=t, blocks=blocks) for a, t, blocks in chapters],
        source=f"Written by calot from the runs in {name} alone.",
    )


def _context(document: Document) -> dict[str, Any]:
    names = ("title", "kicker", "heading", "banners", "stamps", "verdict", "sections")
    contents = [("verdict", "In short"), *((s.anchor, s.title) for s in document.sections)]
    footer = f"{document.source} One file, no network."
    return {name: getattr(document, name) for name in names} | {"contents": contents, "footer": footer}


def _headline(study: StudyFolder) -> Markup:
    made = [found for found in study.against_baselines.values() if found.kind in _HELD]
    if not made:
        return Markup("No experiment could be held against its baseline.")
    apart = sum(found.kind in ("better", "worse") for found in made)
    return Markup("Of {} experiments held against their baselines, <strong>{}</strong> called different.").format(
        len(made), f"{apart} {'is' if apart == 1 else 'are'}"
    )


def _reasons(study: StudyFolder) -> list[Reason]:
    by_kind: dict[str, list[str]] = {}
    for found in study.against_baselines.values():
        by_kind.setdefault(found.called, []).append(f"{found.a} ({found.b})")
    told = [
        Reason(f"{kind[0].upper()}{kind[1:]}:", f"{spoken_list(names)}.") for kind, names in sorted(by_kind.items())
    ]
    if told:
        told.append(Reason("In brackets", "stands what each is held against."))
    missing = {e.name: len(e.left) for e in study.experiments.values() if e.left}
    if missing:
        text = spoken_list([f"{name} ({count})" for name, count in missing.items()])
        told.append(Reason("Not finished:", f"runs of {text}, named under Summary."))
    failed = {e.name: [str(run.seed) for run in e.side.failed] for e in study.experiments.values() if e.side.failed}
    if failed:
        named = spoken_list([f"{name} (seed {', '.join(seeds)})" for name, seeds in failed.items()])
        told.append(Reason("Left out:", f"{named}: a check of the receipt failed, so they are in no number."))
    if any(run.is_random_control for run in study.finished):
        names = sorted({run.name for run in study.finished if run.is_random_control})
        told.append(Reason("Control:", f"{spoken_list(names)}: a frozen backbone that was never trained."))
    return told


def _stamps(study: StudyFolder) -> list[Stamp]:
    runs = [run for one in study.experiments.values() for run in one.runs]
    invalid = sum(run.treatment.invalid for run in runs)
    bare = sum(run.treatment.status == "unverified" for run in runs)
    waiting = sum(len(one.left) for one in study.experiments.values())
    found = [Stamp(f"INVALID: {invalid} of {len(runs)}", warn=True)] if invalid else []
    found += [Stamp(f"not finished: {how_many(waiting, 'run')}", warn=True)] if waiting else []
    found += [Stamp(f"treatment unverified: {bare} of {len(runs)}", warn=True)] if bare else []
    found += [Stamp(f"protocol: {runs[0].data.get('protocol')}")]
    return [*found, Stamp(f"scale {runs[0].experiment.get('scale')}")]
