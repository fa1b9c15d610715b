"""Building the frame store once, against loading one epoch of the same clips without it."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np

from calot.bench.footage import SIZE, Footage, footage
from calot.bench.side_by_side import Contest, ExactnessCheck, Outcome, compete, largest_difference
from calot.data.geometry import Squash
from calot.data.store import FrameStore, open_store

#: Building should cost at most a tenth of one naive epoch.
TARGET = 10.0


def bench_store(*, data: Path | None = None, frames: int = 320, naive_clips: int = 20, repeats: int = 3) -> Outcome:
    """Each frame decoded and resized once and written to disk; a naive epoch decodes it for every clip it is in."""
    with footage(data, frames=frames) as seen:
        timed = np.random.default_rng(0).permutation(len(seen.clips))[:naive_clips]
        share = len(timed) / len(seen.clips)

        def build() -> FrameStore:
            cache = seen.scratch / uuid.uuid4().hex
            return open_store(seen.root, seen.manifest, geometry=Squash(), size=SIZE, cache=cache, workers=1)

        return compete(
            Contest(
                bench="store",
                work=f"the pixels of {len(seen.clips)} clips over {len(seen.manifest)} frames",
                naive_way="one epoch that opens 16 JPEGs per clip with Pillow and resizes them",
                our_way="build the frame store with one thread: decode, resize, hash, write, fsync",
                target=TARGET,
                repeats=repeats,
                checks=lambda: (_pixels(seen, store=build()),),
                naive=lambda: [seen.open_clip(index) for index in timed],
                ours=build,
                naive_share=share,
                settings=seen.settings(),
            )
        )


def _pixels(seen: Footage, *, store: FrameStore) -> ExactnessCheck:
    rows = range(len(store))
    off = max(largest_difference(seen.open_frame(row).transpose(2, 0, 1), store.read(np.asarray(row))) for row in rows)
    return ExactnessCheck(what=f"pixels of all {len(store)} frames, grey levels", difference=off, tolerance=0.0)
