"""The SAGES CVS challenge of 2024: `videos/<uuid>.mp4` (90 s at 30 frames per second) and `labels/<uuid>/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from calot.data.declared import Declared
from calot.data.manifest import Manifest
from calot.data.numbering import FrameNumbering
from calot.data.readers import Reader
from calot.data.sages.labels import (
    PER_SECOND,
    Recorded,
    has_labels,
    label_folders,
    sages_confidences,
    sages_findings,
    sages_manifest,
)
from calot.data.sources import FrameSource, VideoFiles, sampled_videos
from calot.data.splitting import HELD, VideoSplit, video_split
from calot.errors import CalotError
from calot.identity import SPLITS

VIDEOS = "videos"


class Sages2024Reader(Reader):
    """Recordings read by time, at the folder's top or, as published, in folders train and test of their own."""

    looks_for = "labels/<video>/frame.csv beside videos/ (SAGES CVS challenge 2024), also below train/ and test/"
    several_sizes = True

    def recognises(self, root: Path) -> bool:
        return bool(_parts(root)) and not (root / "frames").is_dir()

    def frames(self, root: Path) -> FrameSource:
        return VideoFiles(root)

    def manifest(self, root: Path) -> Manifest:
        apart = Declared.of(root).seconds_apart or 1
        numbering = FrameNumbering(PER_SECOND, max(1, round(PER_SECOND * apart)))
        parts, folders = _parts(root), _labels(root)
        seen = pl.concat([sampled_videos(root, f"{part}{VIDEOS}", numbering=numbering) for part in parts])
        there = dict.fromkeys(seen["video"].to_list())
        split = _published(root, parts) or video_split(root, [video for video in folders if video in there])
        return sages_manifest(root, Recorded(seen, numbering, split), folders=folders, year=2024)

    def confidences(self, root: Path) -> dict[str, tuple[float, ...]]:
        return {video: found for part in _parts(root) for video, found in sages_confidences(root / part).items()}

    def findings(self, root: Path) -> Iterator[str]:
        for part in _parts(root):
            yield from sages_findings(root / part)


def _parts(root: Path) -> list[str]:
    """Where recordings lie: "" for the folder itself, `train/` ... for folders of splits."""
    return [p for p in ("", *(f"{s}/" for s in SPLITS)) if has_labels(root / p) and (root / p / VIDEOS).is_dir()]


def _labels(root: Path) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for part in _parts(root):
        for video, folder in label_folders(root / part).items():
            if folders.setdefault(video, folder) != folder:
                raise CalotError(f"{root}: video {video} has labels in {folders[video]} and in {folder}. Keep one.")
    return folders


def _published(root: Path, parts: list[str]) -> VideoSplit | None:
    """The splits that are folders; val is drawn from train where it has none of its own. None where none is a folder,
    or `splits.csv` says otherwise."""
    names = [part.rstrip("/") for part in parts if part]
    if not names or "" in parts or (root / "splits.csv").exists():
        return None
    of = {video: name for name in names for video in label_folders(root / name)}
    if "val" in names or "train" not in names:
        return VideoSplit(of=of, assumed=None)
    drawn = video_split(root, [v for v, name in of.items() if name == "train"], held=[n for n in HELD if n == "val"])
    return VideoSplit(of=of | drawn.of, assumed=f"val is taken from train/: {drawn.assumed}")
