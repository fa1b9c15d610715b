"""What a notebook shows of a result: one small table, in its own colours, whatever the theme."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from calot.criteria import label
from calot.provenance.run_files import ExperimentFile, read_file
from calot.statistics.compare import Comparison
from calot.statistics.intervals import Interval
from calot.statistics.outcome import PairedDifference
from calot.statistics.rounding import between, rounded
from calot.statistics.schema import UNKNOWN
from calot.statistics.summary import Summary


class Shown:
    """A result that a notebook draws as a table: the first row its caption, the second its headings."""

    def shown(self) -> list[list[str]]:
        """Rows of text."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """The same as text."""
        (caption, *notes), *rows = self.shown()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([caption, *lines, *filter(None, notes)])

    def _repr_html_(self) -> str:
        (caption, *notes), headings, *rows = self.shown()
        below = "".join(f"<p>{escape(note)}</p>" for note in notes if note)
        body = "".join(f"<tr><th>{_cells(row[:1])}</th>{_cells(row[1:], tag='td')}</tr>" for row in rows)
        head = _cells(headings, tag="th")
        return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>{below}"


def _cells(row: Sequence[str], *, tag: str = "") -> str:
    texts = [escape(text) for text in row]
    return "".join(f"<{tag}>{text}</{tag}>" for text in texts) if tag else "".join(texts)


def metrics_table(summary: Summary, *, stamp: str) -> list[list[str]]:
    """mAP and each AP with interval, prevalence and Brier score; values of AP in points."""
    table = summary.predictions
    videos, frames = len(set(table.videos.tolist())), len(table.frames) // len(table.seeds)
    facts = [text for text in (table.dataset, table.split, table.protocol) if text != UNKNOWN]
    caption = f"{', '.join(facts) or 'A table'}: {frames:,} frames of {videos} videos"
    chance = sum(item.prevalence for item in summary.criteria.values()) / len(summary.criteria)
    rows = [["mAP", *_interval(summary.intervals.map), f"{100 * chance:.1f}", ""]]
    for name, item in summary.criteria.items():
        rows.append([label(name), *_interval(item.ap), f"{100 * item.prevalence:.1f}", f"{item.brier.value:.3f}"])
    return [[caption, stamp, *table.notes], ["", "AP", "95 % interval over videos", "chance", "Brier"], *rows]


def comparison_table(found: Comparison) -> list[list[str]]:
    """The difference of mAP and of each AP, in points, with p."""
    caption = f"{found.a.name} minus {found.b.name}: {found.frames:,} frames of {found.videos} videos"
    items = {"mAP": found.map, **{label(name): item for name, item in found.ap.items()}}
    rows = [[name, *_difference(item)] for name, item in items.items()]
    return [[caption, found.verdict], ["", "difference", "95 % interval", "p"], *rows]


def run_table(folder: Path) -> list[list[str]]:
    """What a run is and where."""
    record = read_file(folder / "experiment.json", ExperimentFile)
    rows = [[name, str(record.get(name))] for name in ("name", "scale", "seed") if name in record]
    return [[f"Run {folder}"], ["", ""], *rows, ["fingerprint", str(record.get("fingerprint"))[:12]]]


def _interval(item: Interval) -> list[str]:
    value = "undefined" if item.value is None else f"{100 * item.value:.1f}"
    known = item.low is not None and item.high is not None
    return [value, f"{100 * item.low:.1f} to {100 * item.high:.1f}" if known else item.reason or "undefined"]  # type: ignore[operator]


def _difference(item: PairedDifference) -> list[str]:
    if item.value is None:
        return ["undefined", item.reason or "", ""]
    known = item.low is not None and item.high is not None
    bounds = between(item.low, item.high, sign=True) if known else item.reason or "undefined"  # type: ignore[arg-type]
    return [rounded(100 * item.value, digits=1, sign=True), bounds, "not shown" if item.p is None else f"{item.p:.3f}"]
