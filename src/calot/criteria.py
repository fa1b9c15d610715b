"""The three criteria of the Critical View of Safety, by name, and the columns each data set stores them under."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from calot.config.component import Component
from calot.config.fields import NonNegative

TWO_STRUCTURES = "two_structures"
HEPATOCYSTIC_TRIANGLE = "hepatocystic_triangle"
CYSTIC_PLATE = "cystic_plate"

#: Canonical order, used by every tensor's `k` axis and every file.
CRITERIA: tuple[str, str, str] = (TWO_STRUCTURES, HEPATOCYSTIC_TRIANGLE, CYSTIC_PLATE)

#: Column names in column order -> criterion, per data set. Endoscapes: its maintainer (issue 10) and
#: Sci Data s41597-025-04642-4, Fig. 5; Cholec80-CVS swaps the last two.
COLUMNS: dict[str, dict[str, str]] = {
    "endoscapes": {"C1": TWO_STRUCTURES, "C2": HEPATOCYSTIC_TRIANGLE, "C3": CYSTIC_PLATE},
    "sages": {"c1": TWO_STRUCTURES, "c2": HEPATOCYSTIC_TRIANGLE, "c3": CYSTIC_PLATE},
    "cholec80_cvs": {"C1": TWO_STRUCTURES, "C2": CYSTIC_PLATE, "C3": HEPATOCYSTIC_TRIANGLE},
}

_LABELS = dict(zip(CRITERIA, ("C1 two structures", "C2 hepatocystic triangle", "C3 cystic plate"), strict=True))


def label(criterion: str) -> str:
    """Column letter with the right name, for people: `C2 hepatocystic triangle` (Endoscapes' letters)."""
    return _LABELS[criterion]


#: Classes of a segmentation mask in training, by id; gallbladder and tool count as background.
MASK_CLASSES = ("background", "cystic_plate", "hepatocystic_triangle", "cystic_artery", "cystic_duct")


#: Mask pixels that no term may use.
IGNORED = 255


@dataclass(frozen=True)
class PerCriterion(Component):
    """One number per criterion, stored by name; `PerCriterion.of([1, 5, 1])` reads column order C1, C2, C3."""

    two_structures: NonNegative = 1.0
    hepatocystic_triangle: NonNegative = 1.0
    cystic_plate: NonNegative = 1.0

    @classmethod
    def of(cls, values: Sequence[float]) -> PerCriterion:
        """Read three numbers in canonical order. Raises ValueError for any other count."""
        if len(values) != len(CRITERIA):
            raise ValueError(f"expected {len(CRITERIA)} numbers, one per criterion {CRITERIA}, got {list(values)}")
        return cls(**dict(zip(CRITERIA, map(float, values), strict=True)))

    def __iter__(self) -> Iterator[float]:
        return iter((self.two_structures, self.hepatocystic_triangle, self.cystic_plate))
