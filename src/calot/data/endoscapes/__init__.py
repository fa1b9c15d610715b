"""Endoscapes2023 and every folder in its layout: unpacking, reading, and what is published about it."""

from calot.data.endoscapes.reader import read_endoscapes

__all__ = ["read_endoscapes"]
