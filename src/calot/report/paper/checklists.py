"""CLAIM (2024 update) and TRIPOD+AI, filled as far as the runs' files know; the rest is named, not guessed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from calot.report.paper.facts import PaperEvidence

#: File and title. What an item asks is in our own short words: the guideline has its own, and they count.
CHECKLISTS: Mapping[str, str] = {
    "claim": "CLAIM, 2024 update (Tejani et al., Radiology: Artificial Intelligence 2024)",
    "tripod_ai": "TRIPOD+AI (Collins et al., BMJ 2024)",
}
_HEADS = ("item", "section", "what", "status", "from the runs", "where")


@dataclass(frozen=True, kw_only=True)
class FilledItem:
    """One item: what it asks in short, and what the runs say of it; `evidence` None where they say nothing."""

    item: str
    section: str
    what: str
    evidence: PaperEvidence | None

    def cells(self) -> Sequence[str]:
        """For a row."""
        held = self.evidence
        filled = ("to be written by the authors", "", "") if held is None else ("from the runs", held.text, held.place)
        return (self.item, self.section, self.what, *filled)


def filled_checklist(name: str, *, known: Mapping[str, PaperEvidence]) -> list[FilledItem]:
    """Every item of `claim` or `tripod_ai`."""
    text = resources.files("calot.report.paper").joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return [
        FilledItem(
            item=row["item"], section=row["section"], what=row["what"], evidence=known.get(row["evidence"] or "")
        )
        for row in csv.DictReader(io.StringIO(text))
    ]


def unfilled(items: Sequence[FilledItem]) -> list[str]:
    """The items that the authors must write."""
    return [item.item for item in items if item.evidence is None]


def checklist_csv(items: Sequence[FilledItem]) -> str:
    """For a spreadsheet."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(_HEADS)
    table.writerows(item.cells() for item in items)
    return buffer.getvalue()


def checklist_markdown(items: Sequence[FilledItem], *, title: str) -> str:
    """For people, the items that are left first."""
    left = unfilled(items)
    lines = [
        f"# {title}",
        "",
        f"{len(items) - len(left)} of {len(items)} items have something to start from in the runs' files; it is "
        "evidence, not the finished text. The others are for the authors: "
        f"{', '.join(left)}.",
        "",
        "What an item asks is given in short; the guideline's own words count.",
        "",
        f"| {' | '.join(_HEADS)} |",
        "|" + "---|" * len(_HEADS),
    ]
    lines += [f"| {' | '.join(_row(cell) for cell in item.cells())} |" for item in items]
    return "\n".join(lines) + "\n"


def _row(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("[", "\\[").replace("]", "\\]")
