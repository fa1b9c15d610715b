"""An epoch on cached activations of what is frozen, against computing them again in each epoch."""

from __future__ import annotations

import shutil
from pathlib import Path

from calot.bench.epochs import Epochs, footage_folder, same_epochs
from calot.bench.side_by_side import Aside, Contest, Outcome, compete, one_torch_thread, seconds

TARGET = 30.0
NAME = "e02_frozen_probe"


def bench_features(
    *, data: Path | None = None, frames: int = 600, repeats: int = 3, protocol: str = "AllFrames()"
) -> Outcome:
    """`e02_frozen_probe` at tiny scale: training, validation and the clean pass of an epoch."""
    ways = ("the frozen backbone encodes every clip in every epoch", "tokens from train.features, fp32")
    return cached_epochs(
        NAME, bench="features", ways=ways, target=TARGET, data=data, frames=frames, repeats=repeats, protocol=protocol
    )


def cached_epochs(
    name: str,
    *,
    bench: str,
    ways: tuple[str, str],
    target: float,
    data: Path | None,
    frames: int,
    repeats: int,
    protocol: str,
    more: tuple[str, ...] = (),
) -> Outcome:
    """An experiment's epoch, computed and cached; `more` changes it. `ways` says the naive one and ours."""
    with footage_folder(data, frames=frames) as (root, scratch), one_torch_thread():
        changes = (f"protocol={protocol}", "compute.features=fp32", *more)
        computed = Epochs.of(name, root=root, scratch=scratch, changes=changes)
        cached = Epochs.of(name, root=root, scratch=scratch, changes=changes, caches=True)
        features = cached.trainer.features
        assert features is not None
        stored = features.train.shape.bytes + features.val.shape.bytes

        def building() -> tuple[Aside, ...]:
            """What the cache costs once: every view of every clip, written and checked."""
            for kept in (features.train, features.val):
                shutil.rmtree(kept.path)
            taken = seconds(lambda: Epochs.of(name, root=root, scratch=scratch, changes=changes, caches=True))
            return (Aside(name="building", what="every clip encoded once in each view", seconds=taken),)

        return compete(
            Contest(
                bench=bench,
                work=cached.work,
                naive_way=ways[0],
                our_way=ways[1],
                target=target,
                repeats=repeats,
                plain=False,
                checks=lambda: same_epochs(computed, cached),
                naive=computed,
                ours=cached,
                asides=building,
                settings=cached.settings | {"megabytes": round(stored / 1e6, 1)},
            )
        )
