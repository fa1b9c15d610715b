"""What a run was made with, so that it can be repeated: versions, machine, code."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import calot

_PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "numpy",
    "polars",
    "scikit-learn",
    "safetensors",
    "simplejpeg",
    "pillow",
)


def describe(*, precision: str, device: str, started: str) -> dict[str, Any]:
    """The contents of `environment.json`."""
    import torch

    return describe_without_model(started=started, packages=_PACKAGES) | {
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device.startswith("cuda") else None,
        "precision": precision,
    }


def describe_without_model(*, started: str, packages: Sequence[str] = ("numpy", "polars")) -> dict[str, Any]:
    """The same where nothing but tables was read: torch is never imported."""
    return {
        "command": command_line(),
        "started": started,
        "calot": calot.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "packages": {name: v for name in packages if (v := _version(name))},
        "code": code_hash(),
    }


def command_line() -> str:
    """The command as typed, with the program by its name alone; `python -m calot` is calot, too."""
    import shlex

    program = Path(sys.argv[0]).name
    return shlex.join(["calot" if program in ("", "__main__.py") else program, *sys.argv[1:]])


def code_hash(*, below: str = "") -> str:
    """SHA-256 over calot's own sources, names and contents: all of them, or those `below` a folder."""
    digest = hashlib.sha256()
    root = Path(calot.__file__).parent / below
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def processor_name() -> str:
    """The processor's name from its maker, where the system reports it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
