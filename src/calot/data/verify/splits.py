"""The `*_vids.txt` lists: unreadable, empty, a video in two of them, videos without rows and rows without a list."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from calot.data.endoscapes.reader import METADATA
from calot.data.verify.finding import Finding, Found, Note
from calot.data.verify.table import LenientTable
from calot.identity import SPLITS, video_id
from calot.reading import read_text

_LIST_AGAIN = "Write one video per line, or unpack the archive again."


@dataclass(frozen=True, kw_only=True)
class SplitLists:
    """Which split each listed video is in (the first that lists it), and which lists are there."""

    split_of: dict[str, str]
    present: tuple[str, ...]
    found: Found

    def videos(self, split: str) -> list[str]:
        return [video for video, name in self.split_of.items() if name == split]


def read_lists(root: Path, *, table: LenientTable) -> SplitLists:
    """Read the three lists and hold them against the table."""
    findings: list[Finding] = []
    places: dict[str, tuple[str, int]] = {}
    present = tuple(split for split in SPLITS if os.path.lexists(root / _name(split)))
    for split in present:
        path = root / _name(split)
        for line, video in _read(path, findings=findings):
            if video not in places:
                places[video] = (split, line)
                continue
            first, where = places[video]
            message = f"video {video} is in {_name(first)}, line {where}, already"
            remedy = "A video belongs to one split: take one line out."
            findings.append(Finding(check="splits", file=path.name, row=line, message=message, remedy=remedy))
    split_of = {video: split for video, (split, _) in places.items()}
    notes = list(_absent(root, present=present, split_of=split_of, table=table, findings=findings))
    listed = {row.video for row in table.rows}
    for video, (split, line) in places.items():
        if table.rows and video not in listed:
            message = f"video {video} has no row in {METADATA}"
            remedy = "Unpack the archive again, or take the video out of the list."
            findings.append(Finding(check="splits", file=_name(split), row=line, message=message, remedy=remedy))
    return SplitLists(split_of=split_of, present=present, found=Found(findings=tuple(findings), notes=tuple(notes)))


def _name(split: str) -> str:
    return f"{split}_vids.txt"


def _read(path: Path, *, findings: list[Finding]) -> Iterator[tuple[int, str]]:
    """Line and video of each line; anything that is not a video is a finding."""
    try:
        lines = read_text(path, encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"not a readable text file ({error.strerror if isinstance(error, OSError) else error})"
        findings.append(Finding(check="splits", file=path.name, message=message, remedy=_LIST_AGAIN))
        return
    if not any(line.strip() for line in lines):
        findings.append(Finding(check="splits", file=path.name, message="lists no video", remedy=_LIST_AGAIN))
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield place, video_id(line)
        except ValueError as error:
            message = f"video {error}"
            findings.append(Finding(check="splits", file=path.name, row=place, message=message, remedy=_LIST_AGAIN))


def _absent(
    root: Path, *, present: tuple[str, ...], split_of: dict[str, str], table: LenientTable, findings: list[Finding]
) -> Iterator[Note]:
    """Lists that are not there, and videos of the table that no list names."""
    stray: dict[str, list[int]] = {}
    for row in table.rows:
        if row.video is not None and row.video not in split_of:
            stray.setdefault(row.video, []).append(row.line)
    for split in SPLITS:
        if split in present:
            continue
        if stray or (root / split).is_dir() or not present:
            message = "not there, and the folder holds frames that no list names" if stray else "not there"
            remedy = "Unpack the archive again: a video without a split is never used."
            findings.append(Finding(check="splits", file=_name(split), message=message, remedy=remedy))
        else:
            yield Note(
                check="splits", message=f"no {_name(split)} and no {split} frames: fine until {split} is asked for"
            )
    if len(present) == len(SPLITS):
        for video, lines in stray.items():
            message = f"video {video} ({len(lines)} rows) is in no *_vids.txt"
            remedy = "Add it to one of the lists or take its rows out."
            findings.append(Finding(check="splits", file=METADATA, row=lines[0], message=message, remedy=remedy))
