"""A document as sections of blocks, from which the page and its Markdown twin are both made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from calot.report.forest import Forest
from calot.report.tables import Cell, Fact, Ranged, Table, Undefined, Withheld, in_sentence
from calot.report.verdict import Reason, Stamp, Verdict, tidy


@dataclass(frozen=True, kw_only=True)
class DocumentBlock:
    """One piece of a section, shown in this order: heading, text, what to type, facts, figure, table. Where `folded`
    says what, the page hides facts, figure and table under these words until they are asked for."""

    heading: str = ""
    anchor: str = ""
    text: str = ""
    code: str = ""
    facts: Sequence[Fact] = ()
    charts: Sequence[Markup] = ()
    forest: Forest | None = None
    caption: str = ""
    table: Table | None = None
    folded: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", tidy(self.text))

    @property
    def prose(self) -> Markup:
        """The text for the page: what stands between backticks is code."""
        return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(self.text))))


@dataclass(frozen=True, kw_only=True)
class DocumentSection:
    """A chapter with its place in the list of contents."""

    anchor: str
    title: str
    blocks: Sequence[DocumentBlock] = ()
    short: str = ""


@dataclass(frozen=True, kw_only=True)
class Document:
    """The whole of it."""

    title: str
    kicker: str
    heading: str
    verdict: Verdict
    sections: Sequence[DocumentSection]
    banners: Sequence[str] = ()
    stamps: Sequence[Stamp] = ()
    source: str = ""
    contents: Sequence[tuple[str, str]] = field(default_factory=tuple)


def document_markdown(document: Document) -> str:
    """The Markdown twin: every number of the page; figures are named, and drawn on the page alone."""
    lines = [f"# {document.heading}", "", document.kicker, ""]
    lines += [f"> **{banner}.**\n" for banner in document.banners]
    lines += [f"**{_plain(document.verdict.headline)}**", ""]
    lines += [_reason(reason) for reason in document.verdict.reasons]
    lines += ["", "Contents: " + ", ".join(f"[{s.title}](#{_github(s.title)})" for s in document.sections), ""]
    for section in document.sections:
        lines += [f"## {section.title}", ""]
        for block in section.blocks:
            lines += _block(block)
    return re.sub(r"\n{3,}", "\n\n", "\n".join([*lines, "", document.source, ""]))


def _reason(reason: Reason) -> str:
    code = f" `{reason.code}`" if reason.code else ""
    return f"- **{_escaped(reason.lead)}** {_escaped(reason.text)}{code}"


def _block(block: DocumentBlock) -> list[str]:
    found = [f"### {block.heading}", ""] if block.heading else []
    found += [_escaped(block.text), ""] if block.text else []
    found += ["```", block.code, "```", ""] if block.code else []
    found += [f"- {fact.name}: {_escaped(fact.text)}" for fact in block.facts]
    found += [""] if block.facts else []
    if block.forest is not None:
        found += [f"| {_row(block.forest.title)} | value | 95 % interval |", "|---|---|---|"]
        found += [f"| {_row(one.name)} | {_cell(one.value)} | {_cell(one.interval)} |" for one in block.forest.lines]
        found += [""]
    if block.charts:
        found += [f"*Figure, on the page:* {_escaped(block.caption)}", ""]
    elif block.caption:
        found += [f"*{_escaped(block.caption)}*", ""]
    return found + (_table(block.table) if block.table is not None else [])


def _table(table: Table) -> list[str]:
    heads = " | ".join(_row(column.name) for column in table.columns)
    lines = [f"**{_escaped(table.title)}**", "", f"| {heads} |", "|" + "---|" * len(table.columns)]
    lines += [f"| {' | '.join(_cell(cell) for cell in row.cells)} |" for row in table.rows]
    return [*lines, "", *([_escaped(table.note), ""] if table.note else [])]


def _cell(cell: Cell) -> str:
    if isinstance(cell, Withheld):
        return f"**{_row(cell.failed)}**"
    if isinstance(cell, Undefined | Ranged):
        return _row(in_sentence(cell))
    return _row(_plain(cell))


def _row(text: str) -> str:
    return _escaped(str(text)).replace("|", "\\|").replace("\n", " ")


def _plain(text: str | Markup) -> str:
    return text.striptags() if isinstance(text, Markup) else text


def _escaped(text: str) -> str:
    """What Markdown or HTML would read as markup, as itself."""
    return re.sub(r"([*<>\[\]])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", lambda m: f"\\{m[0]}", str(text))


def _github(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
