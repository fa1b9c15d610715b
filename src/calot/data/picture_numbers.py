"""Pictures that were taken out of videos: from which number their names count, and which of them are sampled."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from calot.data.declared import DECLARED, Declared
from calot.data.numbering import FrameNumbering, found_numbering, found_step
from calot.errors import CalotError


def counted_from_zero(seen: pl.DataFrame, *, declared: Declared, where: Path) -> pl.DataFrame:
    """Pictures (`video, frame, image`) whose frame numbers count from 0, as labels do.

    Raises CalotError where names begin with 1 and nobody declared it: every label would be one picture off.
    """
    firsts = seen.group_by("video").agg(pl.col("frame").min()).sort("video")
    ones = firsts.filter(pl.col("frame") == 1)
    if declared.first_frame is None and ones.height and firsts["frame"].min():
        raise CalotError(
            f"{where}: pictures are numbered from 1 (video {ones['video'][0]}), and labels count from 0: every label "
            f'would be one picture off. Say {{"first_frame": 1}} in {DECLARED} if picture 1 is the first frame, or '
            '{"first_frame": 0} if it is not.'
        )
    first = declared.first_frame or 0
    early = firsts.filter(pl.col("frame") < first)
    if early.height:
        raise CalotError(
            f"{where}: {DECLARED} says that pictures are numbered from {first}, and video {early['video'][0]} has "
            f"picture {early['frame'][0]}. Correct one of the two."
        )
    return seen.with_columns(pl.col("frame") - first)


def sampled_pictures(
    seen: pl.DataFrame, *, per_second: float, seconds_apart: float | None, where: Path
) -> tuple[pl.DataFrame, FrameNumbering]:
    """One picture for each `seconds_apart` (1 s) where there are more, all of them where there are fewer."""
    wanted = max(1, round(per_second * (seconds_apart or 1)))
    step = found_step(seen["video"].to_list(), seen["frame"].to_numpy())
    if step is not None and wanted % step == 0:
        seen = seen.filter(pl.col("frame") % wanted == 0)
        if seen.is_empty():
            raise CalotError(
                f"{where}: no picture has a number that {wanted} divides, of which one is taken each "
                f"{wanted / per_second:g} s. Say in {DECLARED} from which number they count (first_frame)."
            )
    videos, frames = seen["video"].to_list(), seen["frame"].to_numpy()
    return seen, found_numbering(videos, frames, per_second=per_second, where=where)
