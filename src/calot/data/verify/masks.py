"""Masks: of the image's size, of known classes, each beside a listed frame, and named by `mask_path`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from calot.data.endoscapes.published import MASKS_PUBLISHED, STRAY_MASKS
from calot.data.endoscapes.reader import MASKS, METADATA
from calot.data.filenames import stem_of
from calot.data.maskfile import read_class_ids
from calot.data.verify.finding import Finding, Found, Note
from calot.data.verify.images import Size
from calot.data.verify.links import names_in
from calot.data.verify.table import LenientTable
from calot.errors import CalotError
from calot.progress import Advance

#: 0 background, 1 to 6 structures and tool, 255 ignore.
CLASS_IDS = frozenset({*range(7), 255})
_STRAY = 7
_AGAIN = "Unpack the archive again."
_BATCH = 64


def check_masks(
    root: Path,
    *,
    table: LenientTable,
    sizes: dict[str, Size],
    size: Size | None,
    skip: frozenset[str],
    published: bool,
    whole: bool,
    workers: int,
    advance: Advance,
) -> Found:
    """Read every mask; `size` is needed where the image itself was not read; `whole`: all published splits are here."""
    folder = root / MASKS
    names = names_in(folder, endings=(".png",))
    rows = {row.stem for row in table.rows}
    findings: list[Finding] = []
    for name in names:
        if stem_of(name) not in rows:
            message = f"no row of {METADATA} is about its frame"
            findings.append(_at(name, "masks", message, remedy="Take it out, or unpack again."))
    strays: list[Finding] = []
    read = [name for name in names if f"{MASKS}/{name}" not in skip]
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        for start in range(0, len(read), _BATCH):
            part = read[start : start + _BATCH]
            needs = [sizes.get(stem_of(name), size) for name in part]
            for wrong, stray in pool.map(partial(_check_one, folder), part, needs):
                findings += wrong
                strays += stray
            advance(min(start + _BATCH, len(read)), len(read))
    notes = []
    if published and 0 < len(strays) <= STRAY_MASKS:
        notes.append(Note(check="mask-classes", message=f"{strays[0]}: known in the published archive"))
        strays = []
    if published and whole and names and len(names) != MASKS_PUBLISHED:
        message = f"{len(names)} masks; the published Endoscapes2023 has {MASKS_PUBLISHED}"
        findings.append(Finding(check="counts", file=f"{MASKS}/", message=message, remedy=_AGAIN))
    paired = _pairing(table, stems={stem_of(name) for name in names}, published=published)
    return Found(
        findings=(*findings, *strays, *paired.findings), notes=(*notes, *paired.notes), counts=(("masks", len(names)),)
    )


def _at(name: str, check: str, message: str, *, remedy: str = _AGAIN) -> Finding:
    return Finding(check=check, file=f"{MASKS}/{name}", message=message, remedy=remedy)


def _check_one(folder: Path, name: str, need: Size | None) -> tuple[list[Finding], list[Finding]]:
    """Findings of one mask, and the stray class apart."""
    try:
        mask = read_class_ids(folder / name)
    except CalotError as error:
        message, _, remedy = str(error).removeprefix(f"{folder / name}: ").rpartition(". ")
        return [_at(name, "masks", message, remedy=remedy)], []
    findings, strays = [], []
    if need is not None and mask.shape != need:
        message = f"{mask.shape[0]} x {mask.shape[1]} pixels; its image has {need[0]} x {need[1]} (height x width)"
        findings.append(_at(name, "masks", message))
    values, pixels = np.unique(mask, return_counts=True)
    odd = {int(v): int(n) for v, n in zip(values, pixels, strict=True) if int(v) not in CLASS_IDS}
    if _STRAY in odd:
        message = f"class {_STRAY} in {odd.pop(_STRAY):,} pixels: the stray class, which names no structure"
        strays.append(_at(name, "mask-classes", message, remedy=f"Write 255 (ignore) over class {_STRAY}."))
    if odd:
        shown = ", ".join(f"{value} in {count:,} pixels" for value, count in list(odd.items())[:5])
        findings.append(_at(name, "mask-classes", f"unknown class {shown}; need 0 to 6, or 255 to ignore"))
    return findings, strays


def _pairing(table: LenientTable, *, stems: set[str], published: bool) -> Found:
    """`mask_path` against the masks that are there."""
    named = [row for row in table.rows if row.mask_path]
    matching = [row for row in named if _stem(row.mask_path) == row.stem]
    if named and published and not matching:
        message = f'mask_path holds other names ("{named[0].mask_path}"): not compared with {MASKS}/'
        return Found(notes=(Note(check="masks", message=message),))
    if named and not stems:
        message = f"no mask is there; {len(named):,} rows of {METADATA} name one"
        return Found(findings=(Finding(check="masks", file=f"{MASKS}/", message=message, remedy=_AGAIN),))
    findings = list(_unpaired(table, stems=stems)) if named else []
    return Found(findings=tuple(findings))


def _unpaired(table: LenientTable, *, stems: set[str]) -> Iterator[Finding]:
    remedy = f"Set mask_path to {MASKS}/<video>_<frame>.png where that file is there, and to nothing elsewhere."
    for row in table.rows:
        message = ""
        if row.mask_path and _stem(row.mask_path) != row.stem:
            message = f'mask_path is "{row.mask_path[:80]}", which is not about frame {row.stem}'
        elif row.mask_path and row.stem not in stems:
            message = f'mask_path is "{row.mask_path[:80]}", but {MASKS}/{row.stem}.png is not there'
        elif not row.mask_path and row.stem in stems:
            message = f"mask_path is empty, but {MASKS}/{row.stem}.png is there"
        if message:
            yield Finding(check="masks", file=METADATA, row=row.line, message=message, remedy=remedy)


def _stem(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).stem
