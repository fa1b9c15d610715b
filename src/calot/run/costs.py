"""What experiments cost beside their baselines: parameters at full scale, a forward pass and a training step here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from calot.experiments import Found, find, resolve_found
from calot.progress import Ui
from calot.run.build import parameter_counts
from calot.run.estimate import dry_run
from calot.run.request import Request

#: Each is measured this often, in turn with its baseline; the least is kept.
ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Milliseconds per clip of an experiment's first stage at a scale; `parameters` are the whole model's and what
    trains in its first stage, at full scale."""

    name: str
    baseline: str | None
    parameters: int
    trainable: int
    forward_ms: float
    step_ms: float
    baseline_forward_ms: float | None = None
    baseline_step_ms: float | None = None


def costs(names: Sequence[str], *, data: Path, scale: str, ui: Ui) -> list[Cost]:
    """Measure each experiment and its baseline in turn on a few real clips; nothing is kept."""
    found = []
    with ui.task("costs") as advance, TemporaryDirectory() as scratch:
        for done, name in enumerate(names):
            found.append(_cost(find(name), data=data, scale=scale, scratch=Path(scratch)))
            advance(done + 1, len(names))
    return found


def _cost(found: Found, *, data: Path, scale: str, scratch: Path) -> Cost:
    experiment = resolve_found(found, scale=scale).experiment
    asked = Request(
        found=found,
        experiment=experiment,
        scale=scale,
        data=data,
        folder=scratch / experiment.name,
        seed=0,
        results=scratch,
    )
    sides = [asked, *([] if asked.baseline is None else [replace(asked, experiment=asked.baseline)])]
    times = [_measured(side) for _ in range(ROUNDS) for side in sides]
    least = [[min(t[i] for t in times[side :: len(sides)]) for i in (0, 1)] for side in range(len(sides))]
    full = parameter_counts(found.experiment)
    return Cost(
        name=experiment.name,
        baseline=experiment.baseline,
        parameters=full["total"],
        trainable=full["trainable"],
        forward_ms=least[0][0],
        step_ms=least[0][1],
        baseline_forward_ms=least[1][0] if len(sides) > 1 else None,
        baseline_step_ms=least[1][1] if len(sides) > 1 else None,
    )


def _measured(asked: Request) -> tuple[float, float]:
    """Milliseconds per clip: forward in evaluation, and a step of the first stage."""
    first = dry_run(asked, ui=Ui()).stages[0]
    return 1000 * first.evaluation_s / first.evaluation_clips, 1000 * first.step_s / first.batch
