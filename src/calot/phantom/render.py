"""A video's pictures and masks: lit tissue seen by a moving camera, shadows, instruments, smoke, the round view."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calot.phantom.anatomy import GALLBLADDER, LEFT, SCALE, SHAPE, TOOL, TOP
from calot.phantom.dynamics import STRUCTURES, State
from calot.phantom.instruments import KINDS, Pixels, Sprite, make_sprite, placement, stamp
from calot.phantom.layout import BACK_LAYOUT
from calot.phantom.lighting import Box, Moment, Tissue, open_share
from calot.phantom.metal import MetalClip, draw_clip, lay_clips
from calot.phantom.motion import Track, make_track
from calot.phantom.outside import Outside
from calot.phantom.scene import Scene, make_scene
from calot.phantom.spec import HEIGHT, WIDTH
from calot.phantom.staging import INSIDE, OUTSIDE, PLAIN, Staging
from calot.phantom.texture import Image, noise
from calot.phantom.turning import FRONT

#: Tissue is drawn at two thirds of the picture's size and enlarged: real video is not sharper.
ROWS, COLUMNS = 320, 570
#: Where the camera looks on average, and where a shortcut's marker lies, in scene units.
CENTRE, MARKER = (0.88, 0.425), (1.18, 0.22)
_MARKER_RGB = (40.0, 90.0, 235.0)
_JITTER = 64  # pixels of spare grain, so that its pattern moves from frame to frame

Laid = list[tuple[Sprite, NDArray[np.float64]]]


@dataclass(frozen=True)
class Picture:
    """One frame: RGB pixels, and its mask where one was asked for."""

    rgb: Pixels
    mask: Pixels | None


@dataclass(frozen=True)
class _Shown:
    """One side of the patient, ready to be drawn."""

    scene: Scene
    tissue: Tissue
    clips: list[MetalClip]


def _clips(scene: Scene, *, staging: Staging) -> list[MetalClip]:
    return lay_clips(scene.anatomy) if staging.clipped is not None and staging.clipped.any() else []


def _round_view(rng: np.random.Generator) -> Pixels:
    """Brightness 0..255 of the round view: black outside a circle, darker towards its rim."""
    radius = HEIGHT * rng.uniform(0.60, 0.98)
    middle = (WIDTH / 2 + rng.normal(0, 8), HEIGHT / 2 + rng.normal(0, 6))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    distance = np.hypot(x - middle[0], y - middle[1])
    fall = 1.0 - rng.uniform(0.35, 0.65) * (distance / (0.62 * WIDTH)) ** 2
    level = np.clip(fall, 0, 1) * np.clip((radius - distance) / 2.5, 0, 1) * 255
    return np.asarray(cv2.merge([np.round(level).astype(np.uint8)] * 3), np.uint8)


class Renderer:
    """Draws any frame of one video; frames do not depend on the order they are asked for in.

    `exposure` is the open share by structure that is drawn (frame x structure), `marker` the frames that carry the
    shortcut's marker, `staging` what is particular to the operation.
    """

    def __init__(
        self,
        state: State,
        *,
        rng: np.random.Generator,
        exposure: NDArray[np.float64],
        marker: NDArray[np.bool_],
        staging: Staging = PLAIN,
        marker_size: float = 1.0,
    ) -> None:
        self.exposure, self.marker, self._staging, self._marker_size = exposure, marker, staging, marker_size
        self._side = np.zeros(len(state.q), np.int64) if state.side is None else state.side
        again = copy.deepcopy(rng)  # the same patient, turned over
        self.scene: Scene = make_scene(rng, variety=staging.variety)
        scenes = [self.scene]
        if state.side is not None:
            scenes.append(make_scene(again, layout=BACK_LAYOUT, variety=staging.variety))
        self.track: Track = make_track(state, rng=rng, zoom_spread=staging.variety.zoom)
        shine = float(rng.uniform(0.45, 0.9))
        self._shown = [_Shown(scene, Tissue(scene, shine=shine), _clips(scene, staging=staging)) for scene in scenes]
        light = self.scene.palette.light
        self._sprites = [make_sprite(kind, rng=rng, light=light) for kind in KINDS]
        self._tool_scale = rng.uniform(0.95, 1.30, 2)
        self._lamp = rng.normal((0.0, -0.05), 0.06)
        self._smoke = noise(rng, shape=(240, 400), cell=70, octaves=4)
        grain = rng.normal(0, rng.uniform(1.0, 3.0), (HEIGHT + _JITTER, WIDTH + _JITTER, 3))
        self._grain = [np.clip(np.round(sign * grain), 0, 255).astype(np.uint8) for sign in (1, -1)]
        self._grain_at = rng.integers(0, _JITTER, (len(state.q), 2))
        self._view = _round_view(rng)
        y, x = np.mgrid[0:ROWS, 0:COLUMNS].astype(np.float32)
        self._x = (x + 0.5) / ROWS - 0.5 * COLUMNS / ROWS
        self._y = (y + 0.5) / ROWS - 0.5
        self._unposed: NDArray[np.float64] = np.eye(2)
        if staging.pose is not None:
            pose = staging.pose.astype(np.float32)
            self._x, self._y = (a * self._x + b * self._y for a, b in pose)
            self._unposed = np.asarray(np.linalg.inv(staging.pose), np.float64)
        self._outside = Outside(rng=rng) if staging.shows is not None and (staging.shows == OUTSIDE).any() else None

    def frame(self, index: int, *, with_mask: bool) -> Picture:
        """Draw frame `index` of the video, and its mask when asked."""
        picture = self._inside(index, with_mask=with_mask) if self._shows(index) == INSIDE else self._blank(index)
        if self._staging.mirrored:
            rgb, mask = (None if a is None else np.ascontiguousarray(a[:, ::-1]) for a in (picture.rgb, picture.mask))
            return Picture(np.asarray(rgb, np.uint8), mask)
        return picture

    def cue(self, index: int) -> Pixels | None:
        """Where frame `index` shows the shortcut's marker (255), instruments in front; None where it shows none."""
        if not self.marker[index] or self._shows(index) != INSIDE:
            return None
        place, tools = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.fillPoly(place, [self._marker_corners(index)], 255)
        for sprite, matrix in self._tools(index):
            stamp(np.zeros((HEIGHT, WIDTH, 3), np.uint8), tools, sprite=sprite, matrix=matrix)
        place[(tools > 127) | (self._view[..., 0] == 0)] = 0
        if not place.any():
            return None
        return np.ascontiguousarray(place[:, ::-1]) if self._staging.mirrored else place

    def _shows(self, index: int) -> int:
        return INSIDE if self._staging.shows is None else int(self._staging.shows[index])

    def _blank(self, index: int) -> Picture:
        """A black frame, or one from outside the body; no structure is in either."""
        rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        if self._shows(index) == OUTSIDE and self._outside is not None:
            rgb = np.asarray(cv2.multiply(self._outside.frame(index), self._view, scale=1 / 255), np.uint8)
        return Picture(rgb, np.zeros((HEIGHT, WIDTH), np.uint8))

    def _inside(self, index: int, *, with_mask: bool) -> Picture:
        maps = self._maps(index)
        laid = self._tools(index)
        tissue = self._shadows(self._seen_tissue(maps, index), laid)
        small = cv2.convertScaleAbs(np.maximum(self._haze(tissue, index), 0))
        rgb = np.asarray(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)
        if self.marker[index]:
            self._draw_marker(rgb, index)
        if self._staging.clipped is not None and self._staging.clipped[index]:
            self._draw_clips(rgb, index)
        tools = np.zeros((HEIGHT, WIDTH), np.uint8) if with_mask else None
        for sprite, matrix in laid:
            stamp(rgb, tools, sprite=sprite, matrix=matrix)
        top, left = self._grain_at[index]
        more, less = (g[top : top + HEIGHT, left : left + WIDTH] for g in self._grain)
        rgb = cv2.multiply(cv2.subtract(cv2.add(rgb, more), less), self._view, scale=1 / 255)
        mask = None if tools is None else self._mask(maps, tools, index)
        return Picture(np.asarray(rgb, np.uint8), mask)

    def _maps(self, index: int) -> tuple[Image, Image]:
        """Where on the canvas each pixel of the tissue's picture looks."""
        track, neck = self.track, self._at(index).scene.anatomy.neck
        cos, sin = (float(f(track.roll[index]) / track.zoom[index]) for f in (np.cos, np.sin))
        pan_x, pan_y, pull_x, pull_y = map(float, (*track.pan[index], *self._pull(index)))
        x = self._x * cos - self._y * sin + (CENTRE[0] + pan_x)
        y = self._x * sin + self._y * cos + (CENTRE[1] + pan_y)
        bump = cv2.exp(((x - neck[0]) ** 2 + (y - neck[1]) ** 2) * -20.0)
        x -= pull_x * bump
        y -= pull_y * bump + float(track.breath[index])
        return (x - LEFT) * SCALE - 0.5, (y - TOP) * SCALE - 0.5

    def _seen_tissue(self, maps: tuple[Image, Image], index: int) -> Image:
        """The lit tissue as the camera sees it; only the part of the canvas in view is lit."""
        track, starts = self.track, []
        box: list[slice] = []
        for look, size in ((maps[1], SHAPE[0]), (maps[0], SHAPE[1])):
            start, stop = max(int(look.min()) - 1, 0), min(int(look.max()) + 3, size)
            box.append(slice(start, stop))
            starts.append(start)
        view: Box = (box[0], box[1])
        lamp = (CENTRE[0] + track.pan[index, 0] + self._lamp[0], CENTRE[1] + track.pan[index, 1] + self._lamp[1])
        moment = Moment(
            exposure=self.exposure[index],
            blood=float(track.blood[index]),
            gauze=bool(track.gauze[index]),
            lamp=(float(lamp[0]), float(lamp[1])),
            gain=self.scene.palette.light * np.float32(255.0 * track.exposure[index]),
        )
        lit = self._at(index).tissue.lit(view, moment=moment)
        return np.asarray(
            cv2.remap(lit, maps[0] - starts[1], maps[1] - starts[0], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT),
            np.float32,
        )

    def _to_screen(self, point: tuple[float, float], index: int) -> tuple[float, float]:
        track = self.track
        x = point[0] - CENTRE[0] - track.pan[index, 0]
        y = point[1] - CENTRE[1] - track.pan[index, 1] + track.breath[index]
        cos, sin = np.cos(track.roll[index]) * track.zoom[index], np.sin(track.roll[index]) * track.zoom[index]
        x, y = x * cos + y * sin, y * cos - x * sin
        if self._staging.pose is not None:
            x, y = self._unposed @ (x, y)
        return float(x * HEIGHT + WIDTH / 2), float(y * HEIGHT + HEIGHT / 2)

    def _at(self, index: int) -> _Shown:
        """The side of the patient in view."""
        return self._shown[int(self._side[index])]

    def _pull(self, index: int) -> NDArray[np.float64]:
        """How the holding instrument draws the neck: to its own side."""
        return np.asarray(self.track.pull[index] * ((1.0, 1.0) if self._side[index] == FRONT else (-1.0, 1.0)))

    def _tools(self, index: int) -> Laid:
        """The instruments of this frame and where they lie."""
        track, laid, anatomy = self.track, [], self._at(index).scene.anatomy
        turned = self._side[index] != FRONT  # the hand that holds changes sides
        for tool, anchor in enumerate((anatomy.neck, anatomy.centre)):
            if track.present[index, tool]:
                offset = track.tip[index, tool] * ((-1.0, 1.0) if turned else (1.0, 1.0))
                offset = offset + (self._pull(index) if tool == 0 else 0.0)
                tip = self._to_screen((anchor[0] + offset[0], anchor[1] + offset[1]), index)
                angle = float(np.pi - track.angle[index, tool] if turned else track.angle[index, tool])
                angle = float(angle - track.roll[index]) - self._staging.roll
                scale = float(self._tool_scale[tool] * track.zoom[index] / 1.2)
                sprite = self._sprites[int(track.kind[index, tool])]
                laid.append((sprite, placement(tip=tip, angle=angle, scale=scale)))
        return laid

    def _shadows(self, tissue: Image, laid: Laid) -> Image:
        if not laid:
            return tissue
        small = (COLUMNS // 4, ROWS // 4)
        dark = np.zeros(small[::-1], np.uint8)
        for sprite, matrix in laid:
            shrunk = matrix * (small[1] / HEIGHT)
            shrunk[:, 2] += (3.0, 5.0)
            np.maximum(dark, cv2.warpAffine(sprite.opacity, shrunk, small), out=dark)
        soft = cv2.resize(cv2.GaussianBlur(dark, (0, 0), 3), (COLUMNS, ROWS), interpolation=cv2.INTER_LINEAR)
        rest = 1.0 - soft.astype(np.float32) * np.float32(0.45 / 255)
        return np.asarray(cv2.multiply(tissue, cv2.merge([rest] * 3)), np.float32)

    def _haze(self, tissue: Image, index: int) -> Image:
        """Smoke, and a lens out of focus."""
        level, blur = float(self.track.smoke[index]), float(self.track.blur[index])
        if level > 0.04:
            top, left = (index * 7) % 100, (index * 11) % 150
            cloud = cv2.resize(self._smoke[top : top + 100, left : left + 180], (COLUMNS, ROWS))
            veil = np.clip(level * (0.42 + 0.22 * cloud), 0, 0.85)[..., None]
            tissue = tissue + (np.float32(165.0) * self.scene.palette.light - tissue) * veil
        return np.asarray(cv2.GaussianBlur(tissue, (0, 0), blur), np.float32) if blur > 0.3 else tissue

    def _draw_marker(self, rgb: Pixels, index: int) -> None:
        x, y = self._to_screen(MARKER, index)
        cv2.fillPoly(rgb, [self._marker_corners(index)], _MARKER_RGB, cv2.LINE_AA)
        left, up, right, down, thick = (round(self._marker_size * pixels) for pixels in (16, 12, 18, 6, 4))
        ends = (int(x) - left, int(y) - up), (int(x) + right, int(y) + down)
        cv2.line(rgb, *ends, (150, 190, 255), thick, cv2.LINE_AA)

    def _marker_corners(self, index: int) -> NDArray[np.int32]:
        sides = (58.0 * self._marker_size, 34.0 * self._marker_size)
        corners = cv2.boxPoints((self._to_screen(MARKER, index), sides, 30.0))
        return np.asarray(corners.round(), dtype=np.int32)

    def _draw_clips(self, rgb: Pixels, index: int) -> None:
        """The clips whose place is laid open."""
        for clip in self._at(index).clips:
            if self.exposure[index, clip.structure] > clip.opened_at:
                ends = [(clip.middle[0] + s * clip.half[0], clip.middle[1] + s * clip.half[1]) for s in (-1, 1)]
                spots = np.asarray([self._to_screen(end, index) for end in ends])
                draw_clip(rgb, spots, zoom=float(self.track.zoom[index]), light=float(self.track.exposure[index]))

    def _mask(self, maps: tuple[Image, Image], tools: Pixels, index: int) -> Pixels:
        """The classes of this frame from the same fields it was drawn from, instruments in front."""
        scene = self._at(index).scene
        anatomy, window = scene.anatomy, scene.window
        share = np.zeros(SHAPE, np.float32)
        share[window] = open_share(scene, exposure=self.exposure[index], at=window)
        solid = anatomy.gallbladder_mask.astype(np.uint8) * np.uint8(GALLBLADDER)
        x, y = (cv2.resize(look, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) for look in maps)
        solid, opened = (
            cv2.remap(each, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            for each in (solid, anatomy.open_class)
        )
        laid_open = cv2.remap(share, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT) > 0.5
        mask = np.where(laid_open & (opened > 0), opened, solid)
        mask[tools > 127] = TOOL
        mask[self._view[..., 0] == 0] = 0
        return np.asarray(mask, np.uint8)


def drawn_exposure(state: State, *, hidden: tuple[str, ...]) -> NDArray[np.float64]:
    """The state's exposure by structure, with the hidden structures never laid open."""
    shown = state.exposure.copy()
    for name in hidden:
        shown[:, STRUCTURES.index(name)] = 0.0
    return shown
