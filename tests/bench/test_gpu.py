"""The benches of steps, start and devices, small: exact where they should be, and a planted fault is caught."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from command_line import calot

from calot.bench import start as start_module
from calot.bench.gpu import SHARES, TOLERANCES, bench_gpu
from calot.bench.start import bench_start
from calot.bench.train import bench_train
from calot.models.backbones.view import View
from calot.train.optim import Schedule

SMALL = {"width": 64, "layers": 2, "heads": 1}


@pytest.mark.slow
def test_a_step_is_that_of_transformers_and_peft(phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same losses and the same adapters; a pixel or a rate that is another shows."""
    assert bench_train(data=phantom, sizes=SMALL, repeats=1).exact
    apply, normalise = Schedule.apply, View.normalise
    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "apply", lambda self, optimiser, step: apply(self, optimiser, step=step + 1))
        outcome = bench_train(data=phantom, sizes=SMALL, repeats=1)
    assert [check.exact for check in outcome.checks] == [True, False] or not outcome.checks[0].exact
    assert outcome.ratio is None
    monkeypatch.setattr(View, "normalise", lambda self, video, **named: normalise(self, video, **named).add_(1e-2))
    assert not bench_train(data=phantom, sizes=SMALL, repeats=1).exact


@pytest.mark.parametrize("part", SHARES)
def test_each_part_is_exact_on_a_cpu_and_says_what_it_reached(part: str, tmp_path: Path) -> None:
    done = calot("bench", "gpu", "--part", part, "--device", "cpu", "--quick", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    (check,) = found["exactness"]["checks"]
    assert 0 < check["largest_difference"] < 1e-5, "another precision, the same thing"
    settings = found["settings"]
    assert settings["tflops"] == pytest.approx(settings["tflop"] / found["ours_s"])
    assert settings["clips_per_s"] == pytest.approx(settings["clips"] / found["ours_s"])
    assert settings["peak_mb"] > 0
    assert found["target"] == 0, "nothing is asked of a CPU"
    assert found["ratio"] > 0


def test_half_precision_is_near_float32() -> None:
    """In a process of its own: accelerate fixes the precision of a process."""
    program = "import json; from calot.bench.gpu import *; " + (
        "print(json.dumps([[c.difference for c in bench_gpu(part=p, device='cpu', precision='bf16', clips=2, "
        "repeats=1).checks] for p in SHARES]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for (apart,), part in zip(json.loads(done.stdout.splitlines()[-1]), SHARES, strict=True):
        assert 1e-5 < apart < TOLERANCES["bf16"], part


def test_a_precision_that_nobody_asked_for_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accelerator, "autocast", lambda self: torch.autocast("cpu", torch.bfloat16))
    for part in SHARES:
        outcome = bench_gpu(part=part, device="cpu", clips=2, repeats=1)  # type: ignore[arg-type]
        assert not outcome.exact, part
        assert outcome.ours is None


def test_flop_of_a_forward_pass_are_counted_by_clip_and_more_where_more_is_done() -> None:
    flop = {
        part: bench_gpu(part=part, device="cpu", clips=2, repeats=1).contest.settings["tflop"]  # type: ignore[arg-type]
        for part in SHARES
    }
    assert flop["head"] < flop["forward"] < flop["entropy"] < flop["lora"]
    assert flop["forward"] < flop["lora-18-23"] < flop["lora"]
    twice = bench_gpu(part="forward", device="cpu", clips=4, repeats=1).contest.settings["tflop"]
    assert twice == pytest.approx(2 * flop["forward"])


@pytest.mark.parametrize("words", [("--part", "heads"), ("--device", "gpu"), ("--precision", "fp8")])
def test_an_unknown_choice_is_refused_with_the_known_ones(words: tuple[str, str], tmp_path: Path) -> None:
    done = calot("bench", "gpu", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{' '.join(words)}: choose one of " in done.stderr


@pytest.mark.slow
def test_a_list_that_lacks_an_experiment_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench_start(repeats=1, first_step=False).exact
    monkeypatch.setattr(start_module, "names", lambda: ["e99_unheard_of"])
    outcome = bench_start(repeats=1, first_step=False)
    assert [check.difference for check in outcome.checks] == [1.0]
