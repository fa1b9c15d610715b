"""Where the organs lie: curves and regions in the scene's plane, one draw per video.

Unit: the height of the picture. x runs right, y down; the picture spans x 0 .. 1.78 and y 0 .. 1, and the canvas
reaches beyond it so that the camera can move. All fields are arrays on that canvas.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calot.phantom.dynamics import STRUCTURES
from calot.phantom.layout import FRONT_LAYOUT, ORDINARY, OrganLayout, Path2, Variety
from calot.phantom.strands import strands_of
from calot.phantom.texture import Image, noise

SCALE = 300  # canvas pixels per unit
LEFT, TOP = -0.17, -0.14
SHAPE = (int(1.28 * SCALE), int(2.12 * SCALE))  # canvas rows, columns

BACKGROUND, PLATE, TRIANGLE, ARTERY, DUCT, GALLBLADDER, TOOL = range(7)
CLASSES = ("cystic_plate", "calot_triangle", "cystic_artery", "cystic_duct", "gallbladder", "tool")
#: The class that shows where a structure of `STRUCTURES` is laid open.
CLASS_OF = dict(zip(STRUCTURES, (DUCT, ARTERY, TRIANGLE, PLATE), strict=True))

Points = NDArray[np.float32]

_GALLBLADDER_RADIUS = (0.18, 0.19, 0.18, 0.14, 0.05)
_LIVER_EDGE = ((0.60, 0.24), (0.86, 0.28), (1.02, 0.33), (1.18, 0.44), (1.45, 0.50), (2.10, 0.46))
_LIGAMENT = ((0.70, 1.30), (0.84, 0.86), (0.98, 0.76), (1.12, 0.60), (1.20, 0.48), (1.50, 0.50), (2.10, 0.44))


@dataclass(frozen=True)
class Tube:
    """A tubular organ on the canvas: distance to its axis over its radius, place along it 0..1, radius in units."""

    ratio: Image
    along: Image
    radius: Image


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """One video's organs as fields on the canvas; regions are signed distances in units, positive inside."""

    gallbladder: Tube
    duct: Tube
    artery: Tube
    triangle: Image
    plate: Image
    liver: Image  # above its lower edge
    ligament: Image
    centre: tuple[float, float]  # of the triangle
    neck: tuple[float, float]  # of the gallbladder


@dataclass(frozen=True, kw_only=True)
class Anatomy(Shapes):
    """One video's organs, and the order in which dissection lays them open.

    `region` says which structure's dissection lays a pixel open (0 none, else 1 + its index in `STRUCTURES`), `order`
    in which share of that dissection it happens, so that the open share of a region equals the state's exposure.
    `open_class` is the class that then shows; `gallbladder_mask` holds where nothing is dissected. `strands` is the
    opacity of thin bands across the triangle (None without), which are cut last, so that its open share runs ahead.
    """

    region: NDArray[np.uint8]
    order: Image
    open_class: NDArray[np.uint8]
    gallbladder_mask: NDArray[np.bool_]
    strands: Image | None = None


def grid() -> tuple[Image, Image]:
    """x and y of every canvas pixel, in units."""
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]].astype(np.float32)
    return x / SCALE + LEFT, y / SCALE + TOP


def curve(points: Points, *, count: int = 48) -> tuple[Points, Points]:
    """A smooth curve through control points (Catmull-Rom): positions and parameter 0..1."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, len(points) - 1 - 1e-6, count)
    i, f = t.astype(int), (t % 1)[:, None]
    a, b, c, d = (padded[i + j] for j in range(4))
    line = 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3)
    return np.asarray(line, np.float32), np.asarray(t / t[-1], np.float32)


def tube(points: Points, *, radius: NDArray[np.float64], x: Image, y: Image) -> Tube:
    """Distance field of a curve with a radius that changes along it."""
    line, parameter = curve(points)
    radii = np.interp(parameter, np.linspace(0, 1, len(radius)), radius).astype(np.float32)
    rows, columns = _tiles(x), _tiles(y)
    near = _near(line, radii, x=rows, y=columns)
    best = np.full(rows.shape, np.inf, np.float32)
    along, thick = np.zeros_like(rows), np.ones_like(rows)
    for i, at in enumerate(near):
        (x0, y0), (x1, y1) = line[i], line[i + 1]
        u0, u1, r0, r1 = parameter[i], parameter[i + 1], radii[i], radii[i + 1]
        dx, dy, px, py = x1 - x0, y1 - y0, rows[at], columns[at]
        f = np.clip(((px - x0) * dx + (py - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        distance = np.hypot(px - x0 - f * dx, py - y0 - f * dy) / (r0 + f * (r1 - r0))
        nearer = distance < best[at]
        best[at] = np.where(nearer, distance, best[at])
        along[at] = np.where(nearer, u0 + f * (u1 - u0), along[at])
        thick[at] = np.where(nearer, r0 + f * (r1 - r0), thick[at])
    return Tube(*(_whole(each) for each in (best, along, thick)))


_TILE = 16  # pixels; divides the canvas: a curve's far segments are skipped tile by tile


def _tiles(field: Image) -> Image:
    rows, columns = SHAPE[0] // _TILE, -(-SHAPE[1] // _TILE)
    padded = np.pad(field, ((0, 0), (0, columns * _TILE - SHAPE[1])), mode="edge")
    return padded.reshape(rows, _TILE, columns, _TILE).swapaxes(1, 2).reshape(-1, _TILE * _TILE)


def _whole(tiles: Image) -> Image:
    rows, columns = SHAPE[0] // _TILE, -(-SHAPE[1] // _TILE)
    laid = tiles.reshape(rows, columns, _TILE, _TILE).swapaxes(1, 2).reshape(SHAPE[0], -1)
    return np.ascontiguousarray(laid[:, : SHAPE[1]])


def _near(line: Points, radii: Points, *, x: Image, y: Image) -> list[NDArray[np.int64]]:
    """For each segment of a curve the tiles in which it may be the nearest; elsewhere another one surely is nearer."""
    cx, cy = x.mean(axis=1), y.mean(axis=1)
    reach = np.hypot(x - cx[:, None], y - cy[:, None]).max(axis=1) + 1e-4
    start, way = line[:-1, :, None], (line[1:] - line[:-1])[:, :, None]
    f = ((cx - start[:, 0]) * way[:, 0] + (cy - start[:, 1]) * way[:, 1]) / (way**2).sum(axis=1)
    f = np.clip(f, 0, 1)
    far = np.hypot(cx - start[:, 0] - f * way[:, 0], cy - start[:, 1] - f * way[:, 1])  # segment x tile
    thick, thin = (pick(radii[:-1], radii[1:])[:, None] for pick in (np.maximum, np.minimum))
    surely = ((far + reach) / thin).min(axis=0)
    return [np.flatnonzero(row) for row in (far - reach) / thick <= surely * 1.001]


def signed_distance(polygon: Points) -> Image:
    """Distance to a polygon's border in units, positive inside."""
    mask = np.zeros(SHAPE, np.uint8)
    pixels = np.round((polygon - (LEFT, TOP)) * SCALE * 8).astype(np.int32)
    cv2.fillPoly(mask, [pixels], 1, cv2.LINE_8, 3)
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
    return np.asarray((inside - outside) / SCALE, np.float32)


def _ranks(raw: Image, *, where: NDArray[np.bool_]) -> NDArray[np.float32]:
    values = raw[where]
    ranks = np.empty(len(values), np.float32)
    ranks[values.argsort(kind="stable")] = (np.arange(len(values)) + 0.5) / max(len(values), 1)
    return ranks


def _beyond(points: Points, *, x: Image, y: Image) -> Image:
    """How far a pixel lies below the curve's height at its x, in units."""
    line, _ = curve(points)
    by_x = line[line[:, 0].argsort()]
    return np.asarray(y - np.interp(x, by_x[:, 0], by_x[:, 1]), np.float32)


def build(rng: np.random.Generator, *, layout: OrganLayout = FRONT_LAYOUT, variety: Variety = ORDINARY) -> Anatomy:
    """Draw one patient; equal random numbers give the same patient in either layout."""
    shapes = _shapes(rng, layout=layout, variety=variety)
    region, order = _dissection(shapes, rng=rng)
    strands = None
    if variety.strands:
        where = region == 1 + STRUCTURES.index("triangle")
        drawn = strands_of(where, order=order, count=variety.strands, rng=rng, grid=grid(), centre=shapes.centre)
        order, strands = drawn.order, drawn.opacity
    open_class = np.zeros(SHAPE, np.uint8)
    plate, artery, duct = (region == 1 + STRUCTURES.index(name) for name in ("plate", "artery", "duct"))
    open_class[region > 0] = TRIANGLE  # a window, also beside the tubes
    open_class[plate] = PLATE
    open_class[artery & (shapes.artery.ratio < 1)] = ARTERY
    open_class[duct & (shapes.duct.ratio < 1)] = DUCT
    return Anatomy(
        **vars(shapes),
        region=region,
        order=order,
        open_class=open_class,
        gallbladder_mask=shapes.gallbladder.ratio <= 1.0,
        strands=strands,
    )


def _shapes(rng: np.random.Generator, *, layout: OrganLayout, variety: Variety) -> Shapes:
    """The ordinary scene turned, stretched and bent."""
    wide = variety.anatomy
    turn = rng.normal(0, 0.09 * wide)
    stretch = np.clip(rng.normal((1.03, 1.03), 0.06 * wide), *variety.band(0.9, 1.18))
    shift, pivot = rng.normal((0.0, 0.01), (0.045, 0.03)), np.array((0.92, 0.48))
    turning = np.array(((np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn)))) * stretch[:, None]

    def place(points: Path2) -> Points:
        moved = (np.asarray(points) - pivot) @ turning.T + pivot + shift
        return np.asarray(moved + rng.normal(0, 0.012 * wide, moved.shape), np.float32)

    def radius(low: float, high: float, *, scale: float = 1.0) -> NDArray[np.float64]:
        return np.full(2, scale * rng.uniform(*variety.band(low, high)))

    def ragged(cell: float, strength: float) -> Image:
        return strength * noise(rng, shape=SHAPE, cell=cell, octaves=3)

    flat_x, flat_y = grid()
    bend = ragged(70, 0.012)
    x, y = flat_x + bend, flat_y + ragged(70, 0.012)
    girth = float(np.clip(rng.normal(1.0, 0.1 * wide), *variety.band(0.75, 1.25)))
    corners = place(layout.triangle)
    beyond = np.array(((2.3, 1.4),), np.float32)  # closes the ligament's border outside the canvas
    return Shapes(
        gallbladder=tube(place(layout.gallbladder), radius=np.asarray(_GALLBLADDER_RADIUS) * girth, x=x, y=y),
        duct=tube(place(layout.duct), radius=radius(0.034, 0.046), x=x, y=y),
        artery=tube(place(layout.artery), radius=radius(0.023, 0.030, scale=variety.artery), x=x, y=y),
        triangle=signed_distance(corners) + ragged(24, 0.012),
        plate=signed_distance(place(layout.plate)) + ragged(24, 0.010),
        liver=-_beyond(place(_LIVER_EDGE), x=x, y=y),
        ligament=signed_distance(np.concatenate([place(_LIGAMENT), beyond])) + bend,
        centre=(float(corners[:, 0].mean()), float(corners[:, 1].mean())),
        neck=(float(corners[-1, 0]), float(corners[-1, 1])),
    )


def _dissection(shapes: Shapes, *, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Image]:
    """Which structure's dissection lays a pixel open, and in which share of it."""
    free = shapes.gallbladder.ratio > 1.0
    artery, duct = shapes.artery, shapes.duct
    ragged = dict(zip(STRUCTURES, (noise(rng, shape=SHAPE, cell=30, octaves=3) for _ in STRUCTURES), strict=True))
    where = {  # later ones lie in front
        "plate": (shapes.plate > 0) & free,
        "triangle": (shapes.triangle > 0) & free,
        "artery": (artery.ratio < 1.45) & (artery.along < 0.86) & free & (duct.ratio > 1.2),
        "duct": (duct.ratio < 1.4) & (duct.along < 0.84) & free,
    }
    first = {
        "plate": -shapes.plate + 0.02 * ragged["plate"],
        "triangle": -shapes.triangle + 0.012 * ragged["triangle"],
        "artery": np.abs(artery.along - 0.45) + 0.05 * artery.ratio + 0.08 * ragged["artery"],
        "duct": np.abs(duct.along - 0.35) + 0.05 * duct.ratio + 0.08 * ragged["duct"],
    }
    region, order = np.zeros(SHAPE, np.uint8), np.full(SHAPE, 2.0, np.float32)
    for name, mask in where.items():
        region[mask] = 1 + STRUCTURES.index(name)
    for index, name in enumerate(STRUCTURES):
        mask = region == 1 + index
        order[mask] = _ranks(first[name], where=mask)
    return region, order
