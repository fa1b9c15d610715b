"""The exceptions that the command line turns into a message without a stack trace."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: Characters quoted from a stranger's text; names compared, and listed, to find the one meant.
_LONGEST, _MOST_TRIED, _MOST_NAMED = 60, 2000, 40


class CalotError(Exception):
    """Bad input, reported so that a person can fix it: the file, the field, the value and the remedy. Exit code 2."""


class FieldError(CalotError, ValueError):
    """A component's field with a value it does not admit."""


class Stopped(BaseException):
    """A signal asked the work to end; what it saved can be resumed. Exit code 75.

    Like KeyboardInterrupt not an Exception: code that handles any failure must not mistake it for one.
    """

    def __init__(self, message: str = "stopped by a signal; the run is saved and continues with --resume") -> None:
        super().__init__(message)


def first_line(error: BaseException) -> str:
    """An error's first line for a message of our own, or its type if it is empty."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def quoted(text: str) -> str:
    """Text of a stranger's file as it may stand in a message: in quotes, hidden characters written out, never long."""
    return repr(text) if len(text) <= _LONGEST else f"{text[:_LONGEST]!r}... ({len(text):,} characters)"


def nearest_name(name: str, *, among: Iterable[str]) -> str:
    """Say what a misspelt name may have meant: ` Did you mean "val"? Available: train, val.`"""
    options = [str(option) for option in among]
    tried = options[:_MOST_TRIED]
    close = difflib.get_close_matches(name.lower(), [o.lower() for o in tried], n=1, cutoff=0.5)
    meant = next((f' Did you mean "{o}"?' for o in tried if close and o.lower() == close[0]), "")
    more = f" and {len(options) - _MOST_NAMED:,} more" if len(options) > _MOST_NAMED else ""
    return f"{meant} Available: {', '.join(options[:_MOST_NAMED]) or 'none'}{more}."
