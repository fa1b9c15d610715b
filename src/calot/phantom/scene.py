"""The patient painted twice, all laid open and all covered; a frame is a mixture of the two."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calot.phantom import palette as colours
from calot.phantom.anatomy import SCALE, SHAPE, Anatomy, build, grid
from calot.phantom.layout import FRONT_LAYOUT, ORDINARY, OrganLayout, Variety
from calot.phantom.texture import Image, lobules, mix, noise, slopes, smoothstep, vessels

_SHADOW = np.array([[1, 0, 2.0], [0, 1, 4.0]], np.float32)


@dataclass
class Surface:
    """A painted canvas before light falls on it: colour, relief in canvas pixels, wetness, fine unevenness."""

    rgb: Image
    height: Image
    gloss: Image
    rough: Image

    def paint(
        self, opacity: Image, *, rgb: Image, height: Image, gloss: float, rough: float, shadow: float = 0.0
    ) -> None:
        """Lay a tissue over what is there; `shadow` darkens what lies beside and below it."""
        if shadow:
            near = cv2.GaussianBlur(opacity, (0, 0), 6)
            near = cv2.warpAffine(near, _SHADOW, SHAPE[::-1], borderMode=cv2.BORDER_REPLICATE)
            self.rgb *= (1.0 - shadow * near * (1.0 - opacity))[..., None]
        self.rgb = mix(self.rgb, rgb, opacity)
        self.height = mix(self.height, height, opacity)
        self.gloss = self.gloss + (gloss - self.gloss) * opacity
        self.rough = self.rough + (rough - self.rough) * opacity

    def copy(self) -> Surface:
        """An independent copy, to be painted on further."""
        return Surface(self.rgb.copy(), self.height.copy(), self.gloss.copy(), self.rough.copy())


@dataclass(frozen=True)
class Material:
    """What a frame needs of a surface: colour, normal, wetness."""

    rgb: Image
    nx: Image
    ny: Image
    gloss: Image


@dataclass(frozen=True)
class Scene:
    """One patient, ready to be lit: geometry, both states, and the fields that blood and gauze spread along."""

    anatomy: Anatomy
    palette: colours.Palette
    opened: Material
    covered: Material
    bloodiness: Image
    gauze: Image  # opacity
    gauze_rgb: Image
    window: tuple[slice, slice]  # rows and columns where the two states differ


@dataclass(frozen=True)
class _Grain:
    fine: Image
    mid: Image
    broad: Image
    streak: Image
    lobes: Image
    small_lobes: Image
    capillaries: Image


def _grain(rng: np.random.Generator) -> _Grain:
    streak = noise(rng, shape=SHAPE, cell=26, octaves=3)
    streak = cv2.warpAffine(
        streak, np.array([[2.8, 0.9, -200], [-0.15, 0.55, 40]], np.float32), SHAPE[::-1], borderMode=cv2.BORDER_REFLECT
    )
    return _Grain(
        fine=noise(rng, shape=SHAPE, cell=6, octaves=3),
        mid=noise(rng, shape=SHAPE, cell=24, octaves=4),
        broad=noise(rng, shape=SHAPE, cell=110, octaves=3),
        streak=streak,
        lobes=lobules(rng, shape=SHAPE, cell=float(rng.uniform(15, 24))),
        small_lobes=lobules(rng, shape=SHAPE, cell=float(rng.uniform(7, 11))),
        capillaries=vessels(rng, shape=SHAPE, count=46, length=90, width=0.9),
    )


def _shade(colour: colours.Colour, *, by: Image | NDArray[np.float64], other: colours.Colour | None = None) -> Image:
    """A colour field: `colour` scaled by 1 + `by`, or moved towards `other` by `by`."""
    if other is None:
        return np.asarray(colour * (1.0 + by)[..., None], np.float32)
    opacity = np.clip(by, 0, 1).astype(np.float32)
    return mix(np.broadcast_to(colour, (*SHAPE, 3)), np.broadcast_to(other, (*SHAPE, 3)), opacity)


def _edge(field: Image, *, width: float) -> Image:
    return smoothstep(field / width + 0.5)


def make_scene(rng: np.random.Generator, *, layout: OrganLayout = FRONT_LAYOUT, variety: Variety = ORDINARY) -> Scene:
    """Draw a patient: geometry, colours, textures, both states."""
    anatomy = build(rng, layout=layout, variety=variety)
    palette, grain = colours.draw_palette(rng), _grain(rng)
    surface = _surroundings(rng, anatomy, palette, grain, variety)
    covered = surface.copy()
    _lay_open(surface, anatomy=anatomy, palette=palette, grain=grain)
    _cover(covered, anatomy=anatomy, palette=palette, grain=grain)
    for each in (surface, covered):
        _gallbladder(each, anatomy=anatomy, palette=palette, grain=grain)
    rows, columns = np.nonzero(anatomy.region)
    pad = 14
    window = (
        slice(max(int(rows.min()) - pad, 0), min(int(rows.max()) + pad, SHAPE[0])),
        slice(max(int(columns.min()) - pad, 0), min(int(columns.max()) + pad, SHAPE[1])),
    )
    gauze, gauze_rgb = _gauze(rng, palette)
    x, y = grid()
    source = anatomy.centre + rng.normal((0.0, 0.0), (0.10, 0.14))  # bleeding starts somewhere near the dissection
    near = np.exp(-((x - source[0]) ** 2 + (y - source[1]) ** 2) / 0.03).astype(np.float32)
    blood = 0.5 * noise(rng, shape=SHAPE, cell=60, octaves=5) + 0.4 * noise(rng, shape=SHAPE, cell=160, octaves=2)
    blood += 0.9 * near - 0.1
    return Scene(
        anatomy, palette, _material(surface, grain), _material(covered, grain), blood, gauze, gauze_rgb, window
    )  # fmt: skip


def _veined(rgb: Image, *, palette: colours.Palette, grain: _Grain, strength: float) -> Image:
    return mix(rgb, np.broadcast_to(palette.vessel, (*SHAPE, 3)), strength * grain.capillaries)


def _surroundings(
    rng: np.random.Generator, anatomy: Anatomy, palette: colours.Palette, grain: _Grain, variety: Variety
) -> Surface:
    liver_rgb = _shade(palette.liver, by=0.10 * grain.broad + 0.05 * grain.mid + 0.035 * grain.fine)
    dome = 34.0 * smoothstep((anatomy.liver + 0.02) / 0.30) + 6.0 * grain.broad
    surface = Surface(liver_rgb, dome, np.full(SHAPE, 0.6, np.float32), np.full(SHAPE, 0.08, np.float32))
    deep = _edge(-anatomy.liver - 0.01, width=0.03)  # under the liver's edge: another lobe, in its shade
    surface.paint(deep, rgb=liver_rgb * 0.50, height=5.0 * grain.broad - 10.0, gloss=0.3, rough=0.2, shadow=0.2)
    _wall_and_bowel(surface, rng, palette=palette, grain=grain)
    fat_rgb = _shade(palette.fat, by=0.14 * (grain.lobes - 0.6) + 0.07 * grain.mid + 0.06 * grain.broad)
    fat_rgb = mix(fat_rgb, np.broadcast_to(palette.cover_deep, (*SHAPE, 3)), 0.25 * np.clip(grain.streak, 0, 1))
    fat_rgb = _veined(fat_rgb, palette=palette, grain=grain, strength=0.5)
    ligament = _edge(anatomy.ligament + 0.012 * grain.mid, width=0.035)
    mound = 42.0 * smoothstep((anatomy.ligament + 0.01) / 0.26) + 1.5 * grain.lobes + 5.0 * grain.broad
    surface.paint(ligament, rgb=fat_rgb, height=mound, gloss=0.5, rough=0.5, shadow=0.35)
    amount = float(rng.normal(0.7, 0.5 * variety.anatomy))  # fat that has nothing to do with the criteria
    patches = _edge(grain.broad + 0.25 * grain.mid - 1.5 + 0.6 * amount - 3.0 * np.abs(anatomy.liver - 0.02), width=0.4)
    patches = patches * cv2.GaussianBlur((anatomy.region == 0).astype(np.float32), (0, 0), 4)
    raised = surface.height + 9.0 * cv2.GaussianBlur(patches, (0, 0), 4)
    surface.paint(patches, rgb=fat_rgb * 0.95, height=raised, gloss=0.45, rough=0.6, shadow=0.3)
    return surface


def _wall_and_bowel(surface: Surface, rng: np.random.Generator, *, palette: colours.Palette, grain: _Grain) -> None:
    x, y = grid()
    side = float(rng.uniform(0.28, 0.46))
    wall = _edge(side - x + 0.12 * (y - 0.3) + 0.02 * grain.broad, width=0.06)
    wall_rgb = _shade(palette.wall, by=0.08 * grain.broad + 0.05 * grain.mid + 0.05 * grain.streak)
    wall_rgb = _veined(wall_rgb, palette=palette, grain=grain, strength=0.5)
    surface.paint(wall, rgb=wall_rgb, height=12.0 * grain.broad + 4.0, gloss=0.35, rough=0.25, shadow=0.25)
    low = float(rng.uniform(0.74, 1.02))
    bowel = _edge(y - low - 0.18 * (x - 0.6) ** 2 + 0.02 * grain.broad, width=0.05) * _edge(0.95 - x, width=0.15)
    bowel_rgb = _shade(palette.bowel, by=0.07 * grain.broad + 0.05 * grain.mid + 0.02 * grain.fine)
    bowel_rgb = _veined(bowel_rgb, palette=palette, grain=grain, strength=0.45)
    hill = 34 * smoothstep((y - low + 0.02) / 0.34) + 3 * grain.broad
    surface.paint(bowel, rgb=bowel_rgb, height=hill, gloss=0.55, rough=0.25, shadow=0.4)


def _lay_open(surface: Surface, *, anatomy: Anatomy, palette: colours.Palette, grain: _Grain) -> None:
    """Plate, window, artery and duct as they are after complete dissection."""
    plate_rgb = _shade(palette.plate, by=0.06 * grain.mid + 0.06 * grain.streak + 0.03 * grain.fine)
    plate_rgb = mix(
        plate_rgb, np.broadcast_to(palette.artery, (*SHAPE, 3)), 0.35 * np.clip(0.2 + 0.6 * grain.mid, 0, 1)
    )
    plate_rgb = _veined(plate_rgb, palette=palette, grain=grain, strength=0.35)
    surface.paint(
        _edge(anatomy.plate, width=0.03),
        rgb=plate_rgb,
        height=2.0 + 1.2 * grain.broad,
        gloss=0.25,
        rough=0.35,
        shadow=0.2,
    )
    deep = smoothstep(anatomy.triangle / 0.12)
    back = _shade(palette.fascia, by=0.12 * grain.mid + 0.05 * grain.fine) * (1.0 - 0.3 * deep)[..., None]
    surface.paint(_edge(anatomy.triangle, width=0.02), rgb=back, height=-8.0 * deep + grain.mid, gloss=0.5, rough=0.35)
    for tube, colour, lift in ((anatomy.artery, palette.artery, 8.0), (anatomy.duct, palette.duct, 12.0)):
        bulge = np.clip(1.0 - tube.ratio**2, 0.0, 1.0) * tube.radius * SCALE * 1.1
        red = np.clip(0.15 + 0.35 * grain.mid, 0, 0.5)  # raw shreds left on the tube
        rgb = _shade(colour, by=0.05 * grain.streak + 0.03 * grain.fine - 0.12 * tube.ratio**2)
        rgb = _veined(
            mix(rgb, np.broadcast_to(palette.artery, (*SHAPE, 3)), red), palette=palette, grain=grain, strength=0.3
        )
        opacity = smoothstep((1.0 - tube.ratio) / 0.16)
        surface.paint(opacity, rgb=rgb, height=lift + bulge, gloss=0.75, rough=0.35, shadow=0.5)


def _cover(surface: Surface, *, anatomy: Anatomy, palette: colours.Palette, grain: _Grain) -> None:
    """Fat and peritoneum over everything that dissection lays open, and a little beyond."""
    sheet = cv2.GaussianBlur((anatomy.region > 0).astype(np.float32), (0, 0), 7)
    sheet = smoothstep((sheet - 0.08 + 0.08 * grain.mid) / 0.5)
    lobes = (1 - palette.inflamed) * grain.lobes + palette.inflamed * grain.small_lobes
    raw = np.clip(0.40 + 0.30 * grain.mid + 0.30 * grain.streak - 0.35 * lobes + 0.15 * grain.broad, 0, 1)
    rgb = _shade(palette.cover, by=0.85 * raw, other=palette.cover_deep)
    rgb = rgb * (1.0 + 0.16 * (lobes - 0.55) + 0.03 * grain.fine + 0.06 * grain.broad)[..., None]
    rgb = _veined(rgb, palette=palette, grain=grain, strength=0.25 + 0.4 * palette.inflamed)
    rgb = mix(rgb, np.broadcast_to(palette.raw, (*SHAPE, 3)), _rawness(grain, palette=palette))
    bulge = 8.0 + 13.0 * smoothstep((anatomy.triangle + 0.05) / 0.16) + 2.4 * lobes + 1.5 * grain.mid
    upper = smoothstep((anatomy.plate + 0.04) / 0.06)  # over the plate: serosa that runs from gallbladder to liver
    across = np.clip((anatomy.gallbladder.ratio - 1.0) / 0.9 + 0.25 * grain.mid, 0, 1)
    serosa = _shade(palette.serosa, by=0.85 * across, other=palette.liver * 1.1)
    serosa = _veined(serosa * (1 + 0.06 * grain.streak)[..., None], palette=palette, grain=grain, strength=0.5)
    rgb = mix(rgb, serosa, upper)
    fold = surface.height + 5.0 * (1 - across) + 1.5 * grain.broad
    surface.paint(sheet * (1 - upper), rgb=rgb, height=bulge, gloss=0.55, rough=0.75, shadow=0.25)
    surface.paint(sheet * upper, rgb=rgb, height=fold, gloss=0.6, rough=0.3)


def _rawness(grain: _Grain, *, palette: colours.Palette) -> Image:
    """Where handled tissue has turned red, as an opacity."""
    patches = smoothstep((grain.broad + 0.7 * grain.mid + 0.3 * grain.streak - 1.1 + 1.3 * palette.inflamed) / 1.6)
    return np.asarray(0.75 * patches, np.float32)


def _gallbladder(surface: Surface, *, anatomy: Anatomy, palette: colours.Palette, grain: _Grain) -> None:
    tube = anatomy.gallbladder
    blend = np.clip(tube.along * 0.8 + 0.35 * grain.broad - 0.1 + 0.2 * grain.mid, 0, 1)
    rgb = _shade(palette.gallbladder, by=blend, other=palette.gallbladder_low)
    rgb = rgb * (1.0 + 0.035 * grain.streak + 0.015 * grain.fine)[..., None]
    rgb = _veined(rgb, palette=palette, grain=grain, strength=0.5)
    handled = _rawness(grain, palette=palette) * smoothstep((tube.along - 0.35) / 0.5 + 0.3 * grain.mid)
    rgb = mix(rgb, np.broadcast_to(palette.raw, (*SHAPE, 3)), 0.7 * handled)
    dome = np.clip(1.0 - tube.ratio**2, 0.0, 1.0) * tube.radius * SCALE * 0.85 + 3.0 * grain.broad + 8.0
    surface.paint(smoothstep((1.0 - tube.ratio) / 0.06 + 0.5), rgb=rgb, height=dome, gloss=0.7, rough=0.22, shadow=0.35)


def _gauze(rng: np.random.Generator, palette: colours.Palette) -> tuple[Image, Image]:
    x, y = grid()
    middle = np.array((rng.uniform(0.35, 0.75), rng.uniform(0.92, 1.1)))
    size = rng.uniform(0.16, 0.26)
    crumple = noise(rng, shape=SHAPE, cell=50, octaves=3)
    shape = 1.0 - np.hypot((x - middle[0]) / 1.2, y - middle[1]) / size + 0.22 * crumple
    opacity = smoothstep(shape / 0.10)
    weave = 0.5 + 0.25 * np.sin(x * SCALE * 1.5 + 7.0 * crumple) + 0.25 * np.sin(y * SCALE * 1.5 + 6.0 * crumple)
    soaked = np.clip(0.35 + 0.5 * noise(rng, shape=SHAPE, cell=60, octaves=4), 0, 1)[..., None]
    cloth = np.array((0.88, 0.84, 0.80), np.float32) * (1 - soaked) + np.array((0.66, 0.22, 0.26), np.float32) * soaked
    rgb = cloth * (0.62 + 0.3 * weave + 0.10 * crumple)[..., None]
    return np.asarray(opacity, np.float32), np.asarray(rgb, np.float32)


def _material(surface: Surface, grain: _Grain) -> Material:
    relief = surface.height + surface.rough * (1.3 * grain.mid + 0.8 * grain.fine)
    nx, ny = slopes(cv2.GaussianBlur(relief.astype(np.float32), (0, 0), 1.0))
    return Material(surface.rgb.astype(np.float32), nx, ny, surface.gloss.astype(np.float32))
