"""Normalising a batch in place into a reused buffer, against the usual expression."""

from __future__ import annotations

import torch

from calot.bench.side_by_side import (
    Aside,
    Contest,
    ExactnessCheck,
    Outcome,
    compete,
    largest_difference,
    one_torch_thread,
    seconds,
)
from calot.models.backbones.view import View

TARGET = 4.0
#: Normalised values reach 2.64, where float32 steps by 2.4e-7.
TOLERANCE = 1e-6


def bench_preprocess(*, clips: int = 16, frames: int = 16, size: int = 256, repeats: int = 9) -> Outcome:
    """uint8 to normalised float32, one thread."""
    video = torch.randint(0, 256, (clips, frames, 3, size, size), dtype=torch.uint8)
    view = View(frames=frames, size=size)
    mean, std = torch.tensor(view.mean).view(3, 1, 1), torch.tensor(view.std).view(3, 1, 1)
    buffer = torch.empty(video.shape)

    def usual() -> torch.Tensor:
        return (video.float() / 255 - mean) / std

    def check() -> tuple[ExactnessCheck, ...]:
        off = largest_difference(usual().numpy(), view.normalise(video, out=buffer).numpy())
        return (ExactnessCheck(what="normalised values, float32", difference=off, tolerance=TOLERANCE),)

    def unbuffered() -> tuple[Aside, ...]:
        taken = seconds(lambda: view.normalise(video))
        return (Aside(name="new memory", what="without the reused buffer", seconds=taken),)

    with one_torch_thread():
        return compete(
            Contest(
                bench="preprocess",
                work=f"normalise {clips} clips of {frames} frames, {size} px",
                naive_way="(video.float() / 255 - mean) / std",
                our_way="View.normalise(video, out=buffer)",
                target=TARGET,
                repeats=repeats,
                checks=check,
                naive=usual,
                ours=lambda: view.normalise(video, out=buffer),
                asides=unbuffered,
                settings={"clips": clips, "clip_frames": frames, "size": size},
            )
        )
