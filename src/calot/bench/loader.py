"""Clips by index from the frame store, against opening and resizing each clip's JPEGs."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calot.bench.footage import SIZE, Footage, footage
from calot.bench.side_by_side import Aside, Contest, ExactnessCheck, Outcome, compete, largest_difference, seconds
from calot.data.dataset import ClipDataset, EpochIndices
from calot.data.geometry import Squash
from calot.data.store import FrameStore, open_store
from calot.data.store_build import PIXELS

TARGET = 200.0
BATCH = 16
#: A read counts as cold when at least this share of the bytes came from the disk.
COLD_SHARE = 0.9


def bench_loader(
    *, data: Path | None = None, frames: int = 320, checked: int = 24, naive_clips: int = 8, repeats: int = 5
) -> Outcome:
    """An epoch of clips in random order, the store's file in the page cache; a cold figure stands beside it."""
    with footage(data, frames=frames) as seen:
        store = open_store(seen.root, seen.manifest, geometry=Squash(), size=SIZE, cache=seen.scratch / "store")
        order = np.random.default_rng(0).permutation(len(seen.clips))
        timed = order[:naive_clips]
        buffer = np.empty((seen.clips.frames.shape[1], *store.shape[1:]), dtype=np.uint8)

        def read() -> None:
            for index in order:
                store.read(seen.clips.frames[index], out=buffer)

        return compete(
            Contest(
                bench="loader",
                work=f"{len(order)} clips of 16 frames in random order, page cache warm",
                naive_way="open 16 JPEGs with Pillow and resize them",
                our_way="rows of the memory-mapped frame store, into a reused buffer",
                target=TARGET,
                repeats=repeats,
                checks=lambda: (_pixels(seen, store=store, chosen=order[:checked]),),
                naive=lambda: [seen.open_clip(index) for index in timed],
                ours=read,
                naive_share=len(timed) / len(order),
                asides=lambda: (_training(seen, store, order), _cold(seen, store, clips=len(order))),
                settings=seen.settings() | {"store_megabytes": round(float(np.prod(store.shape)) / 1e6, 1)},
            )
        )


def _pixels(seen: Footage, *, store: FrameStore, chosen: NDArray[np.int64]) -> ExactnessCheck:
    off = max(largest_difference(seen.open_clip(i), store.read(seen.clips.frames[i])) for i in chosen)
    return ExactnessCheck(what=f"pixels of {len(chosen)} clips, grey levels", difference=off, tolerance=0.0)


def _training(seen: Footage, store: FrameStore, order: NDArray[np.int64]) -> Aside:
    """As training reads: `ClipDataset` takes new memory for each batch, and getting it costs more than the copy."""
    dataset = ClipDataset(table=seen.clips, store=store)
    requests = [
        EpochIndices(epoch=0, indices=tuple(order[start : start + BATCH].tolist()), start=start)
        for start in range(0, len(order), BATCH)
    ]
    taken = seconds(lambda: [len(dataset[request]) for request in requests])
    return Aside(name="training", what=f"ClipDataset, batches of {BATCH}, new memory for each", seconds=taken)


def _cold(seen: Footage, store: FrameStore, *, clips: int) -> Aside:
    """Every frame once, from the disk: an unmapped copy is dropped from the page cache, then read."""
    name, what, length = "cold", "every frame from the disk, against the naive way warm", seen.clips.frames.shape[1]
    if not hasattr(os, "posix_fadvise"):
        return Aside(name=name, what=what, seconds=None, reason="this system cannot drop a file from its page cache")
    copy = seen.scratch / "cold"
    shutil.copytree(store.path, copy)
    _drop(copy / PIXELS)
    whole = len(store) // length * length
    windows = np.random.default_rng(1).permutation(np.arange(whole).reshape(-1, length))
    cold, before = replace(store, path=copy), _bytes_from_disk()
    buffer = np.empty((length, *store.shape[1:]), dtype=np.uint8)
    taken = seconds(lambda: [cold.read(rows, out=buffer) for rows in windows]) * clips / max(1, len(windows))
    after = _bytes_from_disk()
    if before is None or after is None or after - before < COLD_SHARE * whole * float(np.prod(store.shape[1:])):
        reason = "the file stayed in memory, or this system does not tell where bytes came from"
        return Aside(name=name, what=what, seconds=None, reason=reason)
    return Aside(name=name, what=what, seconds=taken)


def _drop(path: Path) -> None:
    file = os.open(path, os.O_RDWR)
    try:
        os.fsync(file)  # pages not yet written would stay
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


def _bytes_from_disk() -> int | None:
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("read_bytes:")), None)
