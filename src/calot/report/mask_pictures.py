"""A clip of a pretraining as strips of frames: as it is, and with what each kind of mask hides of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calot.provenance.run_files import HiddenClipFile, read_file
from calot.writing import whole_file, write_json

#: Frames of a strip and a frame's side in pixels: two columns of two fit a phone.
_FRAMES, _SIDE, _GAP, _LINE = 4, 192, 4, 3
#: Of a hidden token's light what is left, and the colour of the line around what is predicted.
_LEFT, _OUTLINE = 0.22, (255, 213, 74)
_GREY, _INDEX = 128, "masks.json"
#: What became of a token, in the order of `calot.run.hidden_clip`.
_SEEN, _PREDICTED, _UNUSED = range(3)
WHOLE = "clip"


@dataclass(frozen=True, kw_only=True)
class MaskView:
    """One strip as the page shows it: its picture, title, shares in words and a text in place of the picture."""

    source: str
    title: str
    said: str
    alternative: str


def write_mask_strips(
    folder: Path, *, video: str, frame: int, frames: NDArray[np.uint8], tokens: Mapping[str, NDArray[np.uint8]]
) -> Path:
    """Write a clip (t, h, w, 3) once as it is and once for each kind of mask into `figures/masks/` of a run.

    `tokens` say for each kind what became of each token (time, row, column): seen (0), predicted (1), neither (2).
    """
    place, strips = folder / "figures" / "masks", []
    bins = next(iter(tokens.values())).shape[0]
    shown = np.unique(np.linspace(0, bins - 1, min(bins, _FRAMES)).round().astype(int))
    pictures = [_enlarged(frames[at * (len(frames) // bins)]) for at in shown]
    _write_strip(pictures, place / f"{WHOLE}.jpg")
    for kind, fates in tokens.items():
        _write_strip([_marked(p, fates[at]) for p, at in zip(pictures, shown, strict=True)], place / f"{kind}.jpg")
        names = {"seen": _SEEN, "predicted": _PREDICTED, "unused": _UNUSED}
        strips.append({"kind": kind} | {name: float((fates == number).mean()) for name, number in names.items()})
    write_json(place / _INDEX, {"video": video, "frame": frame, "strips": strips})
    return place


def mask_views(folder: Path) -> tuple[list[MaskView], str]:
    """The strips that a run's folder holds, and whose clip they show; nothing where none were written."""
    place = folder / "figures" / "masks"
    if not (place / _INDEX).is_file():
        return [], ""
    found = read_file(place / _INDEX, HiddenClipFile)
    clip = f"video {found['video']}, labelled frame {found['frame']}"
    views = [_view(place, kind=WHOLE, title="The clip as it is", said="every token", clip=clip)]
    views += [
        _view(place, kind=s["kind"], title=f"Mask {s['kind']}", said=_said(s), clip=clip) for s in found["strips"]
    ]
    return [view for view in views if view is not None], clip


def _said(strip: Mapping[str, Any]) -> str:
    parts = [f"{100 * strip['predicted']:.0f} % of tokens predicted", f"{100 * strip['seen']:.0f} % seen"]
    if strip["unused"]:
        parts.append(f"{100 * strip['unused']:.1f} % neither")
    return ", ".join(parts)


def _view(place: Path, *, kind: str, title: str, said: str, clip: str) -> MaskView | None:
    path = place / f"{kind}.jpg"
    if not path.is_file():
        return None
    source = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
    return MaskView(source=source, title=title, said=said, alternative=f"{title}: frames of {clip}, {said}")


def _enlarged(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    resized = Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.uint8)


def _marked(picture: NDArray[np.uint8], fates: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame with hidden tokens dark, a line around what is predicted, and grey over what is neither."""
    rows = np.arange(_SIDE) * fates.shape[0] // _SIDE
    columns = np.arange(_SIDE) * fates.shape[1] // _SIDE
    fate = fates[np.ix_(rows, columns)]
    light = picture.astype(np.float32)
    light[fate == _PREDICTED] *= _LEFT
    light[fate == _UNUSED] = (light[fate == _UNUSED] + _GREY) / 2
    predicted = np.pad(fate == _PREDICTED, _LINE)
    inside = predicted.copy()
    for axis in (0, 1):
        for step in range(-_LINE, _LINE + 1):
            inside &= np.roll(predicted, step, axis=axis)
    edge = (predicted & ~inside)[_LINE:-_LINE, _LINE:-_LINE]
    light[edge] = _OUTLINE
    return light.round().astype(np.uint8)


def _write_strip(pictures: Sequence[NDArray[np.uint8]], path: Path) -> None:
    strip = Image.new("RGB", (len(pictures) * (_SIDE + _GAP) - _GAP, _SIDE), "white")
    for place, picture in enumerate(pictures):
        strip.paste(Image.fromarray(picture), (place * (_SIDE + _GAP), 0))
    encoded = BytesIO()  # written by us: on a full disk Pillow silently truncates a JPEG
    strip.save(encoded, format="JPEG", quality=88, optimize=True)
    with whole_file(path) as part:
        part.write_bytes(encoded.getvalue())
