"""The device and the precision that a run works with, and the processes that share its work."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from torch import distributed, nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from calot.errors import CalotError
from calot.memory import keep_freed_memory
from calot.models.half_weights import cast_frozen_once
from calot.processes import ALONE, Processes
from calot.train.stage import Compute

#: How long processes wait for each other within a step or a pass. A dead one is noticed at once.
_PATIENCE = timedelta(minutes=30)
#: What a launcher says to each process that it starts.
_TOLD = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_SHARDED = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")


def require_one_process() -> None:
    """Raises CalotError under a launcher of several processes which nobody has joined."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1" and not (distributed.is_available() and distributed.is_initialized()):
        raise CalotError(
            f"WORLD_SIZE={processes}: of calot's commands only `train` and `pretrain` run in several processes, and "
            "not with --dry-run. Start this one without torchrun or accelerate launch, or unset WORLD_SIZE."
        )


def join_processes(compute: Compute) -> Processes:
    """The processes that a launcher (torchrun, accelerate launch) started for this command, joined; without one, this
    process alone.

    Raises CalotError where it is told too little, or to divide the model itself.
    """
    if sharded := [name for name in _SHARDED if os.environ.get(name, "").lower() in ("1", "true")]:
        raise CalotError(
            f"{sharded[0]}: calot divides batches, not the model, which must fit on each GPU (compute.micro_batch, "
            "compute.gradient_checkpointing). Several GPUs for one run: torchrun --nproc_per_node=2 -m calot train "
            "...; for several seeds: one process per seed, each with its own CUDA_VISIBLE_DEVICES."
        )
    count = os.environ.get("WORLD_SIZE", "1")
    if count == "1":
        return ALONE
    if untold := [name for name in _TOLD if name not in os.environ]:
        raise CalotError(
            f"WORLD_SIZE={count}, but {untold[0]} is not set: start several processes with torchrun "
            "--nproc_per_node=2 -m calot train ..., or unset WORLD_SIZE"
        )
    local, seen = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if compute.device != "cpu" and torch.cuda.is_available() and local >= seen:
        raise CalotError(
            f"LOCAL_RANK={local}, but torch sees {seen} GPU{'s' * (seen > 1)} here: start one process per GPU, "
            f"--nproc_per_node={seen}, or use compute.device=cpu"
        )
    accelerator = _accelerator(compute)
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False, timeout=timedelta(minutes=1))
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Processes(
        rank=accelerator.process_index,
        count=accelerator.num_processes,
        device=accelerator.device,
        store=PrefixStore(f"calot {again}", store),
    )


def make_accelerator(compute: Compute) -> Accelerator:
    """The device and precision asked for. Raises CalotError where a GPU was asked for and there is none, and under a
    launcher of several processes that were not joined."""
    require_one_process()
    return _accelerator(compute)


def fused_step(accelerator: Accelerator) -> bool | None:
    """Whether AdamW updates in one kernel: on a GPU, but with fp16's scaler, from which it would hide what is skipped;
    None is torch's own choice."""
    return True if accelerator.device.type == "cuda" and accelerator.scaler is None else None


def placed(model: nn.Module, *, accelerator: Accelerator) -> nn.Module:
    """The model on its device and in its precision, as a step calls it. Several processes have no wrapper: see
    `calot.processes`."""
    if accelerator.mixed_precision != "no":
        cast_frozen_once(model)
    if accelerator.distributed_type != DistributedType.NO:
        called: nn.Module = accelerator.prepare_model(model, evaluation_mode=True)
        return called
    alone: nn.Module = accelerator.prepare_model(model)
    return alone


def _accelerator(compute: Compute) -> Accelerator:
    keep_freed_memory()
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
    return Accelerator(
        cpu=not gpu,
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
