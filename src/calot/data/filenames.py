"""How files of a folder are named: `<video>_<frame>.jpg`, `<video>/<frame>.jpg`, `<video>.mp4`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from calot.errors import CalotError
from calot.identity import hidden_file, video_id, whole_number

#: Endings of images that are read; Endoscapes' own is the first.
IMAGES = (".jpg", ".jpeg", ".png")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".m4v", ".mpg", ".mpeg", ".webm", ".ts", ".wmv")


def frame_of(name: str) -> tuple[str, int] | None:
    """The video and frame that a file is named after, `<video>_<frame>.<ending>`; None for any other name."""
    video, mark, number = name.rpartition(".")[0].rpartition("_")
    return _frame(video, number) if mark else None


def stem_of(name: str) -> str:
    """`<video>_<frame>` as the table has it; a hidden file, and one that names no frame, keeps its own name."""
    frame = None if hidden_file(name) else frame_of(name)
    return f"{frame[0]}_{frame[1]}" if frame else name


def frame_files(folder: Path) -> dict[tuple[str, int], str]:
    """(video, frame) -> image below a folder, named `<video>_<frame>.jpg` or, in a folder of each video, `<frame>.jpg`.

    There it may repeat the video's name. Names are relative to `folder`; images named otherwise are left out. Raises
    CalotError for two of one frame.
    """
    found: dict[tuple[str, int], str] = {}
    for name in sorted(_names(folder, endings=IMAGES)):
        video, _, file = name.rpartition("/")
        frame = _in_folder(video, file) if video else frame_of(file)
        if frame is not None and found.setdefault(frame, name) != name:
            raise CalotError(
                f"{folder}: {found[frame]} and {name} are both frame {frame[1]} of video {frame[0]}. Keep one."
            )
    return found


def video_files(folder: Path) -> dict[str, str]:
    """Id -> video of a folder, named `<video>.mp4` or with another of `VIDEOS`' endings, whatever its capitals."""
    found: dict[str, str] = {}
    for name in sorted(_names(folder, endings=VIDEOS)):
        try:
            video = video_id(Path(name).stem)
        except ValueError as error:
            raise CalotError(f"{folder / name}: its name {error}. Give it another.") from None
        if found.setdefault(video, name) != name:
            raise CalotError(f"{folder}: {found[video]} and {name} are both video {video}. Keep one.")
    return found


def _in_folder(video: str, file: str) -> tuple[str, int] | None:
    """The frame of an image in a video's own folder, which its name may repeat."""
    plain, named = _frame(video, Path(file).stem), frame_of(file)
    return plain or (named if named is not None and named == _frame(video, str(named[1])) else None)


def _frame(video: str, number: str) -> tuple[str, int] | None:
    frame = whole_number(number)
    if frame is None:
        return None
    try:
        return video_id(video), frame
    except ValueError:
        return None


def _names(folder: Path, *, endings: tuple[str, ...]) -> Iterator[str]:
    """Files of a folder and of the folders in it, by ending; those that systems leave there are skipped."""
    if not folder.is_dir():
        return
    for entry in os.scandir(folder):
        if hidden_file(entry.name):
            continue
        if entry.is_dir():
            inside = (e.name for e in os.scandir(entry) if not hidden_file(e.name))
            yield from (f"{entry.name}/{name}" for name in inside if os.path.splitext(name)[1].lower() in endings)
        elif os.path.splitext(entry.name)[1].lower() in endings:
            yield entry.name
