"""Frame numbers: as the folder numbers them, without gaps, in order."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from calot.data.endoscapes.published import KEYFRAME_STEP
from calot.data.endoscapes.reader import METADATA
from calot.data.numbering import FrameNumbering
from calot.data.verify.finding import Finding, Found
from calot.data.verify.table import LenientTable, TableRow

_GAP = "Unpack the archive again. Windows never cross a gap: they repeat the last frame they may see."
_STEP = "Number all frames of a video alike, from one start: frames that do not fit are never seen in one clip."


def check_frames(table: LenientTable, *, numbering: FrameNumbering, keyframes_regular: bool) -> Found:
    """Steps and gaps within each video; with `keyframes_regular`, keyframes must be as far apart as in Endoscapes."""
    videos: dict[str, list[TableRow]] = defaultdict(list)
    for row in table.rows:
        if row.video is not None and row.frame is not None:
            videos[row.video].append(row)
    findings: list[Finding] = []
    for video, rows in videos.items():
        ordered = sorted(rows, key=lambda row: row.frame or 0)
        findings += _steps(video, ordered, need=numbering.step)
        keys = [row for row in ordered if row.keyframe]
        if keyframes_regular:
            findings += _keyframe_steps(video, keys)
        if not keys and all(row.keyframe is not None for row in rows):
            message = f"video {video} has no keyframe: the protocol keyframes never scores it"
            findings.append(_at(rows[0], "counts", message, remedy="Unpack the archive again."))
    return Found(findings=tuple(findings), counts=(("videos", len(videos)),))


def _at(row: TableRow, check: str, message: str, *, remedy: str) -> Finding:
    return Finding(check=check, file=METADATA, row=row.line, message=message, remedy=remedy)


def _steps(video: str, rows: list[TableRow], *, need: int) -> list[Finding]:
    findings = []
    for before, row in pairwise(rows):
        step = (row.frame or 0) - (before.frame or 0)
        if step % need:
            message = f"video {video}: frame {row.frame} follows {before.frame}, a step of {step}; need {need}"
            findings.append(_at(row, "steps", message, remedy=_STEP))
        elif step > need:
            missing = step // need - 1
            message = (
                f"video {video}: {missing} frame{'s' if missing > 1 else ''} missing, {before.frame} to {row.frame}"
            )
            findings.append(_at(row, "gaps", message, remedy=_GAP))
    return findings


def _keyframe_steps(video: str, keys: list[TableRow]) -> list[Finding]:
    return [
        _at(
            row,
            "steps",
            f"video {video}: keyframe {row.frame} follows keyframe {before.frame}; need one every {KEYFRAME_STEP}",
            remedy="Unpack the archive again.",
        )
        for before, row in pairwise(keys)
        if (row.frame or 0) - (before.frame or 0) != KEYFRAME_STEP
    ]
