"""The sheet of Cholec80-CVS as segments of frames, and until when each video was judged."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from calot.criteria import COLUMNS, CRITERIA
from calot.errors import CalotError, nearest_name
from calot.identity import video_id, whole_number
from calot.reading import LARGEST_TABLE, read_plain, read_text
from calot.statistics.table_files import workbook_rows

#: Frames of Cholec80 per second; segments are given in minutes and seconds.
CHOLEC80_PER_SECOND = 25.0
_TIMES = ("initial_minute", "initial_second", "final_minute", "final_second")
_LETTERS = {letter.lower(): criterion for letter, criterion in COLUMNS["cholec80_cvs"].items()}
_CLIPPING = "ClippingCutting"


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Frames `first` to `last`, both of them in it, 25 per second from 0, and the score of each criterion, 0 to 2."""

    first: int
    last: int
    scores: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class SegmentTable:
    """Each video's segments in the order of the rows."""

    of: dict[str, list[Segment]] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


def read_segments(path: Path) -> SegmentTable:
    """Read the sheet. Raises CalotError naming the row and the cell that cannot be.

    A segment that ends before it begins says nothing of any frame (the published sheet has three): it is left out, and
    counted in `assumed`.
    """
    try:
        raw = read_plain(path, largest=LARGEST_TABLE)
    except OSError as error:
        raise CalotError(f"{path}: cannot be read ({error.strerror}). Download it again.") from error
    _, (header, *rows) = workbook_rows(raw, source=str(path))
    places = _places(header, path=path)
    of: dict[str, list[Segment]] = {}
    backward = []
    for number, row in enumerate(rows, start=2):
        cell = {name: row[place] if place < len(row) else "" for name, place in places.items()}
        try:
            video = video_number(video_id(cell["video"]))
        except ValueError as error:
            raise CalotError(f"{path}, row {number}: video {error}. Correct the sheet.") from None
        values = {name: _whole(cell[name], name, where=f"{path}, row {number}") for name in (*_TIMES, *CRITERIA)}
        for name in CRITERIA:
            if values[name] > 2:
                raise CalotError(f"{path}, row {number}: {name} is {values[name]}; need a score 0, 1 or 2.")
        first, last = (
            round((60 * values[f"{end}_minute"] + values[f"{end}_second"]) * CHOLEC80_PER_SECOND)
            for end in ("initial", "final")
        )
        mine = of.setdefault(video, [])
        if last < first:
            backward.append(f"row {number}")
            continue
        mine.append(Segment(first=first, last=last, scores={name: values[name] for name in CRITERIA}))
    if not of:
        raise CalotError(f"{path}: no row below the header. Give the sheet of segments.")
    said = f"{len(backward)} segments end before they begin ({', '.join(backward[:3])}), and count for nothing"
    return SegmentTable(of=of, assumed=(said,) if backward else ())


def video_number(name: str) -> str:
    """`video01` and `1` are one video of Cholec80; another name stays as it is."""
    match = re.fullmatch(r"video[ _]?0*(\d+)", name, re.IGNORECASE | re.ASCII)
    return match[1] if match else name


def judged_until(root: Path, videos: list[str]) -> dict[str, int]:
    """The first frame of the clipping of each video, from `phase_annotations/video01-phase.txt` where it is there."""
    ends = {}
    folder = root / "phase_annotations"
    for path in sorted(folder.glob("*.txt")) if folder.is_dir() else ():
        video = video_number(path.stem.removesuffix("-phase"))
        if video not in videos:
            continue
        try:
            lines = read_text(path).splitlines()
        except (OSError, ValueError) as error:
            raise CalotError(f"{path}: not readable ({error}). Download it again.") from error
        for number, line in enumerate(lines[1:], start=2):
            frame, _, phase = line.partition("\t")
            if phase.strip() == _CLIPPING:
                found = whole_number(frame)
                if found is None:
                    raise CalotError(f"{path}, line {number}: frame is {frame!r}; need a whole number.")
                ends[video] = found
                break
    return ends


def _places(header: list[str], *, path: Path) -> dict[str, int]:
    """Our name -> column: by name, whatever capitals, spaces and marks, or the criteria by their letters C1 to C3."""
    found: dict[str, int] = {}
    for place, cell in enumerate(header):
        name = re.sub(r"[\s_]+", "_", cell.strip()).lower()
        ours = _LETTERS.get(name, name)
        if ours in found:
            raise CalotError(f"{path}: columns {header[found[ours]]!r} and {cell!r} are both {ours}. Take one out.")
        found[ours] = place
    for name in ("video", *_TIMES, *CRITERIA):
        if name not in found:
            raise CalotError(f'{path}: column "{name}" is missing.{nearest_name(name, among=found)} Correct the sheet.')
    return {name: found[name] for name in ("video", *_TIMES, *CRITERIA)}


def _whole(cell: str, name: str, *, where: str) -> int:
    value = whole_number(cell)
    if value is None:
        raise CalotError(f"{where}: {name} is {cell!r}; need a whole number from 0. Correct the sheet.")
    return value
