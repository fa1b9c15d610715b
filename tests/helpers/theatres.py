"""What the tests of whole operations share: runs, and an operation as frames and as a recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recordings import Picture

RATE = 4


@dataclass(frozen=True)
class Theatre:
    """Runs (`seeds`), a val operation's id, frame numbers and pictures, and its recording at `RATE` frames a second."""

    seeds: tuple[Path, Path]
    video: str
    numbers: tuple[int, ...]
    pictures: tuple[Picture, ...]
    recording: Path
