"""Small folders in the Endoscapes layout: a few JPEGs, three raters, written by the tests themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEADER = (
    "vid,frame,avg_cvs,C1,C2,C3,is_ds_keyframe,cvs_annotator_1,cvs_annotator_2,cvs_annotator_3,mask_path,label_path"
)

Votes = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]


@dataclass
class Folder:
    """A folder to be written: rows of the table, and videos of each split."""

    root: Path
    rows: list[str] = field(default_factory=list)
    videos: dict[str, list[int]] = field(default_factory=lambda: {"train": [], "val": [], "test": []})

    def video(self, number: int, *, split: str, frames: list[int], votes: dict[int, Votes]) -> Folder:
        """Add a video; a frame in `votes` is a keyframe, any other repeats the labels of the last one before it."""
        self.videos[split].append(number)
        means = [0.0, 0.0, 0.0]
        for frame in frames:
            cells = '"","",""'
            if frame in votes:
                means = [sum(v[k] for v in votes[frame]) / 3 for k in range(3)]
                cells = ",".join(f'"{list(v)}"' for v in votes[frame])
            c1, c2, c3 = means
            self.rows.append(f"{number},{frame},,{c1},{c2},{c3},{frame in votes},{cells},,")
        return self

    def write(self) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "all_metadata.csv").write_text("\n".join([HEADER, *self.rows]) + "\n")
        for split, videos in self.videos.items():
            if videos:
                (self.root / f"{split}_vids.txt").write_text("".join(f"{v:.9e}\n" for v in videos))
        return self.root

    def write_images(self, *, height: int = 24, width: int = 40) -> Path:
        self.write()
        for split, videos in self.videos.items():
            (self.root / split).mkdir(exist_ok=True)
            for row in self.rows:
                video, frame = row.split(",")[:2]
                if int(video) in videos:
                    picture = scene(int(video), int(frame), height=height, width=width)
                    Image.fromarray(picture).save(self.root / split / f"{video}_{frame}.jpg", quality=95)
        return self.root


def scene(video: int, frame: int, *, height: int = 24, width: int = 40) -> NDArray[np.uint8]:
    """A smooth picture of its own for every frame, left unlike right."""
    rng = np.random.default_rng([video, frame])
    small = Image.fromarray(rng.integers(0, 255, (3, 5, 3), dtype=np.uint8))
    return np.array(small.resize((width, height), Image.Resampling.BILINEAR))


NO: Votes = ((0, 0, 0), (0, 0, 0), (0, 0, 0))
ALL: Votes = ((1, 1, 1), (1, 1, 1), (1, 1, 1))
TWO_OF_THREE_SEE_C2: Votes = ((0, 1, 0), (0, 1, 0), (0, 0, 0))
