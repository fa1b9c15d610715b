"""`verify` for any folder that a reader takes: read strictly, every frame decoded, sizes, black frames, stills."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calot.data.clip_rules import ClipRule
from calot.data.clips import CentreLabel, Keyframes, build_clips
from calot.data.readers import DataFolder, Reader
from calot.data.store_build import BLACK_MEAN
from calot.data.understood import Understood
from calot.data.verify.finding import CheckedFolder, Finding, Note
from calot.errors import CalotError
from calot.progress import Advance, Ui

_BATCH = 256


@dataclass(frozen=True)
class _Seen:
    size: tuple[int, int]
    mean: float


def verify_plain(root: Path, *, reader: Reader, workers: int = 0, ui: Ui | None = None) -> CheckedFolder:
    """Find what is wrong with a folder without a special layout; what its reader refuses is the last finding."""
    try:
        folder = DataFolder(root=root, reader=reader, manifest=reader.manifest(root))
    except CalotError as error:
        finding = Finding(check="reader", file=".", message=str(error), remedy="Correct what the message names.")
        return CheckedFolder(root=root, findings=(finding,), notes=(), counts={})
    with (ui or Ui()).task("frames") as advance:
        seen = _look(folder, workers=workers or os.cpu_count() or 1, advance=advance)
    notes, sizes = [Note(check="read as", message=str(Understood.of(folder)))], _sizes(seen)
    if sizes and reader.several_sizes:
        said = f"{len(sizes):,} frames of other sizes than most, as published: train with frames.mixed_sizes=True"
        notes, sizes = [*notes, Note(check="sizes", message=said)], []
    findings = [*_unreadable(seen), *sizes, *_black(folder, seen), *_clips(folder)]
    findings += [
        Finding(check="reader", file=".", message=m, remedy="Correct the folder.") for m in reader.findings(root)
    ]
    videos = len(set(folder.manifest.videos))
    counts = {"videos": videos, "frames": len(folder.manifest), "keyframes": int(folder.manifest.keyframes.sum())}
    return CheckedFolder(root=root, findings=tuple(findings), notes=tuple(notes), counts=counts)


def _look(folder: DataFolder, *, workers: int, advance: Advance) -> dict[str, _Seen | CalotError]:
    images = folder.manifest.table["image"].to_list()
    seen: dict[str, _Seen | CalotError] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for start in range(0, len(images), _BATCH):
            names = images[start : start + _BATCH]
            seen |= zip(names, folder.frames.read(names, pool=pool, each=_measure), strict=True)
            advance(len(seen), len(images))
    return seen


def _measure(name: str, image: NDArray[np.uint8]) -> _Seen:
    return _Seen((image.shape[0], image.shape[1]), float(image.mean()))


def _unreadable(seen: dict[str, _Seen | CalotError]) -> list[Finding]:
    remedy = "Copy it again, or train with --drop-unreadable, which counts what it leaves out."
    return [
        Finding(check="decode", file=name, message=str(found), remedy=remedy)
        for name, found in seen.items()
        if isinstance(found, CalotError)
    ]


def _sizes(seen: dict[str, _Seen | CalotError]) -> list[Finding]:
    sizes = {name: found.size for name, found in seen.items() if isinstance(found, _Seen)}
    if not sizes:
        return []
    need = Counter(sizes.values()).most_common(1)[0][0]
    remedy = "Write all frames in one size: a model sees each squashed into the same square."
    return [
        Finding(
            check="sizes",
            file=name,
            message=f"{size[0]} x {size[1]} pixels; most have {need[0]} x {need[1]} (height x width)",
            remedy=remedy,
        )
        for name, size in sizes.items()
        if size != need
    ]


def _black(folder: DataFolder, seen: dict[str, _Seen | CalotError]) -> list[Finding]:
    asked = set(folder.manifest.table.filter(folder.manifest.table["keyframe"])["image"].to_list())
    remedy = "Nothing replaces a black frame: leave its row out if the camera was dark."
    return [
        Finding(check="black", file=name, message=f"black (mean grey level {found.mean:.1f} of 255)", remedy=remedy)
        for name, found in seen.items()
        if isinstance(found, _Seen) and found.mean < BLACK_MEAN and name in asked
    ]


def _clips(folder: DataFolder) -> list[Finding]:
    """Whether the usual clips can be cut, split by split: what training would refuse is found here."""
    findings = []
    for split in folder.manifest.splits:
        try:
            build_clips(
                folder.manifest,
                split=split,
                protocol=Keyframes(),
                rule=ClipRule(),
                label_rule=CentreLabel(),
                training=False,
            )
        except CalotError as error:
            message = f"16 past frames a second apart cannot be cut from {split}: {error}"
            findings.append(
                Finding(check="clips", file=".", message=message, remedy="Train with a clip rule that fits.")
            )
    return findings
