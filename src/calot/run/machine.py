"""What a machine offers a run: processor, memory, GPUs, disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calot.run.environment import processor_name

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at: `found` for people, `facts` for programs; a `problem` says its `remedy`."""

    group: str
    name: str
    found: str
    state: str = OK
    remedy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def machine_checks(results: Path, *, data: Path | None) -> list[Check]:
    """Devices, memory, and the disks that results, downloads and frame stores go to."""
    return [*_processor(), *_gpus(), *_disk(results, data=data)]


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> Iterator[Check]:
    cores = usable_cores()
    memory = memory_bytes()
    threads = _torch_threads()
    facts = {"cores": cores, "threads": threads, "memory_bytes": memory}
    said = f"{processor_name() or 'processor'}, {cores} cores" + (f", {threads} torch threads" if threads else "")
    yield Check(group="devices", name="cpu", found=said, facts=facts)
    yield Check(group="devices", name="memory", found=gb(memory) if memory else "unknown", facts=facts)


def _torch_threads() -> int | None:
    try:
        import torch
    except Exception:  # a torch that cannot be imported is reported by its own check
        return None
    return int(torch.get_num_threads())


def memory_bytes() -> int | None:
    """Main memory that this process may use: the machine's, or its container's if that is less."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not POSIX
        try:
            import psutil
        except ImportError:
            return None
        return int(psutil.virtual_memory().total)
    limits = []
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return min([total, *limits])


def _gpus() -> Iterator[Check]:
    try:
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    except Exception:
        return
    if not count:
        if shutil.which("nvidia-smi"):
            remedy = "pip install -r requirements/cuda.txt"
            found = (
                f"nvidia-smi is here, but torch {torch.__version__} sees no GPU; its CUDA build is missing or too new"
            )
            yield Check(group="devices", name="gpu", found=found, state=NOTE, remedy=remedy, facts={"count": 0})
        else:
            yield Check(group="devices", name="gpu", found="none; runs go to the CPU", facts={"count": 0})
    for number in range(count):
        properties = torch.cuda.get_device_properties(number)
        bf16 = properties.major >= 8
        free, total = torch.cuda.mem_get_info(number)
        said = f"{properties.name}, {gb(total)} ({gb(free)} free), {'bf16' if bf16 else 'fp16, no bf16'}"
        facts = {"count": count, "name": properties.name, "memory_bytes": total, "free_bytes": free, "bf16": bf16}
        yield Check(group="devices", name=f"gpu {number}", found=said, facts=facts)


def _disk(results: Path, *, data: Path | None) -> Iterator[Check]:
    places = {"results": results, "hub cache": _hub_cache()} | ({"data": data} if data is not None else {})
    for name, place in places.items():
        there = next((p for p in (place.absolute(), *place.absolute().parents) if p.exists()), None)
        if there is None:
            continue
        free, writable = shutil.disk_usage(there).free, os.access(there, os.W_OK)
        facts = {"path": str(place), "free_bytes": free, "writable": writable}
        if writable:
            yield Check(group="disk", name=name, found=f"{gb(free)} free at {place}", facts=facts)
        else:
            remedy = {"results": "choose another --results", "data": "`calot data store ROOT --cache FOLDER`"}.get(name)
            state = PROBLEM if name == "results" else NOTE
            found = f"{place} cannot be written"
            yield Check(group="disk", name=name, found=found, state=state, remedy=remedy or "", facts=facts)


def _hub_cache() -> Path:
    """Where the hub's client keeps its downloads, found without importing it."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def gb(count: float) -> str:
    """Bytes for people."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size / 10:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"
