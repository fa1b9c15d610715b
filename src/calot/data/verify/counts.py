"""The folder's sizes against the published ones, when it is the real Endoscapes; and overlaps with other data sets."""

from __future__ import annotations

from pathlib import Path

from calot.data.endoscapes.published import CHOLEC80, CHOLECT50, SIZES, resembles_endoscapes
from calot.data.endoscapes.reader import METADATA, PHANTOM_MARK
from calot.data.verify.finding import Finding, Found, Note
from calot.data.verify.splits import SplitLists
from calot.data.verify.table import LenientTable

_REMEDY = "Unpack the archive again; where you left frames out on purpose, results do not compare with published ones."


def is_published(root: Path, *, table: LenientTable, lists: SplitLists) -> bool:
    """Whether this is meant to be Endoscapes2023: at least half of its videos hold the published frame numbers."""
    if (root / PHANTOM_MARK).is_file():
        return False
    frames: dict[str, list[int]] = {}
    for row in table.rows:
        if row.video in lists.split_of and row.frame is not None:
            frames.setdefault(row.video, []).append(row.frame)
    return resembles_endoscapes(frames)


def check_counts(table: LenientTable, *, lists: SplitLists) -> Found:
    """Videos, frames and keyframes of each listed split against the published data set."""
    findings: list[Finding] = []
    for split in lists.present:
        size, videos = SIZES[split], set(lists.videos(split))
        rows = [row for row in table.rows if row.video in videos]
        known = {str(video) for video in size.videos}
        absent, extra = (sorted(some, key=_natural) for some in (known - videos, videos - known))
        for what, wrong in (("lacks", absent), ("holds beside the published ones", extra)):
            if wrong:
                shown = ", ".join(map(str, wrong[:10])) + (" and more" if len(wrong) > 10 else "")
                message = f"{split} {what} {len(wrong)} video{'s' if len(wrong) > 1 else ''}: {shown}"
                findings.append(Finding(check="counts", file=f"{split}_vids.txt", message=message, remedy=_REMEDY))
        keyframes = sum(row.keyframe is True for row in rows)
        for what, have, need in (("frames", len(rows), size.frames), ("keyframes", keyframes, size.keyframes)):
            if have != need:
                message = f"{split} has {have:,} {what}; the published Endoscapes2023 has {need:,}"
                findings.append(Finding(check="counts", file=METADATA, message=message, remedy=_REMEDY))
    sizes = f"{', '.join(lists.present)} compared with the published Endoscapes2023 (frames, keyframes, videos)"
    return Found(findings=tuple(findings), notes=(Note(check="counts", message=sizes), *_overlaps(lists)))


def _natural(video: str) -> tuple[int, str]:
    return (int(video) if video.isdigit() else 0, video)


def _overlaps(lists: SplitLists) -> tuple[Note, ...]:
    notes = []
    for name, pairs in (("Cholec80", CHOLEC80), ("CholecT50", CHOLECT50)):
        shared = [
            f"{video}={other} ({lists.split_of[str(video)]})"
            for video, other in pairs.items()
            if str(video) in lists.split_of
        ]
        if shared:
            message = (
                f"the same operations stand in {name} (here=there): {', '.join(shared)}. Keep them out of whatever is "
                f"trained there and scored here; test shares none"
            )
            notes.append(Note(check="overlaps", message=message))
    return tuple(notes)
