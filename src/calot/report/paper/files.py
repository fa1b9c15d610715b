"""`calot report RUNS --paper --out DIR`: every file that a paper needs of a folder of runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calot.criteria import CRITERIA
from calot.destination import require_folder
from calot.errors import CalotError
from calot.report.paper.checklists import (
    CHECKLISTS,
    checklist_csv,
    checklist_markdown,
    filled_checklist,
    unfilled,
)
from calot.report.paper.drawings import draw_figures
from calot.report.paper.facts import PaperFacts
from calot.report.paper.latex import latex_document, latex_escaped, latex_paragraph, latex_table
from calot.report.paper.supplement import DECISION_HEADS, SUBGROUP_HEADS, decision_rows, subgroup_rows
from calot.report.paper.words import data_card, methods_text, model_card
from calot.report.study.folder import TUNED, StudyFolder, read_study
from calot.report.study.tables import scores_table, standing_table, training_table
from calot.statistics.intervals import Interval
from calot.writing import write_text

_CAPTIONS = {
    "scores": "Macro mAP and average precision on val, mean over seeds, with 95 % intervals over videos.",
    "differences": "Each experiment against its baseline on the same videos, with what the design could find.",
    "training": "What the treatment receipts prove, epochs chosen, and parameters trained.",
    "curves": "mAP over epochs: val (each seed thin, mean bold) and clean training clips (grey).",
}
_FIGURES = ("scores", "differences", "curves")
_PHANTOM = "Phantom data: these scores mean nothing clinically. "


@dataclass(frozen=True, kw_only=True)
class WrittenPaper:
    """The files, a sentence about them, and the items of the checklists that the runs cannot fill."""

    files: tuple[Path, ...]
    said: str
    unfilled: tuple[str, ...]


def write_paper(folder: Path, *, out: Path, on_pair: Callable[[int, int], None] | None = None) -> WrittenPaper:
    """Write all of it into `out`; the same runs give the same bytes.

    Raises CalotError where no run is finished, runs cannot stand in one table, or `out` is a file.
    """
    study = read_study(folder)
    if not study.finished:
        raise CalotError(f"{folder}: no run here is finished, so there is nothing to report yet")
    require_folder(out, records=["methods.md"])
    study.compare_all(on_pair)
    facts = PaperFacts(study=study)
    texts = {**_tables(study, synthetic=facts.run.synthetic), **_texts(facts)}
    drawn = draw_figures(study, out=out)
    texts["paper.tex"] = _sheet(study, drawn=list(drawn))
    lists = {name: filled_checklist(name, known=facts.evidence()) for name in CHECKLISTS}
    for name, items in lists.items():
        texts[f"{name}.md"] = checklist_markdown(items, title=CHECKLISTS[name])
        texts[f"{name}.csv"] = checklist_csv(items)
    files = [write_text(out / name, text) for name, text in texts.items()]
    files += [path for paths in drawn.values() for path in paths]
    left = tuple(f"{name} {item}" for name, items in lists.items() for item in unfilled(items))
    filled = sum(len(items) for items in lists.values()) - len(left)
    said = f"{len(files)} files; {filled} checklist items have evidence in the runs, {len(left)} are for the authors."
    said = " ".join([said, *_left_out(study, drawn=drawn)])
    return WrittenPaper(files=tuple(sorted(files)), said=said, unfilled=left)


def _left_out(study: StudyFolder, *, drawn: Mapping[str, object]) -> list[str]:
    """Sentences on what a reader may look for and is not there."""
    undrawn = [name for name in _CAPTIONS if name in _FIGURES and name not in drawn]
    said = [f"No figure {name}: no run here has anything for it." for name in undrawn]
    if (study.path / TUNED).is_dir():
        said.append(f"{study.path / TUNED} stays out of every file; calot report {study.path} --study shows it.")
    return said


def _tables(study: StudyFolder, *, synthetic: bool) -> dict[str, str]:
    warned = _PHANTOM if synthetic else ""
    made = {"scores": scores_table(study), "differences": standing_table(study), "training": training_table(study)}
    found = {
        f"{name}.tex": latex_table(table, label=name, caption=f"{warned}{_CAPTIONS[name]}")
        for name, table in made.items()
    }
    beyond = {
        "subgroups.csv": _csv(SUBGROUP_HEADS, subgroup_rows(study)),
        "decisions.csv": _csv(DECISION_HEADS, decision_rows(study)),
    }
    return found | beyond | {"scores.csv": _scores_csv(study), "differences.csv": _differences_csv(study)}


def _texts(facts: PaperFacts) -> dict[str, str]:
    methods = methods_text(facts)
    body = "\n\n".join(latex_paragraph(part) for part in methods.split("\n\n")[1:])
    return {
        "methods.md": methods,
        "methods.tex": f"\\section*{{Methods}}\n{body}",
        "references.bib": "\n\n".join(reference.entry for reference in facts.references) + "\n",
        "model_card.md": model_card(facts),
        "data_card.md": data_card(facts),
    }


def _sheet(study: StudyFolder, *, drawn: Sequence[str]) -> str:
    """The file that shows all tables and figures; figures as PDF."""
    inputs = [r"\input{methods}", *(rf"\input{{{name}}}" for name in ("scores", "differences", "training"))]
    for name in drawn:
        inputs += [
            r"\begin{figure}\centering",
            rf"\includegraphics[width=\linewidth]{{{name}.pdf}}",
            rf"\caption{{{latex_escaped(_CAPTIONS[name])}}}",
            r"\end{figure}",
        ]
    return latex_document(inputs, title=study.path.resolve().name)


def _scores_csv(study: StudyFolder) -> str:
    """Shares, not points, in full precision."""
    rows = []
    for name, one in study.experiments.items():
        held, seeds = one.intervals, " ".join(str(run.seed) for run in one.sound)
        if held is None:
            rows.append([name, seeds, "", "", "", *[""] * (3 * len(CRITERIA)), one.side.treatment.stamp])
            continue
        each = [part for item in (held.map, *(held.ap[c] for c in CRITERIA)) for part in _parts(item)]
        rows.append([name, seeds, *each, one.side.treatment.stamp or "receipts hold"])
    ends = [f"{q}{end}" for q in ("map", *(f"ap_{c}" for c in CRITERIA)) for end in ("", "_low", "_high")]
    return _csv(["experiment", "seeds", *ends, "receipts"], rows)


def _differences_csv(study: StudyFolder) -> str:
    rows = []
    for name, found in study.against_baselines.items():
        item = None if found.comparison is None else found.comparison.map
        values = ["", "", "", "", ""]
        if item is not None:
            values = [_text(v) for v in (item.value, item.low, item.high, item.p, item.minimum_detectable)]
        about = "" if found.comparison is None else found.comparison.about
        rows.append([name, found.b, *values, found.called, about, "; ".join(found.notes)])
    heads = [
        "experiment",
        "baseline",
        "difference",
        "low",
        "high",
        "p",
        "minimum_detectable",
        "verdict",
        "about",
        "notes",
    ]
    return _csv(heads, rows)


def _parts(item: Interval) -> list[str]:
    return [_text(value) for value in (item.value, item.low, item.high)]


def _text(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _csv(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(heads)
    table.writerows(rows)
    return buffer.getvalue()
