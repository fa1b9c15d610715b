"""The open list of parts, in the order of the page. One more part: its two files, and its name here."""

from __future__ import annotations

from importlib import import_module

from calot.report.explaining.section import Section

#: Each is `calot.analysis.explaining.NAME` with a PART, and `calot.report.explaining.NAME` with a SECTION.
PARTS: tuple[str, ...] = (
    *("criteria", "pooling", "segmentation", "raters", "samples"),
    *("occlusion", "cue", "embeddings", "feature_gap"),
)


def section_named(name: str) -> Section:
    """The section of one of `PARTS`."""
    found = import_module(f"calot.report.explaining.{name}").SECTION
    assert isinstance(found, Section)
    return found
