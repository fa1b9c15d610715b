"""Frames to load: a small phantom in a temporary folder, or the first frames of an existing data set."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from calot.data.clip_rules import ClipRule
from calot.data.clips import AllFrames, CentreLabel, ClipTable, build_clips
from calot.data.manifest import Manifest
from calot.data.readers import open_folder
from calot.phantom import PhantomSpec, generate
from calot.phantom.spec import FEWEST_FRAMES
from calot.progress import Ui

SIZE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Footage:
    """Frames of all splits as one, cut into 16-frame clips, one per frame; `scratch` is a temporary folder."""

    root: Path
    manifest: Manifest
    clips: ClipTable
    scratch: Path
    images: list[str] = field(repr=False)

    def open_frame(self, row: int) -> NDArray[np.uint8]:
        """The naive way to a frame: open the JPEG and resize it, with Pillow; `h w 3`."""
        with Image.open(self.root / self.images[row]) as image:
            return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    def open_clip(self, index: int) -> NDArray[np.uint8]:
        """The naive way to a clip, `t 3 h w`."""
        frames = np.stack([self.open_frame(row) for row in self.clips.frames[index]])
        return np.ascontiguousarray(frames.transpose(0, 3, 1, 2))

    def settings(self) -> dict[str, Any]:
        kilobytes = np.mean([os.stat(self.root / image).st_size for image in self.images]) / 1e3
        with Image.open(self.root / self.images[0]) as first:
            jpeg = f"{first.width} x {first.height}"
        return {
            "dataset": self.manifest.dataset,
            "frames": len(self.manifest),
            "clips": len(self.clips),
            "clip_frames": self.clips.frames.shape[1],
            "jpeg": jpeg,
            "jpeg_kilobytes": round(float(kilobytes), 1),
            "size": SIZE,
        }


@contextmanager
def footage(data: Path | None, *, frames: int) -> Iterator[Footage]:
    """About `frames` frames of `data`, or of a phantom rendered for this purpose; nothing is written below `data`."""
    with tempfile.TemporaryDirectory(prefix="calot_bench_", ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        root = data or _phantom(scratch / "phantom", frames=frames)
        whole = open_folder(root).manifest
        manifest = whole.with_table(whole.table.head(frames).with_columns(split=pl.lit("train")))
        clips = build_clips(
            manifest, split="train", protocol=AllFrames(), rule=ClipRule(), label_rule=CentreLabel(), training=False
        )
        images = manifest.table["image"].to_list()
        yield Footage(root=root, manifest=manifest, clips=clips, scratch=scratch, images=images)


def _phantom(root: Path, *, frames: int) -> Path:
    videos = max(3, round(frames / 50))
    length = max(FEWEST_FRAMES, -(-frames // videos))
    spec = PhantomSpec(
        videos=videos, seed=0, mean_frames=float(length), min_frames=length, max_frames=length, mask_share=0.0
    )
    with Ui().task("phantom to load") as advance:
        generate(root, spec=spec, workers=min(2, os.cpu_count() or 1), progress=advance)
    return root
