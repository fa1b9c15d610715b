"""How calot understood a folder, in one line and in `data.json`: a misreading shows here before it costs a run."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calot.data.clips import ClipTable
from calot.data.readers import DataFolder
from calot.identity import hidden_file, ids_in_words


@dataclass(frozen=True, kw_only=True)
class Understood:
    """`masks` counts them by source, `passed_over` the hidden files that systems leave beside images; `assumed` says
    what the files left open and the reader settled."""

    dataset: str
    reader: str
    videos: str
    frames: int
    frames_per_second: float
    step: int
    seconds_apart: float
    keyframes: int
    labelled: int
    raters: int
    masks: dict[str, int]
    passed_over: int
    assumed: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: DataFolder) -> Understood:
        """Count; images are looked at by name alone."""
        manifest = folder.manifest
        table, numbering = manifest.table, manifest.numbering
        sources = Counter(source for source in table["mask_source"].to_list() if source is not None)
        return cls(
            dataset=manifest.dataset,
            reader=type(folder.reader).__name__,
            videos=ids_in_words(manifest.videos),
            frames=len(manifest),
            frames_per_second=numbering.per_second,
            step=numbering.step,
            seconds_apart=numbering.seconds_apart,
            keyframes=int(manifest.keyframes.sum()),
            labelled=int(manifest.labelled.sum()),
            raters=len(manifest.raters),
            masks=dict(sorted(sources.items())),
            passed_over=sum(map(_hidden, {folder.frames.file(name).parent for name in table["image"].to_list()})),
            assumed=manifest.assumed,
        )

    def __str__(self) -> str:
        labels = "all labelled" if self.labelled == self.frames else f"{self.labelled:,} labelled"
        masks = ", ".join(f"{count:,} {source}" for source, count in self.masks.items()) or "no"
        parts = [
            self.videos,
            f"{self.frames:,} frames ({labels}; {self.keyframes:,} keyframes, {self.raters} raters)",
            f"{self.frames_per_second:g} frame numbers per second, "
            f"every {self.step} sampled ({self.seconds_apart:g} s)",
            f"{masks} masks",
        ]
        if self.passed_over:
            parts.append(f"{self.passed_over:,} hidden files passed over")
        parts += [f"assumed: {said}" for said in self.assumed]
        return f"{self.dataset}: {'; '.join(parts)}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def windows_of(table: ClipTable) -> dict[str, Any]:
    """How many different frames the clips of a split show, for `data.json`; `one_frame` counts those that show one."""
    distinct = table.distinct()
    return {
        "clips": len(table),
        "left_out_by_the_label_rule": table.left_out,
        "distinct_frames": {"least": int(distinct.min()), "median": float(np.median(distinct))},
        "one_frame": int((distinct == 1).sum()),
    }


def _hidden(folder: Path) -> int:
    return sum(hidden_file(entry.name) for entry in os.scandir(folder)) if folder.is_dir() else 0
