"""A plain table: `labels.csv` beside `videos/` or `frames/` (docs/data.md has its columns)."""

from pathlib import Path

import polars as pl

from calot.criteria import CRITERIA
from calot.data import cells
from calot.data.declared import DECLARED, Declared
from calot.data.manifest import Manifest, completed
from calot.data.numbering import FrameNumbering, found_numbering
from calot.data.readers import Reader
from calot.data.sources import FrameSource, ImageFiles, VideoFiles, numbered_images, sampled_videos
from calot.errors import CalotError

LABELS, VIDEOS, FRAMES = "labels.csv", "videos", "frames"
MILLISECONDS = 1000.0  # how frames of videos are numbered by default


class TableReader(Reader):
    """Rows are what people labelled, or want scored; the sampled frames between are there to be seen in clips."""

    labels_are = "the table's own values, positive from 0.5"
    looks_for = f"{LABELS} (video, split, time or frame, criteria by name) beside {VIDEOS}/ or {FRAMES}/"

    def recognises(self, root: Path) -> bool:
        return (root / LABELS).is_file()

    def frames(self, root: Path) -> FrameSource:
        return VideoFiles(root) if (root / VIDEOS).is_dir() else ImageFiles(root)

    def manifest(self, root: Path) -> Manifest:
        path, declared = root / LABELS, Declared.of(root)
        rows = cells.read_cells(path, needed=("video",), remedy="docs/data.md has its columns.")
        cells.refuse_columns(rows, known=("video", "split", "time", "frame", *CRITERIA), path=path)
        filmed = (root / VIDEOS).is_dir()
        per_second = declared.frames_per_second or (MILLISECONDS if filmed and "time" in rows.columns else None)
        if per_second is None:
            raise CalotError(f'{root / DECLARED}: say how frames are numbered, such as {{"frames_per_second": 25}}.')
        if filmed:
            numbering = FrameNumbering(per_second, max(1, round(per_second * (declared.seconds_apart or 1))))
            seen = sampled_videos(root, VIDEOS, numbering=numbering)
        else:
            seen = numbered_images(root, FRAMES)
            videos, frames = seen["video"].to_list(), seen["frame"].to_numpy()
            numbering = found_numbering(videos, frames, per_second=per_second, where=root / FRAMES)
        asked = rows.select(
            video=(video := cells.video_column(rows, "video", path=path)),
            split=cells.split_column(rows, video, path=path),
            frame=cells.frame_column(rows, numbering, path=path),
            **{f"soft_{c}": cells.decimals(rows, c, path=path) for c in CRITERIA if c in rows.columns},
        )
        table = cells.labelled_frames(seen, asked, path=path).with_columns(dataset=pl.lit(declared.dataset(root)))
        return Manifest(completed(table), numbering, source=str(path))
