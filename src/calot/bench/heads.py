"""Many heads from one pass of a frozen backbone, as a sweep trains them, against runs that each compute it."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from calot.bench.epochs import Epochs, footage_folder, same_epochs
from calot.bench.features import NAME
from calot.bench.side_by_side import Contest, ExactnessCheck, Outcome, compete, one_torch_thread
from calot.experiment import scaled
from calot.experiments import find

HEADS, MOST = 20, 1.3
#: That many heads may take this many times one head's time.
TARGET = HEADS / MOST
RATES = ("1e-5", "3e-5", "1e-4", "3e-4", "1e-3")


def bench_heads(
    *,
    data: Path | None = None,
    frames: int = 300,
    epochs: int = 5,
    heads: int = HEADS,
    repeats: int = 1,
    protocol: str = "AllFrames()",
) -> Outcome:
    """`e02_frozen_probe` at tiny scale, five learning rates by seeds; the time of the one pass is within ours.

    The backbone's weights lie in a folder, as published ones do: random ones would be another backbone for each seed.
    """
    with footage_folder(data, frames=frames) as (root, scratch), one_torch_thread():
        torch.manual_seed(0)
        encoder = scaled(find(NAME).experiment, "tiny").backbone.build()
        encoder.model.save_pretrained(scratch / "weights")

        def run(number: int, caches: bool) -> Epochs:
            weights, rate = f"backbone.weights={scratch / 'weights'}", f"train.lr={RATES[number % len(RATES)]}"
            changes = (f"protocol={protocol}", "compute.features=fp32", weights, rate)
            return Epochs.of(
                NAME,
                root=root,
                scratch=scratch,
                changes=changes,
                caches=caches,
                seed=number // len(RATES),
                epochs=epochs,
            )

        def all_of_them() -> None:
            shutil.rmtree(scratch / "cache" / "features", ignore_errors=True)
            for number in range(heads):
                run(number, True)()

        def checks() -> tuple[ExactnessCheck, ...]:
            return tuple(c for number in (1, heads - 1) for c in same_epochs(run(number, False), run(number, True)))

        first = run(0, False)
        return compete(
            Contest(
                bench="heads",
                work=f"{heads} heads: {first.work}",
                naive_way=f"{heads} runs, and each encodes every clip in every epoch; one is timed",
                our_way="the backbone encodes each view of a clip once, and every run reads from train.features",
                target=TARGET,
                repeats=repeats,
                plain=False,
                checks=checks,
                naive=first,
                naive_share=1 / heads,
                ours=all_of_them,
                settings=first.settings | {"heads": heads, "epochs": epochs},
            )
        )
