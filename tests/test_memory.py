"""Freed memory is kept: counted in page faults of a process of its own, since it changes the whole process."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")

_PROGRAM = """
import contextlib, os, resource
import numpy as np
from calot.memory import keep_freed_memory, memory_as_started

def faults():
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(100 << 20, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start

kept = keep_freed_memory()
faults()
with_kept = faults()
with memory_as_started():
    as_started = faults()
faults()
print(kept, with_kept, as_started, faults())
"""


def _run(**environment: str) -> list[str]:
    given = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    words = [sys.executable, "-c", _PROGRAM]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=given | environment)
    return done.stdout.split()


def test_blocks_are_reused_and_a_bench_can_do_without() -> None:
    kept, with_kept, as_started, again = _run()
    assert kept == "True"
    assert int(as_started) > 200  # at least one per huge page of 2 MiB, 25,600 per 4 KiB
    assert int(with_kept) < int(as_started) / 20
    assert int(again) < int(as_started) / 20


def test_a_setting_of_the_users_own_is_left_alone() -> None:
    kept, with_kept, as_started, _ = _run(MALLOC_MMAP_THRESHOLD_="131072")
    assert kept == "False"
    assert int(with_kept) > int(as_started) / 2
