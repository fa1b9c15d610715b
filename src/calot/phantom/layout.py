"""Control points of the organs, seen from the front and with the gallbladder turned over, and how far patients vary."""

from __future__ import annotations

from dataclasses import dataclass

Path2 = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class OrganLayout:
    """Where the organs of an ordinary patient lie, in scene units; the two sides have equally many points."""

    gallbladder: Path2
    duct: Path2
    artery: Path2
    triangle: Path2
    plate: Path2


#: An ordinary scene, as seen on real frames: gallbladder from the top, drawn to the left; duct and artery run to the
#: right into the fat of the hepatoduodenal ligament; liver above.
FRONT_LAYOUT = OrganLayout(
    gallbladder=((0.62, -0.24), (0.53, 0.06), (0.53, 0.34), (0.65, 0.52), (0.79, 0.60)),
    duct=((0.76, 0.585), (0.87, 0.655), (0.98, 0.70), (1.10, 0.725), (1.25, 0.83)),
    artery=((0.72, 0.42), (0.86, 0.475), (0.97, 0.49), (1.08, 0.52), (1.25, 0.64)),
    triangle=(
        *((0.70, 0.30), (0.88, 0.29), (1.03, 0.36), (1.16, 0.50)),
        *((1.15, 0.66), (1.05, 0.68), (0.90, 0.64), (0.76, 0.56)),
    ),
    plate=((0.70, -0.02), (0.87, -0.04), (1.00, 0.10), (1.03, 0.26), (0.92, 0.30), (0.70, 0.31)),
)

#: The gallbladder turned over to the right: what lay behind it lies to its left; duct and artery run down and back.
BACK_LAYOUT = OrganLayout(
    gallbladder=((1.04, -0.26), (1.18, 0.02), (1.22, 0.28), (1.12, 0.46), (0.99, 0.55)),
    duct=((1.01, 0.54), (0.94, 0.63), (0.91, 0.71), (0.97, 0.79), (1.12, 0.87)),
    artery=((1.06, 0.40), (0.91, 0.44), (0.80, 0.53), (0.77, 0.66), (0.88, 0.82)),
    triangle=(
        *((1.06, 0.31), (0.90, 0.28), (0.75, 0.34), (0.65, 0.46)),
        *((0.66, 0.62), (0.78, 0.70), (0.92, 0.67), (1.03, 0.56)),
    ),
    plate=((1.05, -0.04), (0.90, -0.06), (0.76, 0.06), (0.72, 0.24), (0.84, 0.29), (1.07, 0.31)),
)

SIDES = (FRONT_LAYOUT, BACK_LAYOUT)


@dataclass(frozen=True, kw_only=True)
class Variety:
    """How far an operation may leave the ordinary one; the defaults are the ordinary draw itself.

    `anatomy` and `zoom` scale the spread of geometry and fat, and of the camera's distance; `strands` thin bands cross
    the triangle and are cut last, one by one; `artery` scales that vessel's radius.
    """

    anatomy: float = 1.0
    zoom: float = 1.0
    strands: int = 0
    artery: float = 1.0

    def band(self, low: float, high: float) -> tuple[float, float]:
        """A range of the ordinary draw, widened about its middle; itself at 1."""
        more = 0.5 * (high - low) * (self.anatomy - 1.0)
        return low - more, high + more


ORDINARY = Variety()
