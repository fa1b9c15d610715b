"""Tables as files: CSV of any country, tab-separated text, Excel, parquet; only the columns asked for are read."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from calot.errors import CalotError, first_line, quoted
from calot.reading import LARGEST_TABLE, read_plain
from calot.statistics import seal
from calot.statistics.schema import FINGERPRINT_KEY, MANIFEST_KEY, RATE_KEY, RATE_OF_0_1

#: Rows of a parquet file beyond which it is a bomb, not a table: a few bytes can stand for any number.
MOST_ROWS = 50_000_000
_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_BROKEN_PARQUET = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """The requested columns of a file, under our names; text stays text. `notes` say how it was read."""

    frame: pl.DataFrame
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WantedColumns:
    """Which columns to read: `theirs` -> ours for those of another name, else by `names`; `numeric` may hold commas."""

    names: tuple[str, ...]
    numeric: frozenset[str]
    whole: frozenset[str]
    theirs: Mapping[str, str] = field(default_factory=dict)

    def places(self, header: Sequence[str], *, source: str) -> dict[str, int]:
        """Our name -> place in a header. Raises CalotError where two columns claim one name, or none a mapped one."""
        found: dict[str, int] = {}
        for place, name in enumerate(header):
            ours = self.theirs.get(name, name if name in self.names else None)
            if ours is None:
                continue
            if ours in found:
                other = header[found[ours]]
                said = "appears twice" if other == name else f"and {other!r} both stand for '{ours}'"
                raise CalotError(f"{source}: column '{name}' {said}; remove or rename one of them")
            found[ours] = place
        absent = [name for name, ours in self.theirs.items() if ours not in found]
        if absent:
            shown = ", ".join(map(quoted, list(header)[:20]))
            raise CalotError(f"{source}: --map names column {absent[0]!r}, which the table lacks; it has: {shown}")
        return found


def read_table_file(path: Path, *, wanted: WantedColumns) -> TableFile:
    """Read a table by its ending: .parquet, .csv, .tsv, .xlsx. Raises CalotError naming file and remedy."""
    readers: dict[str, Callable[[bytes, WantedColumns, str], TableFile]] = {
        ".parquet": _read_parquet,
        ".csv": _read_text,
        ".tsv": _read_text,
        ".xlsx": _read_workbook,
    }
    reader = readers.get(path.suffix.lower())
    if not path.exists():
        raise CalotError(f"{path}: no such file; expected a table of predictions: {', '.join(readers)}")
    if reader is None:
        raise CalotError(f"{path}: unknown ending {path.suffix!r}; save it as one of {', '.join(readers)}")
    try:
        raw = read_plain(path, largest=LARGEST_TABLE)
    except OSError as error:
        raise CalotError(f"{path}: cannot be read ({error.strerror})") from error
    for start, ending in ((b"PAR1", ".parquet"), (b"PK\x03\x04", ".xlsx")):
        if raw.startswith(start) and readers[ending] is not reader:
            raise CalotError(f"{path}: its content is that of a {ending} file; rename it so")
    return reader(raw, wanted, str(path))


def _read_text(raw: bytes, wanted: WantedColumns, source: str) -> TableFile:
    """Every cell as text; the standard reader, so that a malformed line is named and nothing is guessed."""
    text, notes = _decoded(raw, source=source)
    told = _SEPARATOR_LINE.match(text)
    if told:
        text = text[told.end() :]
    delimiter = told[1] if told else _delimiter(text, wanted=wanted)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise CalotError(f"{source}: malformed CSV ({error})") from error
    if not rows:
        raise CalotError(f"{source}: the file is empty; the first line names the columns")
    if delimiter != ",":
        notes.append(f"columns separated by {'tab' if delimiter == chr(9) else repr(delimiter)}")
    return _from_rows(rows, wanted=wanted, source=source, notes=notes, commas=delimiter != ",")


def _decoded(raw: bytes, *, source: str) -> tuple[str, list[str]]:
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise CalotError(f"{source}: byte {error.start} is not {encoding.upper()}; save it as UTF-8 text") from error
    if "\0" in text:
        raise CalotError(f"{source}: holds NUL bytes: damaged, or UTF-16 without its mark; save it as UTF-8 text")
    return text, [] if encoding.startswith("utf-8") else [f"read as {encoding.upper()}"]


def _delimiter(text: str, *, wanted: WantedColumns) -> str:
    """The mark that splits the first line into most of the columns asked for; of equal ones into most cells."""
    line = text.lstrip("\r\n").split("\n", 1)[0].split("\r", 1)[0]

    def known(mark: str) -> tuple[int, int]:
        cells = [cell.strip().strip('"') for cell in line.split(mark)]
        return len({*wanted.names, *wanted.theirs}.intersection(cells)), len(cells)

    return max(_DELIMITERS, key=known)


def _from_rows(
    rows: Sequence[Sequence[str]],
    *,
    wanted: WantedColumns,
    source: str,
    notes: list[str],
    commas: bool,
) -> TableFile:
    header = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(header):
            raise CalotError(f"{source}: data row {number} has {len(row)} cells, the first line {len(header)}")
    places = wanted.places(header, source=source)
    columns = {name: [row[place].strip() for row in rows[1:]] for name, place in places.items()}
    if commas and _with_points(columns, wanted=wanted, source=source):
        notes.append("decimal commas")
    return TableFile(
        frame=pl.DataFrame({name: pl.Series(name, cells, dtype=pl.String) for name, cells in columns.items()}),
        notes=tuple(notes),
        others=_others(header, places=places),
    )


def _with_points(columns: dict[str, list[str]], *, wanted: WantedColumns, source: str) -> bool:
    """Turn decimal commas into points, in place; whether there were any.

    Refused: points beside commas, of which one would mark thousands; and a comma in a whole number but for `,0`.
    """
    numeric = [name for name in columns if name in wanted.numeric]
    pointed = None
    found = False
    for name in numeric:
        for row, cell in enumerate(columns[name], 1):
            if "." in cell:
                pointed = pointed or (name, row, cell)
            if not _DECIMAL_COMMA.fullmatch(cell):
                continue
            if name in wanted.whole and not cell.endswith(",0"):
                raise CalotError(f"{source}: {name} in data row {row} is {cell!r}; write whole numbers without a comma")
            columns[name][row - 1] = cell.replace(",", ".")
            found = True
    if found and pointed is not None:
        name, row, cell = pointed
        raise CalotError(
            f"{source}: {name} in data row {row} is {quoted(cell)}, with a point, where other numbers have decimal "
            "commas; write all numbers in one way, without marks for thousands"
        )
    return found


def _others(header: Iterable[str], *, places: Mapping[str, int]) -> tuple[str, ...]:
    """Names of the columns that were not read: where one is missing, the nearest of them is named."""
    used = set(places.values())
    return tuple(name for place, name in enumerate(header) if place not in used)


def _read_workbook(raw: bytes, wanted: WantedColumns, source: str) -> TableFile:
    title, rows = workbook_rows(raw, source=source)
    return _from_rows(rows, wanted=wanted, source=source, notes=[f"sheet {quoted(title)}"], commas=True)


def workbook_rows(raw: bytes, *, source: str) -> tuple[str, list[list[str]]]:
    """The one sheet of an Excel file that holds a table: its title, and its rows as text, values as Excel last
    computed them. Raises CalotError where there is no such sheet, or more than one."""
    import openpyxl

    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > LARGEST_TABLE:
            raise CalotError(f"{source}: unpacks to {size:,} bytes; at most {LARGEST_TABLE:,} are read")
        book = openpyxl.load_workbook(io.BytesIO(raw), read_only=True, data_only=True)
        sheets = {sheet.title: _rows_of(sheet, source=source) for sheet in book.worksheets}
    except CalotError:
        raise
    except Exception as error:  # openpyxl raises whatever a damaged part of the archive leads to
        raise CalotError(f"{source}: not a readable Excel file ({first_line(error)}); save it as CSV") from error
    filled = {title: rows for title, rows in sheets.items() if rows}
    if len(filled) != 1:
        names = ", ".join(map(quoted, filled)) or "none"
        raise CalotError(f"{source}: needs exactly one sheet with rows, has: {names}; save that one to a file")
    (title, rows), *_ = filled.items()
    return title, rows


def _rows_of(sheet: Any, *, source: str) -> list[list[str]]:
    """A sheet's rows as text, as wide as its first one; empty rows are left out."""
    sheet.reset_dimensions()  # the file's claimed size may be wrong
    rows: list[list[str]] = []
    for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
        row = [_cell_text(cell, where=f"{source}: sheet {quoted(sheet.title)}, row {number}") for cell in cells]
        while row and not row[-1]:
            row.pop()
        if row:
            width = len(rows[0]) if rows else len(row)
            rows.append(row + [""] * (width - len(row)))
    return rows


def _cell_text(value: Any, *, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, (date, time, timedelta)):
        raise CalotError(
            f"{where}: holds a date or time ({value}), which Excel makes from text such as 3-4; format the column as "
            "text and enter the ids again"
        )
    return str(value)


def _read_parquet(raw: bytes, wanted: WantedColumns, source: str) -> TableFile:
    sealed = seal.holds_seal(raw, source=source)  # before anything interprets the bytes
    try:
        schema = pl.read_parquet_schema(io.BytesIO(raw))
        metadata = pl.read_parquet_metadata(io.BytesIO(raw))
        rows = pl.scan_parquet(io.BytesIO(raw)).select(pl.len()).collect().item()
    except _BROKEN_PARQUET as error:
        raise _unreadable(error, source=source) from error
    if rows > MOST_ROWS:
        raise CalotError(f"{source}: {rows:,} rows; a table of predictions has at most {MOST_ROWS:,}")
    ours = FINGERPRINT_KEY in metadata or MANIFEST_KEY in metadata
    notes = _unsealed(metadata, source=source) if ours and not sealed else ()
    header = list(schema)
    places = (replace(wanted, theirs={}) if ours else wanted).places(header, source=source)
    try:
        frame = pl.read_parquet(io.BytesIO(raw), columns=[header[place] for place in places.values()])
    except _BROKEN_PARQUET as error:
        raise _unreadable(error, source=source) from error
    frame = frame.rename({header[place]: name for name, place in places.items()})
    if ours and not sealed:
        metadata = {**metadata, RATE_KEY: repr(RATE_OF_0_1)}
    return TableFile(frame=frame, metadata=metadata, notes=notes, others=_others(header, places=places))


def _unsealed(metadata: Mapping[str, str], *, source: str) -> tuple[str, ...]:
    """The note on a table of calot 0.1, which had no digest; what else lacks its own was damaged."""
    if set(metadata) - {FINGERPRINT_KEY, MANIFEST_KEY, "ARROW:schema"}:
        raise seal.broken_seal(source)
    return ("written before calot kept digests: a damaged byte would go unnoticed",)


def _unreadable(error: BaseException, *, source: str) -> CalotError:
    return CalotError(
        f"{source}: not a readable parquet file ({quoted(first_line(error))}); write it again or save it as CSV"
    )
