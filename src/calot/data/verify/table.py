"""`all_metadata.csv` read leniently: every cell that is wrong is a finding, and the rest of its row still counts."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from calot.criteria import COLUMNS
from calot.data.cells import LARGEST_NUMBER, separator_of
from calot.data.endoscapes.reader import METADATA, RATERS
from calot.data.verify.finding import Finding, Found, Note
from calot.errors import nearest_name
from calot.identity import video_id, whole_number
from calot.reading import LARGEST_TABLE, read_plain

LETTERS = tuple(COLUMNS["endoscapes"])
ANNOTATORS = tuple(f"cvs_annotator_{r}" for r in RATERS)
NEEDED = ("vid", "frame", *LETTERS, "is_ds_keyframe", *ANNOTATORS)
#: In the archive's table, but nothing here reads them.
SPARE = ("avg_cvs", "mask_path", "label_path")

AGAIN = "Unpack the archive again (calot data unpack), or fix the table."
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_VOTES = re.compile(r"\[\s*([01])(?:\.0*)?\s*,\s*([01])(?:\.0*)?\s*,\s*([01])(?:\.0*)?\s*\]", re.ASCII)

Vote = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One line of the table; what could not be read is None, and its finding is made already."""

    line: int
    video: str | None
    frame: int | None
    keyframe: bool | None
    values: tuple[float | None, ...]
    votes: tuple[Vote | None, ...]
    mask_path: str

    @property
    def stem(self) -> str:
        return f"{self.video}_{self.frame}"


@dataclass(frozen=True, kw_only=True)
class LenientTable:
    """Rows that name a frame, each frame once, and what was wrong on the way."""

    rows: tuple[TableRow, ...]
    columns: tuple[str, ...]
    found: Found


def plain_number(text: str) -> float | None:
    """A plain decimal number, or None: no NaN, no infinity, no underscores."""
    return float(text) if _NUMBER.fullmatch(text) else None


def read_table(root: Path) -> LenientTable:
    """Read the table of `root`, whatever state it is in."""
    path = root / METADATA
    findings: list[Finding] = []
    try:
        data = read_plain(path, largest=LARGEST_TABLE)
    except OSError as error:
        findings.append(_at("table", None, f"cannot be read ({error.strerror})"))
        return LenientTable(rows=(), columns=(), found=Found(findings=tuple(findings)))
    text = data.decode("utf-8-sig", errors="replace")
    if "\ufffd" in text:
        findings.append(_at("table", text[: text.index("\ufffd")].count("\n") + 1, "not UTF-8 text"))
    lines = _lines(text, findings=findings)
    if not lines:
        findings.append(_at("table", None, "no line at all"))
        return LenientTable(rows=(), columns=(), found=Found(findings=tuple(findings)))
    header = tuple(lines[0][1])
    if (shown := separator_of(text.partition("\n")[0])) is not None:
        remedy = f"Save the file with commas, or: calot data adopt {root} --out DIR."
        findings.append(_at("table", 1, f"columns are separated by {shown}", remedy=remedy))
        return LenientTable(rows=(), columns=(), found=Found(findings=tuple(findings)))
    notes = _columns(header, findings=findings)
    rows = [_row(line, cells, header=header, findings=findings) for line, cells in lines[1:]]
    if not rows:
        findings.append(_at("table", None, "no row below the header"))
    kept = _once([row for row in rows if row.video is not None and row.frame is not None], findings=findings)
    return LenientTable(rows=kept, columns=header, found=Found(findings=tuple(findings), notes=notes))


def _at(check: str, line: int | None, message: str, *, remedy: str = AGAIN) -> Finding:
    return Finding(check=check, file=METADATA, row=line, message=message, remedy=remedy)


def _lines(text: str, *, findings: list[Finding]) -> list[tuple[int, list[str]]]:
    """Each record with its line; empty lines left out."""
    reader = csv.reader(io.StringIO(text, newline=""))
    lines: list[tuple[int, list[str]]] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return lines
        except csv.Error as error:
            findings.append(_at("table", line, f"not a line of CSV ({error})"))
            continue
        if cells:
            lines.append((line, cells))


def _columns(header: tuple[str, ...], *, findings: list[Finding]) -> tuple[Note, ...]:
    twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    missing = [name for name in NEEDED if name not in header]
    findings += [_at("columns", 1, f'column "{name}" appears {header.count(name)} times') for name in twice]
    findings += [
        _at("columns", 1, f'column "{name}" is missing.{nearest_name(name, among=header)}') for name in missing
    ]
    for name in dict.fromkeys(header):
        if name not in (*NEEDED, *SPARE):
            message = f'column "{name}" is not one of Endoscapes'
            findings.append(_at("columns", 1, message, remedy="Take the column out; nothing here reads it."))
    absent = [name for name in SPARE if name not in header]
    if not absent:
        return ()
    return (Note(check="columns", message=f"no column {', '.join(absent)}; nothing but masks' pairing reads these"),)


def _row(line: int, cells: list[str], *, header: tuple[str, ...], findings: list[Finding]) -> TableRow:
    if len(cells) != len(header):
        findings.append(_at("table", line, f"{len(cells)} cells under {len(header)} columns"))
    cell = {name: text.strip() for name, text in zip(header, cells, strict=False)}

    def wrong(name: str, need: str) -> None:
        shown = f'"{cell[name][:60]}"' if cell.get(name) else "empty"
        if name in header:
            findings.append(_at("cells", line, f"{name} is {shown}; need {need}"))

    keyframe = {"true": True, "false": False}.get(cell.get("is_ds_keyframe", "").lower())
    if keyframe is None:
        wrong("is_ds_keyframe", "True or False")
    video = None
    try:
        video = video_id(cell.get("vid", ""))
    except ValueError as error:
        if "vid" in header:
            findings.append(_at("cells", line, f"vid {error}"))
    frame = whole_number(cell.get("frame", ""))
    if frame is None or frame > LARGEST_NUMBER:
        wrong("frame", f"a whole number from 0 to {LARGEST_NUMBER}")
        frame = None
    return TableRow(
        line=line,
        video=video,
        frame=frame,
        keyframe=keyframe,
        values=_values(line, cell, header=header, findings=findings),
        votes=_votes(line, cell, header=header, keyframe=keyframe, findings=findings),
        mask_path=cell.get("mask_path", ""),
    )


def _values(
    line: int, cell: dict[str, str], *, header: tuple[str, ...], findings: list[Finding]
) -> tuple[float | None, ...]:
    values = []
    for name in LETTERS:
        text = cell.get(name, "")
        value = plain_number(text)
        if name in header and (value is None or not 0 <= value <= 1):
            shown = f'"{text[:60]}"' if text else "empty"
            message = f"{name} is {shown}; need a label from 0 to 1 (an unknown label is not a negative)"
            findings.append(_at("labels", line, message))
            value = None
        values.append(value)
    return tuple(values)


def _votes(
    line: int, cell: dict[str, str], *, header: tuple[str, ...], keyframe: bool | None, findings: list[Finding]
) -> tuple[Vote | None, ...]:
    votes: list[Vote | None] = []
    for name in ANNOTATORS:
        text = cell.get(name, "")
        match = _VOTES.fullmatch(text)
        votes.append((int(match[1]), int(match[2]), int(match[3])) if match and keyframe else None)
        if name not in header or keyframe is None:
            continue
        shown = f'"{text[:60]}"' if text else "empty"
        if keyframe and not match:
            message = f'{name} is {shown}; need three votes such as "[0, 1, 0]" on a keyframe'
            findings.append(_at("raters", line, message))
        if not keyframe and text:
            findings.append(_at("raters", line, f"{name} is {shown}; need an empty cell off keyframes"))
    return tuple(votes)


def _once(rows: list[TableRow], *, findings: list[Finding]) -> tuple[TableRow, ...]:
    """Keep the first row of every frame."""
    seen: dict[str, TableRow] = {}
    again: dict[str, list[TableRow]] = defaultdict(list)
    for row in rows:
        if row.stem in seen:
            again[row.stem].append(row)
        else:
            seen[row.stem] = row
    for stem, others in again.items():
        first = seen[stem]
        for row in others:
            same = (row.values, row.votes, row.keyframe) == (first.values, first.votes, first.keyframe)
            message = f"frame {row.frame} of video {row.video} is already in line {first.line}, with " + (
                "the same labels" if same else "other labels"
            )
            findings.append(_at("duplicates", row.line, message, remedy="Keep one row per frame."))
    return tuple(seen.values())
