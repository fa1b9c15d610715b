"""A section of the page of `calot explain`: what a part found, as words, tables, charts and pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from calot.report.forest import Forest
from calot.report.sheets import Sheet
from calot.report.tables import Table
from calot.report.verdict import Reason
from calot.statistics.findings import Findings


@dataclass(frozen=True, kw_only=True)
class Block:
    """A piece of a section, shown in this order: heading, text, intervals or charts, table, pictures, note."""

    heading: str = ""
    text: str = ""
    forest: Forest | None = None
    charts: Sequence[Markup] = field(default_factory=tuple)
    caption: str = ""
    table: Table | None = None
    sheets: Sequence[Sheet] = field(default_factory=tuple)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class SectionView:
    """`headline` is a whole sentence for the top of the page, if this section has one to offer; `reasons` are lines
    below it, which the terminal prints, too."""

    headline: str = ""
    reasons: Sequence[Reason] = field(default_factory=tuple)
    blocks: Sequence[Block] = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True)
class Section(ABC):
    """What the page shows of the part called `name`; never imports torch."""

    name: str
    title: str

    @abstractmethod
    def view(self, found: Findings) -> SectionView:
        """The section; called only where the part was not absent."""


def absent_view(section: Section, *, why: str) -> SectionView:
    """The section of a part whose question a run cannot be asked."""
    return SectionView(reasons=[Reason(f"{section.title}:", why)], blocks=[Block(text=why)])
