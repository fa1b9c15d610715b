"""What a video id, a frame number, a split and a path are: one rule each, for folders and tables alike.

Different spellings of one thing become one thing, and anything ambiguous is refused: a table never has more or
fewer operations than its author meant.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from calot.errors import CalotError, nearest_name

SPLITS = ("train", "val", "test")

#: Characters of the longest id; a UUID has 36.
LONGEST_ID = 200

#: What programs write for a missing value. No operation has such a name.
_LOST = {"nan", "none", "na", "n/a", "#n/a", "<na>", "nat", "null", "nil", "nul", "undefined", "inf", "-inf", "-", "?"}

#: A whole number in any of the ways programs write one: 7, 007, 7.0, and 7.000000000e+00 as numpy does. The sign of
#: the exponent is asked for: 12e4 may be the start of a hash.
_WHOLE = re.compile(r"\+?(\d+)(?:\.0*)?", re.ASCII)
_SCIENTIFIC = re.compile(r"\d(?:\.\d*)?[eE]\+\d{1,2}", re.ASCII)


def whole_number(text: str) -> int | None:
    """A whole number from 0 in plain digits, however it was written (`25`, `025`, `25.0`, `2.5e+01`), or None."""
    text = text.strip()
    if match := _WHOLE.fullmatch(text):
        return int(match[1]) if len(match[1]) <= 4300 else None
    if _SCIENTIFIC.fullmatch(text) and (value := float(text)) == int(value):
        return int(value)
    return None


@lru_cache(maxsize=1 << 16)
def video_id(text: str) -> str:
    """One operation's id: a whole number without its zeros, anything else as it is written, spaces around it left out.

    Raises ValueError, saying why, for an empty cell, a word for a missing value, invisible characters, and
    characters that stand for others (full-width digits).
    """
    if len(text) > LONGEST_ID:
        raise ValueError(f"is {len(text):,} characters long, more than {LONGEST_ID}")
    text = unicodedata.normalize("NFC", text).strip()
    if not text:
        raise ValueError("is empty; every row names its video")
    if text.casefold() in _LOST:
        raise ValueError(f'is "{text}", which is how a missing value is written, not an operation\'s id')
    hidden = [c for c in text if c != " " and unicodedata.category(c)[0] in "CZ"]
    if hidden:
        raise ValueError(f"is {text!a}, with a character that cannot be seen (U+{ord(hidden[0]):04X})")
    if (plain := unicodedata.normalize("NFKC", text)) != text:
        raise ValueError(f"is {text!a}, whose characters stand for others ({plain!a}); write those")
    number = whole_number(text)
    return text if number is None else str(number)


def video_ids(cells: Iterable[str | None], *, where: Callable[[int], str]) -> list[str]:
    """The id of each row under `video_id`'s rule; `where(i)` names the file and the row for an error.

    Ids that differ in capitals or inner spaces alone are refused: they are one operation or a slip.
    """
    seen: dict[str | None, str] = {}
    alike: dict[str, str] = {}
    ids = []
    for row, cell in enumerate(cells):
        if cell not in seen:
            try:
                name = video_id(cell or "")
            except ValueError as error:
                raise CalotError(f"{where(row)}: video {error}. Correct the table.") from None
            key = " ".join(name.casefold().split())
            other = alike.setdefault(key, name)
            if other != name:
                raise CalotError(
                    f'{where(row)}: video "{name}" differs from "{other}" in capitals or spaces alone. '
                    "Write one operation in one way, or give two operations two names."
                )
            seen[cell] = name
        ids.append(seen[cell])
    return ids


def split_name(text: str) -> str:
    """`train`, `val` or `test`, whatever its capitals. Raises ValueError naming the nearest for anything else."""
    name = text.strip().casefold()
    if name not in SPLITS:
        raise ValueError(f'split "{text.strip()}" is not one of calot\'s.{nearest_name(name, among=SPLITS)}')
    return name


def user_path(path: Path) -> Path:
    """A path as a person gives it, with `~` as their home. A folder that is really named so is given as `./~`."""
    if not str(path).startswith("~"):
        return path
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise CalotError(f"{path}: there is no such home ({error}). Give the whole path, or ./{path}.") from error


def ids_in_words(ids: Sequence[str]) -> str:
    """`13 videos, numbered 1 to 13`, or `13 videos, named 1c0e... to ff3a...`: how the ids of a data set were read."""
    distinct = set(ids)
    numbers = sorted(int(i) for i in distinct if whole_number(i) is not None)
    count = f"{len(distinct):,} video{'' if len(distinct) == 1 else 's'}"
    if len(numbers) == len(distinct) and numbers:
        return f"{count}, numbered {numbers[0]} to {numbers[-1]}"
    names = sorted(distinct)
    kind = "named" if not numbers else f"{len(numbers):,} of them numbers, named"
    return f"{count}, {kind} {names[0]} to {names[-1]}"


def hidden_file(name: str) -> bool:
    """Files that operating systems leave beside others: `._x` of macOS, `.DS_Store`, `Thumbs.db`."""
    return os.path.basename(name).startswith(".") or name.casefold() in ("thumbs.db", "desktop.ini")
