"""Cholec80-CVS (Rios et al. 2023): one Excel sheet of time segments beside Cholec80's own videos, or their frames.

Each row scores a segment 0 to 2 on `two_structures, cystic_plate, hepatocystic_triangle`, in this order: columns 2 and
3 stand the other way round than in Endoscapes. 1 and 2 are positive, and what no segment covers is 0. As in the
authors' code the last frame of a segment belongs to it, later rows with a score win, and frames from the clipping on
are not judged, where `phase_annotations/` says when that begins.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from calot.criteria import CRITERIA
from calot.data import cells
from calot.data.cholec80.segments import CHOLEC80_PER_SECOND, Segment, judged_until, read_segments, video_number
from calot.data.declared import DECLARED, Declared
from calot.data.manifest import Manifest, completed
from calot.data.numbering import FrameNumbering, found_step
from calot.data.picture_numbers import counted_from_zero, sampled_pictures
from calot.data.readers import Reader
from calot.data.sources import FrameSource, ImageFiles, VideoFiles, numbered_images, sampled_videos
from calot.data.splitting import VideoSplit, video_split
from calot.errors import CalotError
from calot.identity import hidden_file

VIDEOS, FRAMES, NAME, COUNT = "videos", "frames", "cholec80-cvs", 80

#: The authors' own split (get_training_sets.py of ManuelRios18/CHOLEC80-CVS-PUBLIC); the other videos are train.
VAL = (1, 2, 10, 16, 17, 28, 32, 46, 47, 57, 59, 63, 65, 67, 70)
TEST = (5, 6, 7, 9, 14, 22, 24, 26, 29, 33, 35, 39, 53, 55, 61)


class Cholec80CvsReader(Reader):
    """Cholec80's videos with the surgeons' scores; criteria by name from here on."""

    labels_are = "score 1 or 2 in a segment by consensus of surgeons, 0 outside segments"
    looks_for = "one .xlsx of segments beside videos/ or frames/ (Cholec80-CVS)"

    def recognises(self, root: Path) -> bool:
        return bool(_sheets(root)) and ((root / VIDEOS).is_dir() or (root / FRAMES).is_dir())

    def frames(self, root: Path) -> FrameSource:
        return VideoFiles(root) if (root / VIDEOS).is_dir() else ImageFiles(root)

    def manifest(self, root: Path) -> Manifest:
        sheets = _sheets(root)
        if len(sheets) > 1:
            raise CalotError(f"{root}: {sheets[0].name} and {sheets[1].name}: two tables. Keep the one of segments.")
        read = read_segments(sheets[0])
        seen, numbering = _seen(root)
        named = {name: video_number(name) for name in seen["video"].unique().to_list()}
        seen = seen.with_columns(pl.col("video").replace_strict(named, return_dtype=pl.String))
        there = set(named.values())
        videos = [video for video in read.of if video in there]
        if not videos:
            raise CalotError(f"{sheets[0]}: no video of it is in {root}. They are named video01, video02 ...")
        ends = judged_until(root, videos)
        split = _split(root, videos)
        seen = seen.filter(pl.col("video").is_in(videos))
        table = _labelled(seen, read.of, ends=ends).with_columns(
            split=pl.col("video").replace_strict(split.of, return_dtype=pl.String),
            dataset=pl.lit(_dataset(root, named)),
        )
        assumed = [*read.assumed, *filter(None, [split.assumed]), *_missing(read.of, there=there, ends=ends)]
        return Manifest(completed(table), numbering, source=str(sheets[0]), assumed=tuple(assumed))


def _sheets(root: Path) -> list[Path]:
    ours = [p for p in root.glob("*") if p.suffix.lower() == ".xlsx" and p.is_file()]
    return sorted(p for p in ours if not hidden_file(p.name) and not p.name.startswith("~$"))


def _seen(root: Path) -> tuple[pl.DataFrame, FrameNumbering]:
    """One frame per second of each video, numbered 25 per second from 0 whatever the pictures' names count."""
    declared = Declared.of(root)
    if (root / VIDEOS).is_dir():
        step = max(1, round(CHOLEC80_PER_SECOND * (declared.seconds_apart or 1)))
        numbering = FrameNumbering(CHOLEC80_PER_SECOND, step)
        return sampled_videos(root, VIDEOS, numbering=numbering), numbering
    where = root / FRAMES
    seen = counted_from_zero(numbered_images(root, FRAMES), declared=declared, where=where)
    rate = declared.frames_per_second or _rate(seen, where=where)
    factor = CHOLEC80_PER_SECOND / rate
    if factor != round(factor):
        raise CalotError(
            f"{root / DECLARED}: frames_per_second is {rate:g}; Cholec80 has 25, which is not a multiple of it."
        )
    seen = seen.with_columns(pl.col("frame") * round(factor))
    return sampled_pictures(seen, per_second=CHOLEC80_PER_SECOND, seconds_apart=declared.seconds_apart, where=where)


def _rate(seen: pl.DataFrame, *, where: Path) -> float:
    """25 where numbers rise by 25; anything else may be every frame or one per second, and is asked for."""
    step = found_step(seen["video"].to_list(), seen["frame"].to_numpy())
    if step != CHOLEC80_PER_SECOND:
        raise CalotError(
            f"{where}: picture numbers rise by {step}; say what they count in {DECLARED}: "
            f'{{"frames_per_second": 1}} for one per second, {{"frames_per_second": {CHOLEC80_PER_SECOND:g}}} for all.'
        )
    return CHOLEC80_PER_SECOND


def _labelled(seen: pl.DataFrame, segments: dict[str, list[Segment]], *, ends: dict[str, int]) -> pl.DataFrame:
    rows = []
    for video, frame in seen.select("video", "frame").iter_rows():
        judged = frame < ends.get(video, frame + 1)
        score = dict.fromkeys(CRITERIA, 0)
        for segment in segments[video]:
            if segment.first <= frame <= segment.last and any(segment.scores.values()):
                score = segment.scores
        rows.append({f"soft_{c}": float(score[c] >= 1) if judged else None for c in CRITERIA} | {"keyframe": judged})
    schema = {**{f"soft_{c}": pl.Float32 for c in CRITERIA}, "keyframe": pl.Boolean}
    return pl.concat([seen, pl.DataFrame(rows, schema=schema)], how="horizontal")


def _split(root: Path, videos: list[str]) -> VideoSplit:
    """`splits.csv`, else the authors' own where every video is one of Cholec80's, else a declared draw."""
    numbers = [int(v) for v in videos if v.isdigit()]
    own = len(numbers) == len(videos) and all(1 <= n <= COUNT for n in numbers)
    if not own or (root / cells.SPLITS_FILE).exists() or Declared.of(root).split_seed is not None:
        return video_split(root, videos)
    of = {str(n): "val" if n in VAL else "test" if n in TEST else "train" for n in numbers}
    return VideoSplit(of=of, assumed="split as its authors' code has it (50 train, 15 val, 15 test)")


def _dataset(root: Path, named: dict[str, str]) -> str:
    """Cholec80-CVS where every video is called as Cholec80's are and the owner says nothing else."""
    declared = Declared.of(root)
    theirs = all(re.fullmatch(r"video\d\d", name) and 1 <= int(n) <= COUNT for name, n in named.items())
    return NAME if declared.name is None and theirs else declared.dataset(root)


def _missing(segments: dict[str, list[Segment]], *, there: set[str], ends: dict[str, int]) -> list[str]:
    lost, bare, open_ended = segments.keys() - there, there - segments.keys(), (segments.keys() & there) - ends.keys()
    said = [f"{len(lost)} videos of the table have no recording here"] if lost else []
    said += [f"{len(bare)} recordings have no row in the table, and are left out"] if bare else []
    if open_ended:
        said.append(f"{len(open_ended)} videos are judged to their end, for phase_annotations/ has no file of them")
    return said
