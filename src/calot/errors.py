"""The one exception the command line turns into a message without a stack trace."""

from __future__ import annotations


class CalotError(Exception):
    """Bad input, said so that a person can mend it: the file, the field, the value and the remedy."""
