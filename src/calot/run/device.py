"""The device and the precision that a run works with."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator

from calot.errors import CalotError
from calot.train.stage import Compute


def require_one_process() -> None:
    """Raises CalotError under a launcher of several processes."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise CalotError(
            f"WORLD_SIZE={processes}: calot trains in one process, on one GPU. Start it without torchrun or accelerate "
            "launch (one process per seed uses more GPUs), or unset WORLD_SIZE."
        )


def make_accelerator(compute: Compute) -> Accelerator:
    """The device and precision asked for. Raises CalotError where a GPU was asked for and there is none, and under a
    launcher of several processes."""
    require_one_process()
    has_gpu = torch.cuda.is_available()
    if compute.device == "cuda" and not has_gpu:
        raise CalotError("compute.device=cuda, but torch sees no GPU here; use compute.device=cpu")
    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
    gpu = has_gpu and compute.device != "cpu"
    precision = compute.precision
    if precision == "auto":
        precision = "fp32" if not gpu else "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    torch.use_deterministic_algorithms(True, warn_only=True)
    return Accelerator(cpu=not gpu, mixed_precision="no" if precision == "fp32" else precision)
