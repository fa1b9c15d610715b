"""Links stored as small text files: what a zip's links become where the system cannot write links."""

from __future__ import annotations

import posixpath
import re

#: Longer files are not link texts; `../train/1_29375.jpg` has 20 bytes.
LONGEST_TEXT = 260
_PATH = re.compile(r"[\w.+ -]+(/[\w.+ -]+)*")


def link_target(content: bytes, *, name: str) -> str | None:
    """The path that a link text in the file `name` (with `/`) points at, from the same top folder, or None.

    A text counts as a link when it is one relative path with the file's own suffix.
    """
    if not 0 < len(content) <= LONGEST_TEXT:
        return None
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None
    if not _PATH.fullmatch(text) or posixpath.splitext(text)[1] != posixpath.splitext(name)[1]:
        return None
    if text in (".", ".."):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), text))
