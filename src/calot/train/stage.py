"""One stage of training: what adapts, how it is optimised, when it stops."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calot.identity import user_path
from calot.models.adaptation import Adaptation, Frozen


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Settings of one stage. `lr` is that of pooling and head; the adaptation carries the backbone's.

    `batch` is the effective batch, one optimiser step; how it is cut into micro-batches is a compute setting.
    `warmup` counts epochs and may be a fraction. `patience`: epochs without a better val macro mAP before stopping.
    """

    adaptation: Adaptation = Frozen()
    epochs: int = 15
    lr: float = 5e-4
    weight_decay: float = 0.1
    warmup: float = 2.0
    min_lr: float = 1e-6
    batch: int = 32
    patience: int = 5
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("lr", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        for name in ("warmup", "min_lr", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How the work is done. No treatment: none of it may change what is computed beyond rounding.

    `micro_batch`: clips a forward pass (None: the whole effective batch). `precision`: `auto` is bf16 on a GPU that
    has it, fp16 on an older one, fp32 on a CPU. `threads`: torch's CPU threads (None: its own choice).
    `gradient_checkpointing`: the backbone's layers are computed again in the backward pass, not kept.
    `checkpoint_every_s`: seconds between checkpoints within an epoch (0: after every step); each epoch ends with one.
    `cache`: folder for decoded frames and masks (None: `.calot` in the data set's own folder).
    """

    micro_batch: int | None = None
    gradient_checkpointing: bool = False
    workers: int = 0
    precision: str = "auto"
    threads: int | None = None
    device: str = "auto"
    evaluation_batch: int = 32
    train_subset: int = 256
    checkpoint_every_s: float = 600.0
    cache: str | None = None

    @property
    def cache_folder(self) -> Path | None:
        return None if self.cache is None else user_path(Path(self.cache))

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "fp32", "fp16", "bf16"):
            raise ValueError(f"precision={self.precision!r} is none of auto, fp32, fp16, bf16")
        for name in ("micro_batch", "threads", "evaluation_batch", "train_subset"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        for name in ("workers", "checkpoint_every_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
