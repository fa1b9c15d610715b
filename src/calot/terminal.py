"""What reaches a terminal or a log: nothing that could steer it, and nothing its encoding cannot show."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
    from rich.measure import Measurement
    from rich.table import Table

#: Replacements for marks that a stream's encoding lacks; any other such character is written out, as \\xe9 is.
_PLAIN = {
    "−": "-",
    "‐": "-",
    "‑": "-",
    "–": "-",
    "—": "-",
    "±": "+/-",
    "×": "x",
    "÷": "/",
    "·": ".",
    "•": "*",
    "…": "...",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "→": "->",
    "←": "<-",
    "↔": "<->",
    "≥": ">=",
    "≤": "<=",
    "≈": "~",
    "≠": "!=",
    "µ": "u",
    "μ": "u",
    "²": "^2",
    "³": "^3",
    "½": "1/2",
    "°": " deg",
    "✓": "ok",
    "✗": "x",
    **dict.fromkeys("─━═╌╍┄┅┈┉╴╶╸╺", "-"),
    **dict.fromkeys("│┃║╎╏┆┇┊┋╵╷╹╻", "|"),
}
_ERRORS = "calot-plain"


def printable(text: str) -> str:
    """The text with every character that could steer a terminal, or hide or reorder what it shows, written out.

    Control and format characters (escape codes, bidirectional marks, zero-width ones) become \\x1b, \\u202e; line ends
    and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(c if _harmless(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def _harmless(character: str) -> bool:
    return character in "\n\t" or character.isprintable() or unicodedata.category(character) == "Zs"


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Error handler of a stream's encoder: a readable stand-in for each character that it lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_stand_in, error.object[error.start : error.end])), error.end


def _stand_in(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    if "\u2500" <= character <= "\u257f":
        return "+"
    if "\u2580" <= character <= "\u259f":
        return "#"
    if unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode("ascii")


codecs.register_error(_ERRORS, _plain)


class Unheard(OSError):
    """Standard output is no longer read, as with `| head`; typer and rich would end a BrokenPipeError with 1."""


class _Stream:
    """A standard stream whose failures say which one it is."""

    def __init__(self, stream: TextIO, *, name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        with self._named():
            return self._stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._named():
            self._stream.flush()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise Unheard(f"{self._name}: nobody reads it") from None
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._name) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Guarded(_Stream):
    """A stream that lets nothing through that could steer a terminal.

    rich, whose own codes are wanted, looks for `rich_proxied_file` and writes there what `console` has cleaned.
    """

    def __init__(self, stream: TextIO, *, name: str) -> None:
        super().__init__(stream, name=name)
        self.rich_proxied_file = _Stream(stream, name=name)

    def write(self, text: str) -> int:
        super().write(printable(text))
        return len(text)


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """Standard output and error without characters that steer a terminal, in whatever encoding they have."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ERRORS)
    names = ("standard output", "standard error")
    sys.stdout, sys.stderr = (
        cast(TextIO, None if stream is None else _Guarded(stream, name=name))
        for stream, name in zip(before, names, strict=True)
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Clean:
    """A renderable of rich without characters that steer a terminal in its text; its styles stay."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for segment in console.render(self.inner, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement.get(console, options, self.inner)


class _Cleaning:
    """Hook of a console: whatever it prints passes through `_Clean`."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [cast("ConsoleRenderable", _Clean(item)) for item in renderables]


def console(*, stderr: bool = False, markup: bool = False, width: int | None = None) -> Console:
    """A console of rich whose text cannot steer the terminal; square brackets are text unless `markup` is asked for."""
    from rich.console import Console

    made = Console(stderr=stderr, markup=markup, emoji=False, highlight=markup, width=width)
    made.push_render_hook(cast(Any, _Cleaning()))
    return made


def print_table(table: Table, *, markup: bool = False) -> None:
    """Print a table so that no cell is cut: unchanged where it fits, otherwise as a few lines for each row.

    In a file or a pipe of unknown width it keeps its natural width.
    """
    from rich.measure import Measurement

    screen = console(markup=markup)
    for column in table.columns:
        if column.no_wrap:
            cells = (_words(cell, screen=screen) for cell in (column.header, *column.cells))
            column.min_width = max(measured_width(line) for cell in cells for line in cell.split("\n"))
    needed = Measurement.get(screen, screen.options.update(max_width=10_000), table)
    if needed.minimum <= screen.width:
        screen.print(table)
    elif screen.is_terminal or "COLUMNS" in os.environ:
        _print_rows(table, screen=screen)
    else:
        console(markup=markup, width=needed.maximum).print(table)


def measured_width(text: str) -> int:
    """Columns that text takes on a terminal once it is `printable`."""
    from rich.cells import cell_len

    return cell_len(printable(text))


def _print_rows(table: Table, *, screen: Console) -> None:
    """A few lines for each row: its first cell, below it the others after their headings."""
    if table.title:
        screen.print(table.title, soft_wrap=True)
    headings = [_words(column.header, screen=screen).replace("\n", " ") for column in table.columns]
    for row in zip(*(list(column.cells) for column in table.columns), strict=True):
        first, *rest = (_words(cell, screen=screen) for cell in row)
        pairs = (f"{heading} {cell}".strip() for heading, cell in zip(headings[1:], rest, strict=True) if cell.strip())
        for text, indent in ((first or "-", ""), (", ".join(pairs), "  ")):
            lines = textwrap.wrap(
                text, screen.width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
            )
            screen.print("\n".join(lines), soft_wrap=True, markup=False)


def _words(cell: Any, *, screen: Console) -> str:
    return screen.render_str(cell).plain if isinstance(cell, str) else str(cell)
