"""The COCO files against the table: frames listed, ids, labels on keyframes, annotations that belong to nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calot.data.endoscapes.reader import METADATA
from calot.data.filenames import frame_of
from calot.data.manifest import MEAN_TOLERANCE
from calot.data.verify.finding import Finding, Found, Note
from calot.data.verify.splits import SplitLists
from calot.data.verify.table import LenientTable, TableRow
from calot.errors import first_line
from calot.identity import whole_number
from calot.reading import read_json

BOXES, KEYFRAMES, VIDEO = "annotation_coco.json", "annotation_ds_coco.json", "annotation_coco_vid.json"
_AGAIN = "Unpack the archive again."
#: Image id in the video file: the video's number times this, plus the frame's.
_ID_FACTOR = 1_000_000


def check_coco(root: Path, *, table: LenientTable, lists: SplitLists) -> Found:
    """Check every COCO file of the listed splits, and of their `*_seg` folders."""
    rows: dict[str, dict[str, TableRow]] = {split: {} for split in lists.present}
    for row in table.rows:
        split = lists.split_of.get(row.video or "")
        if split is not None:
            rows[split][row.stem] = row
    needed = [(split, f"{split}/{name}") for split in lists.present for name in (BOXES, KEYFRAMES, VIDEO)]
    there = [(split, name) for split, name in needed if os.path.isfile(root / name)]
    if not there:
        return Found(notes=(Note(check="coco", message="no COCO files: boxes and instance masks are not here"),))
    findings = [
        Finding(check="coco", file=name, message="not there, though other COCO files are", remedy=_AGAIN)
        for split, name in needed
        if (split, name) not in there
    ]
    there += [(split, name) for split in lists.present if os.path.isfile(root / (name := f"{split}_seg/{BOXES}"))]
    for split, name in there:
        findings += _check_file(root, name=name, rows=rows[split], split=split)
    return Found(findings=tuple(findings), counts=(("COCO files", len(there)),))


@dataclass(frozen=True, kw_only=True)
class _File:
    name: str

    def wrong(self, message: str) -> Finding:
        return Finding(check="coco", file=self.name, message=message, remedy=_AGAIN)


def _check_file(root: Path, *, name: str, rows: dict[str, TableRow], split: str) -> Iterator[Finding]:
    file = _File(name=name)
    try:
        data = read_json(root / name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        yield file.wrong(f"cannot be read as JSON ({reason})")
        return
    if not isinstance(data, dict):
        yield file.wrong("holds no JSON object")
        return
    parts = {}
    for key in ("images", "annotations", "categories"):
        part = data.get(key)
        if not isinstance(part, list) or not all(isinstance(each, dict) for each in part):
            yield file.wrong(f'"{key}" is not a list of objects')
            part = []
        parts[key] = part
    yield from _check_images(file, images=parts["images"], rows=rows, split=split)
    yield from _check_annotations(file, **parts)


def _check_images(
    file: _File, *, images: list[dict[str, Any]], rows: dict[str, TableRow], split: str
) -> Iterator[Finding]:
    listed, ids = set(), set()
    for image in images:
        label, frame = str(image.get("file_name"))[:60], frame_of(str(image.get("file_name")).rpartition("/")[2])
        row = rows.get(f"{frame[0]}_{frame[1]}") if frame else None
        if row is None:
            yield file.wrong(f"image {label} is not a {split} frame of {METADATA}")
        if repr(image.get("id")) in ids:
            yield file.wrong(f"image {label}: id {image.get('id')!r} appears already")
        ids.add(repr(image.get("id")))
        if row is None:
            continue
        if row.stem in listed:
            yield file.wrong(f"image {label} appears twice")
        listed.add(row.stem)
        number = whole_number(row.video or "")
        right = None if number is None else number * _ID_FACTOR + (row.frame or 0)
        if file.name.endswith(VIDEO) and right is not None and image.get("id") != right:
            yield file.wrong(f"image {label}: id is {image.get('id')!r}; need {right} (video x {_ID_FACTOR:,} + frame)")
        yield from _check_labels_of(file, image=image, row=row, label=label)
    yield from _unlisted(file, rows=rows, listed=listed)


def _check_labels_of(file: _File, *, image: dict[str, Any], row: TableRow, label: str) -> Iterator[Finding]:
    keyframe = image.get("is_ds_keyframe")
    if keyframe is not None and row.keyframe is not None and keyframe != row.keyframe:
        yield file.wrong(f"image {label}: is_ds_keyframe is {keyframe!r}, {METADATA} says {row.keyframe}")
    values = image.get("ds")
    if not row.keyframe or (values is None and not file.name.endswith(KEYFRAMES)) or None in row.values:
        return
    if not isinstance(values, list) or len(values) != len(row.values) or not all(map(_is_number, values)):
        yield file.wrong(f"image {label}: ds is {str(values)[:60]}; need three numbers on a keyframe")
    elif any(abs(a - b) > MEAN_TOLERANCE for a, b in zip(values, row.values, strict=True) if b is not None):
        need = [round(value, 3) for value in row.values if value is not None]
        yield file.wrong(f"image {label}: ds is {values}, {METADATA} says {need}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unlisted(file: _File, *, rows: dict[str, TableRow], listed: set[str]) -> Iterator[Finding]:
    """Frames that the file should list: all of them in the video file, keyframes in the keyframe file."""
    if file.name.endswith(VIDEO):
        need, what = list(rows), "frames"
    elif file.name.endswith(KEYFRAMES):
        need, what = [stem for stem, row in rows.items() if row.keyframe], "keyframes"
    else:
        return
    missing = [stem for stem in need if stem not in listed]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5:,} more" if len(missing) > 5 else "")
        yield file.wrong(f"lacks {len(missing):,} of {len(need):,} {what} of {METADATA}: {shown}")


def _check_annotations(
    file: _File,
    *,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    categories: list[dict[str, Any]],
) -> Iterator[Finding]:
    known_images = {repr(image.get("id")) for image in images}
    known_classes = {repr(category.get("id")) for category in categories}
    ids = set()
    for annotation in annotations:
        number = repr(annotation.get("id"))
        if number in ids:
            yield file.wrong(f"annotation id {number[:60]} appears twice")
        ids.add(number)
        if repr(annotation.get("image_id")) not in known_images:
            yield file.wrong(
                f"annotation {number[:60]} is about image {annotation.get('image_id')!r}, which is not listed"
            )
        if repr(annotation.get("category_id")) not in known_classes:
            yield file.wrong(
                f"annotation {number[:60]} has category {annotation.get('category_id')!r}, which is not listed"
            )
