"""A digest inside a parquet file over all its bytes, so that a flipped byte is noticed before anything is read.

The digest stands in the file's metadata as text. It is computed with zeros in its own place, as a packet's checksum
is. It guards against damage and edits, not against someone who computes it again.
"""

from __future__ import annotations

import hashlib

from calot.errors import CalotError

KEY = "calot.digest"
_MARK = "calot.sha256:"
#: What the metadata holds under `KEY` until the file is sealed.
BLANK = _MARK + "0" * 64


def sealed(raw: bytes) -> bytes:
    """The bytes of a file that holds `BLANK` once, with their digest in its place."""
    if raw.count(BLANK.encode()) != 1:
        raise ValueError(f"expected {BLANK!r} once in a file to seal, found it {raw.count(BLANK.encode())} times")
    return raw.replace(BLANK.encode(), (_MARK + hashlib.sha256(raw).hexdigest()).encode())


def holds_seal(raw: bytes, *, source: str) -> bool:
    """Whether a file is sealed. Raises CalotError where its bytes are not those that were sealed."""
    place = raw.rfind(_MARK.encode())
    if place < 0:
        return False
    start, end = place + len(_MARK), place + len(BLANK)
    blank = raw[:start] + b"0" * (end - start) + raw[end:]
    if raw[start:end].decode("ascii", errors="replace") != hashlib.sha256(blank).hexdigest():
        raise broken_seal(source)
    return True


def broken_seal(source: str) -> CalotError:
    """What to say about a table whose bytes changed after calot wrote it."""
    return CalotError(
        f"{source}: its bytes are not those that calot wrote: the file was damaged or edited. Restore it from a copy, "
        "or make it again (calot evaluate, predict, transfer or assess; of the last two remove the file first)"
    )
