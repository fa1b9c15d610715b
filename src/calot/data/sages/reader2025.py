"""The SAGES CVS challenge of 2025: pictures `frames/<uuid>_<frame_id>.jpg`, counted from 0, and `labels/<uuid>/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from calot.data.declared import Declared
from calot.data.manifest import Manifest
from calot.data.picture_numbers import counted_from_zero, sampled_pictures
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
from calot.data.sources import numbered_images
from calot.data.splitting import video_split

FRAMES = "frames"


class Sages2025Reader(Reader):
    """Pictures as published count from 0; the organisers' own loader names them from 1, which must be declared."""

    looks_for = "labels/<video>/frame.csv beside frames/<video>_<frame_id>.jpg (SAGES CVS challenge 2025)"
    several_sizes = True

    def recognises(self, root: Path) -> bool:
        return has_labels(root) and (root / FRAMES).is_dir()

    def manifest(self, root: Path) -> Manifest:
        declared, where, folders = Declared.of(root), root / FRAMES, label_folders(root)
        seen = counted_from_zero(numbered_images(root, FRAMES), declared=declared, where=where)
        per_second = declared.frames_per_second or PER_SECOND
        seen, numbering = sampled_pictures(
            seen, per_second=per_second, seconds_apart=declared.seconds_apart, where=where
        )
        there = set(seen["video"].to_list())
        split = video_split(root, [video for video in folders if video in there])
        return sages_manifest(root, Recorded(seen, numbering, split), folders=folders, year=2025)

    def confidences(self, root: Path) -> dict[str, tuple[float, ...]]:
        return sages_confidences(root)

    def findings(self, root: Path) -> Iterator[str]:
        yield from sages_findings(root)
