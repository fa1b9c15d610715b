"""The exceptions that the command line turns into a message without a stack trace."""

from __future__ import annotations


class CalotError(Exception):
    """Bad input, said so that a person can mend it: the file, the field, the value and the remedy. Exit code 2."""


class Stopped(Exception):
    """A signal asked the run to end; it saved itself and can be resumed. Exit code 75."""


def first_line(error: BaseException) -> str:
    """An error's first line for a message of our own, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
