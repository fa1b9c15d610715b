"""Endoscapes2023 and every folder in its layout: unpacked, read, and what is published of it."""

from calot.data.endoscapes.reader import read_endoscapes

__all__ = ["read_endoscapes"]
