"""Where a parameter of a backbone sits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a parameter sits: `height` 0 is the embedding, 1 to L the layers, L + 1 the final norm; `part` is the same
    as a word (`embedding`, `layer.3`, `final_norm`), `role` that of its linear, if it has one. Outside the family's
    layout a parameter has no height, and the part is its own name."""

    height: int | None
    part: str
    role: str | None = None
