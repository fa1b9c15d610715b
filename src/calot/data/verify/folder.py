"""All checks of one folder, in order."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from calot.data.declared import Declared
from calot.data.endoscapes.published import HEIGHT, NUMBERING, WIDTH
from calot.data.endoscapes.reader import METADATA, PHANTOM_MARK, numbering_of, read_endoscapes
from calot.data.numbering import FrameNumbering
from calot.data.verify.coco import check_coco
from calot.data.verify.counts import check_counts, is_published
from calot.data.verify.finding import CheckedFolder, Finding, Found
from calot.data.verify.frames import check_frames
from calot.data.verify.images import PUBLISHED_BLACK, KnownBlack, check_images
from calot.data.verify.labels import check_labels
from calot.data.verify.links import check_links
from calot.data.verify.masks import check_masks
from calot.data.verify.splits import read_lists
from calot.data.verify.table import LenientTable, read_table
from calot.data.verify.training import check_training
from calot.errors import CalotError
from calot.identity import SPLITS
from calot.progress import Ui
from calot.reading import read_json


def verify(root: Path, *, workers: int = 0, ui: Ui | None = None) -> CheckedFolder:
    """Find everything that is wrong with `root`; raises only where it is not a data set at all.

    `workers` are threads that decode; 0 is one per core. A folder without findings is one that
    `calot data stats`, `data store`, `train` and `predict` accept.
    """
    _require_data_set(root)
    ui, workers = ui or Ui(), workers or os.cpu_count() or 1
    table = read_table(root)
    lists = read_lists(root, table=table)
    published = is_published(root, table=table, lists=lists)
    drawn = (root / PHANTOM_MARK).is_file()
    size = (HEIGHT, WIDTH) if published or drawn else None
    numbering, misread = _numbering(root, table=table)
    tables = [
        table.found,
        lists.found,
        check_counts(table, lists=lists) if published else Found(),
        misread,
        check_frames(table, numbering=numbering, keyframes_regular=published or drawn),
        check_labels(table),
    ]
    tables.append(_reader(root, before=tables))
    links = check_links(root)
    skip = frozenset(finding.file for finding in links.findings)
    with ui.task("images") as advance:
        images = check_images(
            root,
            table=table,
            lists=lists,
            skip=skip,
            size=size,
            step=numbering.step,
            known=PUBLISHED_BLACK if published else _drawn_black(root) if drawn else None,
            workers=workers,
            advance=advance,
        )
    with ui.task("masks") as advance:
        masks = check_masks(
            root,
            table=table,
            sizes=images.sizes,
            size=size,
            skip=skip,
            published=published,
            whole=lists.present == SPLITS,
            workers=workers,
            advance=advance,
        )
    return _together(root, [*tables, links, images.found, masks, check_coco(root, table=table, lists=lists)])


def _drawn_black(root: Path) -> KnownBlack | None:
    """The black keyframes that a phantom says it was given; None where it says of none."""
    try:
        found = read_json(root / PHANTOM_MARK)["counts"]["special"]["black_keyframes"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    words = f"{PHANTOM_MARK} says that {found} such keyframes were drawn"
    return KnownBlack(at_most=float(found), words=words) if isinstance(found, int) else None


def _require_data_set(root: Path) -> None:
    if not root.is_dir():
        raise CalotError(f"{root}: no such folder. Give the folder that holds {METADATA}.")
    marks = [METADATA, *(f"{split}_vids.txt" for split in SPLITS), *SPLITS]
    if not any((root / mark).exists() for mark in marks):
        inside = [path.parent for path in root.glob(f"*/{METADATA}")]
        hint = f" Did you mean {inside[0]}?" if inside else ""
        raise CalotError(f"{root}: not a data set: neither {METADATA} nor lists of videos nor images.{hint}")


def _numbering(root: Path, *, table: LenientTable) -> tuple[FrameNumbering, Found]:
    """How the folder numbers its frames; where that cannot be, a finding, and the layout's own for the other checks."""
    rows = [(row.video, row.frame) for row in table.rows if row.video is not None and row.frame is not None]
    frames = np.array([frame for _, frame in rows], dtype=np.int64)
    try:
        declared = Declared.of(root)
        found = numbering_of([video for video, _ in rows], frames, declared=declared, path=root / METADATA)
    except CalotError as error:
        remedy = "Say in dataset.json how frames are numbered, or number them as the layout does."
        finding = Finding(check="steps", file=METADATA, message=str(error), remedy=remedy)
        return NUMBERING, Found(findings=(finding,))
    return found, Found()


def _reader(root: Path, *, before: list[Found]) -> Found:
    """Whatever the strict reader or training refuses is a finding, too, should the checks have missed it."""
    if any(found.findings for found in before):
        return Found()
    try:
        return check_training(read_endoscapes(root))
    except Exception as error:  # the one place that must name any failure rather than end with it
        remedy = "Correct what the message names, or unpack the archive again."
        return Found(findings=(Finding(check="reader", file=METADATA, message=str(error), remedy=remedy),))


def _together(root: Path, all_found: list[Found]) -> CheckedFolder:
    return CheckedFolder(
        root=root,
        findings=tuple(finding for found in all_found for finding in found.findings),
        notes=tuple(note for found in all_found for note in found.notes),
        counts={name: count for found in all_found for name, count in found.counts},
    )
