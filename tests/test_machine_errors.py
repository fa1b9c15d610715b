"""What the machine refuses is said with a remedy, in a real process where one can be made to run out."""

import errno
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from calot.machine_errors import machine_message

SAID = {
    "memory": (MemoryError(), r"out of memory \(MemoryError\).*compute\.micro_batch"),
    "numpy": (MemoryError("Unable to allocate 12.0 GiB for an array"), "out of memory .Unable to allocate 12.0 GiB"),
    "torch": (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
    "cuda": (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
    "import": (ImportError("libx.so: failed to map segment from shared object"), "out of memory"),
    "fork": (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "out of memory"),
    "thread": (RuntimeError("can't start new thread"), "cannot start another thread or process.*--workers"),
    "process": (
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        "cannot start another thread or process",
    ),
    "nested": (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
    "files": (OSError(errno.EMFILE, "Too many open files", "a.jpg"), "a.jpg: Too many open files.*ulimit -n"),
    "device": (OSError(errno.EIO, "Input/output error", "a.jpg"), "a.jpg: Input/output error. The device failed"),
    "full": (OSError(errno.ENOSPC, "No space left on device", "x"), "x: the disk is full"),
    "read-only": (OSError(errno.EROFS, "Read-only file system", "x"), "x: Read-only file system"),
    "denied": (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied"),
    "gone": (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), "x: No such file or directory. Check"),
    "long": (OSError(errno.ENAMETOOLONG, "File name too long", "xxx"), "File name too long. Give a shorter name"),
    "rust": (Exception("IO error: No space left on device (os error 28)"), "the disk is full"),
}


@pytest.mark.parametrize("name", SAID)
def test_each_refusal_has_a_remedy(name: str) -> None:
    error, said = SAID[name]
    message = machine_message(error)
    assert message is not None
    assert message.endswith(".")
    assert re.search(said, message), message


OTHERS = [ValueError("no"), KeyError("memory"), AssertionError(), OSError("odd"), ImportError("x")]


@pytest.mark.parametrize("error", OTHERS)
def test_what_the_machine_is_not_to_blame_for_is_left_alone(error: Exception) -> None:
    assert machine_message(error) is None


def ended(*words: str, before: str = "", **limits: int) -> subprocess.CompletedProcess[str]:
    """The command line in a process with limits of its own, after some code."""

    def limit() -> None:
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))

    code = f"import sys; from calot.cli.main import main; sys.argv = ['calot', *{words}]\n{before}\nmain()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, preexec_fn=limit)


linux = pytest.mark.skipif(sys.platform != "linux", reason="limits are held on Linux")


@linux
@pytest.mark.parametrize("gigabytes", [0.3, 1.5])
def test_too_few_addresses_end_with_2_before_a_library_hangs_or_ends_with_1(tmp_path: Path, gigabytes: float) -> None:
    done = ended("data", "verify", str(tmp_path), RLIMIT_AS=int(gigabytes * 1e9))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"this process may use {gigabytes:.1f} GB of address space (ulimit -v), too little" in done.stderr


@linux
def test_memory_that_runs_out_in_a_command_ends_with_2_and_names_the_limit(tmp_path: Path) -> None:
    """`data verify` reads a table larger than what is left."""
    with (tmp_path / "all_metadata.csv").open("wb") as file:
        file.truncate(1_900_000_000)
    done = ended("data", "verify", str(tmp_path), RLIMIT_AS=2_000_000_000)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "out of memory (MemoryError); the limit here is 2.0 GB (ulimit -v). In training lower" in done.stderr


@linux
def test_too_many_open_files_are_no_finding_and_said_with_the_limit_to_raise(tmp_path: Path) -> None:
    (tmp_path / "all_metadata.csv").write_text("vid\n")
    hold = """
import os, calot.data.verify, calot.data.verify.table as table
read = table.read_plain
def exhausted(*args, **named):
    held = []
    try:
        while True:
            held.append(os.open(os.devnull, 0))
    except OSError:
        return read(*args, **named)
    finally:
        for handle in held:
            os.close(handle)
table.read_plain = exhausted
"""
    done = ended("data", "verify", str(tmp_path), before=hold, RLIMIT_NOFILE=300)
    assert done.returncode == 2, done.stderr
    assert "all_metadata.csv: Too many open files. This process may open no more files: raise the limit" in done.stderr
