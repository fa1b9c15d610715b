"""The page of `calot explain`: one offline HTML file from the parts that lie in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import escape

from calot.errors import CalotError
from calot.report.explaining.section import Section, SectionView, absent_view
from calot.report.explaining.sections import PARTS, section_named
from calot.report.page import render
from calot.report.tables import Fact
from calot.report.verdict import PHANTOM_BANNER, Reason, Stamp, Verdict
from calot.statistics.findings import Findings
from calot.writing import write_text

EXPLAIN_PAGE = "explain.html"


@dataclass(frozen=True, kw_only=True)
class ShownPart:
    """A part as the page shows it."""

    section: Section
    found: Findings
    view: SectionView


def read_parts(folder: Path) -> list[ShownPart]:
    """The parts that lie in a folder, in the order of the page. Raises CalotError where there is none."""
    shown = []
    for name in PARTS:
        if not (Path(folder) / f"{name}.json").is_file():
            continue
        section, found = section_named(name), Findings.read(Path(folder), name=name)
        absent = found.facts.get("absent")
        view = section.view(found) if absent is None else absent_view(section, why=absent)
        shown.append(ShownPart(section=section, found=found, view=view))
    if not shown:
        raise CalotError(f"{folder}: nothing that `calot explain` wrote; run it first")
    return shown


def write_explain_page(folder: Path) -> Path:
    """Write `explain.html` from the parts in a folder. Raises CalotError where they cannot be read."""
    text = render("explain.html", context=explain_context(read_parts(folder)))
    return write_text(Path(folder) / EXPLAIN_PAGE, text)


def explain_context(shown: list[ShownPart]) -> dict[str, Any]:
    """The values of `explain.html`."""
    about = shown[-1].found.subject
    run = about["run"]
    headline = next((one.view.headline for one in shown if one.view.headline), "")
    reasons: list[Reason] = [reason for one in shown for reason in one.view.reasons]
    return {
        "title": f"Explanations of {run['name']}, seed {run['seed']}",
        "kicker": f"calot explain · {about['split']} · {about['of']} clips of {about['videos']} videos",
        "heading": run["name"],
        "banners": [PHANTOM_BANNER] if run["synthetic"] else [],
        "stamps": [Stamp("synthetic data", warn=True)] if run["synthetic"] else [],
        "verdict": Verdict(headline=escape(headline or f"What {run['name']} sees, part by part."), reasons=reasons),
        "contents": [("verdict", "In short"), ("run", "The run"), *((s.section.name, s.section.title) for s in shown)],
        "facts": _facts(about),
        "parts": shown,
        "footer": f"Written by calot {about['calot']} from {Path(run['folder']).name}. One file, no network.",
    }


def _facts(about: Mapping[str, Any]) -> list[Fact]:
    run = about["run"]
    return [
        Fact(name="Run", text=f"{run['name']}, seed {run['seed']}"),
        Fact(name="Data", text=f"{run['dataset']}{', synthetic' if run['synthetic'] else ''}"),
        Fact(
            name="Split", text=f"{about['split']}: {about['of']} clips of {about['videos']} videos, {about['protocol']}"
        ),
        Fact(name="Clips per group", text=str(about["clips"])),
        Fact(name="Encoder", text=run["backbone"], wide=True),
        Fact(name="Pooling", text=run["pooling"], wide=True),
    ]
