"""Which videos of one data set are operations of another: published maps, equal UUIDs, and pictures alike."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from calot.data.endoscapes.published import CHOLEC80, CHOLECT50
from calot.data.overlap.hashing import Hashes, distances
from calot.data.overlap.signatures import Signatures, signatures_of
from calot.data.readers import DataFolder
from calot.progress import Ui

#: Of a video's hashed frames, how many must have one alike in the other, and how alike: share of differing bits.
ALIKE, SHARE, LEAST = 0.12, 0.1, 3

#: Names in small letters under which a data set is known -> the one that its ids are compared by.
_NAMES = {"endoscapes": "endoscapes", "cholec80": "cholec80", "cholec80-cvs": "cholec80", "cholect50": "cholect50"}
#: CholecT50's videos with numbers up to this are Cholec80's of the same number.
_CHOLEC80_VIDEOS = 80


@dataclass(frozen=True, kw_only=True)
class SharedVideo:
    """One operation that is in both: its id here and there, its splits, and how that is known."""

    here: str
    there: str
    split_here: str
    split_there: str
    how: str
    frames: int | None = None
    alike: int | None = None

    def __str__(self) -> str:
        return f"{self.here} ({self.split_here}) = {self.there} ({self.split_there}), {self.how}"


@dataclass(frozen=True)
class VideoIds:
    """A data set's name and the split of each of its videos: all that published overlaps need."""

    dataset: str
    splits: Mapping[str, str]

    @classmethod
    def of(cls, table: pl.DataFrame, *, dataset: str) -> VideoIds:
        pairs = table.select("video", "split").unique().sort("video").iter_rows()
        return cls(dataset=dataset, splits=dict(pairs))

    def within(self, splits: Iterable[str]) -> VideoIds:
        """Only the videos of some splits."""
        kept = set(splits)
        return VideoIds(self.dataset, {video: split for video, split in self.splits.items() if split in kept})


def operations_of(dataset: str, video: str) -> set[tuple[str, str]]:
    """Every name under which an operation is published: (data set, id), its own among them, empty where unknown.

    CAMMA's map of overlaps; CholecT50 takes over Cholec80's numbers. A UUID is one operation wherever it stands.
    """
    try:
        if str(uuid.UUID(video)) == video.lower():
            return {("uuid", video.lower())}
    except ValueError:
        pass
    family = _NAMES.get(dataset.strip().lower())
    if family is None or not video.isdigit():
        return set()
    number = int(video)
    names = {(family, video)}
    if family == "endoscapes":
        names |= {("cholec80", str(CHOLEC80[number]))} if number in CHOLEC80 else set()
        names |= {("cholect50", str(CHOLECT50[number]))} if number in CHOLECT50 else set()
    if family == "cholect50" and number <= _CHOLEC80_VIDEOS:
        names |= {("cholec80", video)}
    return names


def published_overlap(here: VideoIds, there: VideoIds) -> list[SharedVideo]:
    """Operations that ids alone show to be in both."""
    known: dict[tuple[str, str], str] = {}
    for video in there.splits:
        for name in operations_of(there.dataset, video):
            known[name] = video
    found = []
    for video, split in here.splits.items():
        others = sorted({known[name] for name in operations_of(here.dataset, video) if name in known})
        how = "the same UUID" if ("uuid", video.lower()) in known else "published"
        found += [_shared(video, other, split, there.splits[other], how=how) for other in others]
    return found


def alike_videos(here: Signatures, there: Signatures) -> list[SharedVideo]:
    """Videos with pictures alike: of the shorter one's hashed frames at least `SHARE`, and `LEAST` frames."""
    found = []
    for video, (split, bits) in here.of.items():
        for other, (split_there, bits_there) in there.of.items():
            alike = _alike(bits, bits_there)
            fewer = min(len(bits), len(bits_there))
            if fewer and alike >= max(LEAST, SHARE * fewer):
                how = f"{alike} of {fewer} frames look alike"
                found.append(_shared(video, other, split, split_there, how=how, frames=fewer, alike=alike))
    return found


def overlap_of(
    here: DataFolder,
    there: DataFolder,
    *,
    ui: Ui,
    splits: tuple[Iterable[str], Iterable[str]] | None = None,
    check: Callable[[], None] | None = None,
    caches: tuple[Path | None, Path | None] = (None, None),
) -> list[SharedVideo]:
    """Every operation in both, each once: published ones first, then those whose pictures are alike."""
    folders = (here, there)
    wanted = splits or (here.manifest.splits, there.manifest.splits)
    ids = [
        VideoIds.of(f.manifest.table, dataset=f.manifest.dataset).within(names)
        for f, names in zip(folders, wanted, strict=True)
    ]
    found = published_overlap(*ids)
    known = {(item.here, item.there) for item in found}
    seen = [
        signatures_of(folder, videos=one.splits, ui=ui, check=check, cache=cache)
        for folder, one, cache in zip(folders, ids, caches, strict=True)
    ]
    return found + [item for item in alike_videos(*seen) if (item.here, item.there) not in known]


def _alike(a: Hashes, b: Hashes) -> int:
    """How many frames of the shorter video have one alike in the longer."""
    if not len(a) or not len(b):
        return 0
    short, long = (a, b) if len(a) <= len(b) else (b, a)
    return int((distances(short, long).min(axis=1) <= ALIKE).sum())


def _shared(
    here: str,
    there: str,
    split_here: str,
    split_there: str,
    *,
    how: str,
    frames: int | None = None,
    alike: int | None = None,
) -> SharedVideo:
    return SharedVideo(
        here=here, there=there, split_here=split_here, split_there=split_there, how=how, frames=frames, alike=alike
    )
