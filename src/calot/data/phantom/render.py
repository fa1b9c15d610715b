"""A video's pictures and masks: mix the two painted states, light them, move the camera, lay the instruments on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calot.data.phantom.anatomy import LEFT, SCALE, SHAPE, TOOL, TOP
from calot.data.phantom.dynamics import STRUCTURES, State
from calot.data.phantom.instruments import KINDS, Pixels, Sprite, make_sprite, placement, stamp
from calot.data.phantom.motion import Track, make_track
from calot.data.phantom.scene import Scene, make_scene
from calot.data.phantom.spec import HEIGHT, WIDTH
from calot.data.phantom.texture import Image, noise

#: Tissue is drawn at two thirds of the picture's size and enlarged: real video is no sharper.
ROWS, COLUMNS = 320, 570
_SOFT = 0.06  # width of a dissection's rim, in shares of its region
_CUE = np.array((40, 90, 235), np.float32)


@dataclass(frozen=True)
class Picture:
    """One frame: RGB pixels, and its mask where one was asked for."""

    rgb: Pixels
    mask: Pixels | None


class Renderer:
    """Draws any frame of one video; frames do not depend on the order they are asked for in."""

    def __init__(
        self, state: State, *, rng: np.random.Generator, exposure: NDArray[np.float64], cue: NDArray[np.bool_]
    ):
        self.scene: Scene = make_scene(rng)
        self.track: Track = make_track(state, rng=rng)
        self.exposure, self.cue = exposure, cue
        light = self.scene.palette.light
        self.sprites: list[Sprite] = [make_sprite(kind, rng=rng, light=light) for kind in KINDS]
        self._tool_scale = rng.uniform(0.85, 1.15, 2)
        self._lamp = rng.normal((0.0, -0.05), 0.06)
        self._shine = float(rng.uniform(0.45, 0.9))
        self._smoke = noise(rng, shape=(240, 400), cell=70, octaves=4)
        self._grain = rng.normal(0, rng.uniform(1.0, 3.0), (HEIGHT + 64, WIDTH + 64, 1)).astype(np.float32)
        self._grain_at = rng.integers(0, 64, (len(state.q), 2))
        self._frame_mask = self._border(rng)
        y, x = np.mgrid[0:ROWS, 0:COLUMNS].astype(np.float32)
        self._x = (x + 0.5) / ROWS - 0.5 * COLUMNS / ROWS
        self._y = (y + 0.5) / ROWS - 0.5
        self._prepare()

    def _prepare(self) -> None:
        scene = self.scene
        rows, columns = scene.window
        self._region = scene.anatomy.region[rows, columns]
        self._order = scene.anatomy.order[rows, columns]
        y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]].astype(np.float32)
        self._canvas_x, self._canvas_y = x / SCALE + LEFT, y / SCALE + TOP

    @staticmethod
    def _border(rng: np.random.Generator) -> Pixels:
        """The round view: black outside a circle, darker towards its rim."""
        radius = HEIGHT * rng.uniform(0.60, 0.98)
        middle = (WIDTH / 2 + rng.normal(0, 8), HEIGHT / 2 + rng.normal(0, 6))
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        distance = np.hypot(x - middle[0], y - middle[1])
        fall = 1.0 - rng.uniform(0.25, 0.55) * (distance / (0.62 * WIDTH)) ** 2
        inside = np.clip((radius - distance) / 2.5, 0, 1)
        level = np.clip(fall, 0, 1) * inside * 255
        return cv2.merge([np.round(level).astype(np.uint8)] * 3)

    def _open_share(self, index: int) -> Image:
        """How far each pixel of the dissection window is laid open, 0 covered .. 1 open."""
        shares = np.concatenate([[-1.0], self.exposure[index] * (1 + _SOFT) - _SOFT / 2]).astype(np.float32)
        gap = (shares[self._region] - self._order) / _SOFT + 0.5
        np.clip(gap, 0, 1, out=gap)
        return cv2.GaussianBlur(gap, (3, 3), 0)

    def _lit(self, index: int) -> Image:
        """The lit canvas of one frame, RGB in 0..255 floats."""
        scene, track = self.scene, self.track
        rows, columns = scene.window
        rgb, nx, ny, gloss = (
            scene.covered.rgb.copy(), scene.covered.nx.copy(), scene.covered.ny.copy(), scene.covered.gloss.copy()
        )  # fmt: skip
        share = self._open_share(index)
        near = cv2.GaussianBlur(share, (0, 0), 4)
        under = scene.opened.rgb[rows, columns] * (0.45 + 0.55 * near)[..., None]
        rim = (near * (1.0 - share))[..., None]
        over = rgb[rows, columns] * (1.0 - 0.55 * rim) + scene.palette.blood * (0.35 * rim)
        rgb[rows, columns] = over + (under - over) * share[..., None]
        slope_x = cv2.Sobel(near, cv2.CV_32F, 1, 0, ksize=3, scale=1.6)
        slope_y = cv2.Sobel(near, cv2.CV_32F, 0, 1, ksize=3, scale=1.6)
        for normal, both, slope in (
            (nx, (scene.covered.nx, scene.opened.nx), slope_x),
            (ny, (scene.covered.ny, scene.opened.ny), slope_y),
        ):
            a, b = both[0][rows, columns], both[1][rows, columns]
            normal[rows, columns] = a + (b - a) * share + slope
        if track.blood[index] > 0.02:
            stain = np.clip((scene.bloodiness + 1.9 * float(track.blood[index]) - 2.6) * 1.6, 0, 0.85)
            rgb += (scene.palette.blood - rgb) * stain[..., None]
            gloss = gloss + 0.35 * stain
        if track.gauze[index]:
            rgb += (scene.gauze_rgb - rgb) * scene.gauze[..., None]
            gloss = gloss * (1.0 - scene.gauze)
        return self._shaded(rgb, nx, ny, gloss, index)

    def _shaded(self, rgb: Image, nx: Image, ny: Image, gloss: Image, index: int) -> Image:
        camera = 0.89 + self.track.pan[index, 0] + self._lamp[0], 0.5 + self.track.pan[index, 1] + self._lamp[1]
        to_x, to_y = (camera[0] - self._canvas_x) * 0.55, (camera[1] - self._canvas_y) * 0.55
        nz = np.sqrt(np.clip(1.0 - nx * nx - ny * ny, 0.02, 1.0))
        diffuse = np.clip(0.16 + 0.84 * (nz + nx * to_x + ny * to_y), 0.05, 1.3)
        sharp = cv2.exp(-((nx - 0.5 * to_x) ** 2 + (ny - 0.5 * to_y) ** 2) * 90.0) * gloss * (150.0 * self._shine)
        gain = self.scene.palette.light * (255.0 * float(self.track.exposure[index]))
        lit = rgb * (diffuse[..., None] * gain)
        lit += sharp[..., None]
        return lit

    def _maps(self, index: int) -> tuple[Image, Image]:
        """Where on the canvas each picture pixel looks."""
        track, neck = self.track, self.scene.anatomy.neck
        cos, sin = np.cos(track.roll[index]) / track.zoom[index], np.sin(track.roll[index]) / track.zoom[index]
        x = self._x * np.float32(cos) - self._y * np.float32(sin) + np.float32(0.89 + track.pan[index, 0])
        y = self._x * np.float32(sin) + self._y * np.float32(cos) + np.float32(0.5 + track.pan[index, 1])
        bump = cv2.exp(-((x - neck[0]) ** 2 + (y - neck[1]) ** 2) / np.float32(0.05))
        x -= np.float32(track.pull[index, 0]) * bump
        y -= np.float32(track.pull[index, 1]) * bump + np.float32(track.breath[index])
        return (x - LEFT) * SCALE - 0.5, (y - TOP) * SCALE - 0.5

    def _to_screen(self, point: tuple[float, float], index: int) -> tuple[float, float]:
        track = self.track
        x, y = point[0] - 0.89 - track.pan[index, 0], point[1] - 0.5 - track.pan[index, 1] + track.breath[index]
        cos, sin = np.cos(track.roll[index]) * track.zoom[index], np.sin(track.roll[index]) * track.zoom[index]
        return float((x * cos + y * sin) * HEIGHT + WIDTH / 2), float((-x * sin + y * cos) * HEIGHT + HEIGHT / 2)

    def _tools(self, index: int) -> list[tuple[Sprite, NDArray[np.float64]]]:
        track, anatomy = self.track, self.scene.anatomy
        laid = []
        for tool, anchor in enumerate((anatomy.neck, anatomy.centre)):
            if track.present[index, tool]:
                moved = track.pull[index] if tool == 0 else (0.0, 0.0)
                spot = (
                    anchor[0] + track.tip[index, tool, 0] + moved[0],
                    anchor[1] + track.tip[index, tool, 1] + moved[1],
                )
                angle = float(track.angle[index, tool] - track.roll[index])
                matrix = placement(
                    tip=self._to_screen(spot, index),
                    angle=angle,
                    scale=float(self._tool_scale[tool] * track.zoom[index]),
                )
                laid.append((self.sprites[int(track.kind[index, tool])], matrix))
        return laid

    def _shadows(self, tissue: Image, laid: list[tuple[Sprite, NDArray[np.float64]]]) -> Image:
        small = (COLUMNS // 4, ROWS // 4)
        dark = np.zeros(small[::-1], np.uint8)
        for sprite, matrix in laid:
            shrunk = matrix * (small[1] / HEIGHT)
            shrunk[:, 2] += (3.0, 5.0)
            np.maximum(dark, cv2.warpAffine(np.ascontiguousarray(sprite.rgba[..., 3]), shrunk, small), out=dark)
        soft = cv2.resize(cv2.GaussianBlur(dark, (0, 0), 3), (COLUMNS, ROWS), interpolation=cv2.INTER_LINEAR)
        return tissue * (1.0 - soft.astype(np.float32) * (0.45 / 255))[..., None]

    def _haze(self, tissue: Image, index: int) -> Image:
        level = float(self.track.smoke[index])
        if level > 0.04:
            top, left = (index * 7) % 100, (index * 11) % 150
            veil = cv2.resize(self._smoke[top : top + 100, left : left + 180], (COLUMNS, ROWS))
            veil = np.clip(level * (0.42 + 0.22 * veil), 0, 0.85)[..., None]
            tissue = tissue + (np.float32(165.0) * self.scene.palette.light - tissue) * veil
        if self.track.blur[index] > 0.3:
            tissue = cv2.GaussianBlur(tissue, (0, 0), float(self.track.blur[index]))
        return tissue

    def frame(self, index: int, *, with_mask: bool) -> Picture:
        """Draw frame `index` of the video, and its mask when asked."""
        maps = self._maps(index)
        lit = self._lit(index)
        tissue = cv2.remap(lit, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        laid = self._tools(index)
        if laid:
            tissue = self._shadows(tissue, laid)
        tissue = self._haze(tissue, index)
        small = np.clip(tissue, 0, 255).astype(np.uint8)
        rgb = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        if self.cue[index]:
            self._draw_cue(rgb, index)
        tools = np.zeros((HEIGHT, WIDTH), np.uint8) if with_mask else None
        for sprite, matrix in laid:
            stamp(rgb, tools, sprite=sprite, matrix=matrix)
        rgb = cv2.multiply(rgb, self._frame_mask, scale=1 / 255)
        mask = None if tools is None else self._mask(maps, tools, index)
        return Picture(rgb, mask)

    def _draw_cue(self, rgb: Pixels, index: int) -> None:
        x, y = self._to_screen((1.18, 0.24), index)
        turned = ((x, y), (46.0, 26.0), 30.0)
        cv2.fillPoly(rgb, [cv2.boxPoints(turned).round().astype(np.int32)], _CUE.tolist(), cv2.LINE_AA)
        cv2.line(rgb, (int(x) - 14, int(y) - 10), (int(x) + 16, int(y) + 6), (150, 190, 255), 4, cv2.LINE_AA)

    def _mask(self, maps: tuple[Image, Image], tools: Pixels, index: int) -> Pixels:
        rows, columns = self.scene.window
        anatomy = self.scene.anatomy
        canvas = np.zeros(SHAPE, np.float32)
        canvas[rows, columns] = self._open_share(index)
        classes = np.where(anatomy.gallbladder_mask, 5, 0).astype(np.uint8)
        big = [cv2.resize(m, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) for m in maps]
        solid = cv2.remap(classes, *big, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
        opened = cv2.remap(anatomy.open_class, *big, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
        share = cv2.remap(canvas, *big, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        mask = np.where((share > 0.5) & (opened > 0), opened, solid)
        mask[tools > 127] = TOOL
        mask[self._frame_mask[..., 0] == 0] = 0
        return np.asarray(mask, np.uint8)


def drawn_exposure(state: State, *, hidden: tuple[str, ...]) -> NDArray[np.float64]:
    """The state's exposure by structure, with the hidden structures never laid open."""
    shown = state.exposure.copy()
    for name in hidden:
        shown[:, STRUCTURES.index(name)] = 0.0
    return shown
