"""`calot train --dry-run`, printed."""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calot.run.estimate import RunCost
    from calot.run.request import Request


def show_dry_run(asked: list[Request], *, price_per_hour: float | None, json: bool, again: tuple[object, ...]) -> None:
    """Measure each experiment once, whatever its seeds, and print what all runs together would take.

    `again` holds the words of the same command without the dry run.
    """
    from calot.cli.next_step import say_next
    from calot.progress import Ui
    from calot.run.estimate import dry_run

    alike: list[list[Request]] = []
    for request in asked:
        known = next((others for others in alike if others[0].experiment == request.experiment), None)
        if known is None:
            alike.append([request])
        else:
            known.append(request)
    costs = [(dry_run(requests[0], ui=Ui()), len(requests)) for requests in alike]
    rows = [cost.to_dict(runs=runs, price_per_hour=price_per_hour) for cost, runs in costs]
    if json:
        print(json_module.dumps(rows, indent=1, allow_nan=False))
        return
    for (cost, runs), row in zip(costs, rows, strict=True):
        _show(cost, runs=runs, cost_all=row["cost"], hours_all=row["hours"])
    print("\nNo run folder and no frame store were written.")
    say_next(*again)


def _show(cost: RunCost, *, runs: int, cost_all: float | None, hours_all: float) -> None:
    from calot.run.machine import gb

    print(f"\n{cost.experiment}, {cost.device}, {cost.precision}; weights: {cost.weights}")
    print(f"  parameters   {cost.parameters:,}, {' then '.join(f'{s.trainable:,}' for s in cost.stages)} trainable")
    print(f"  clips        train {cost.clips['train']:,}, val {cost.clips['val']:,}")
    for stage in cost.stages:
        note = "" if stage.clips_measured == stage.batch else f", measured on {stage.clips_measured} clips and scaled"
        print(
            f"  stage        {stage.epochs} epochs x {stage.steps_per_epoch:,} steps x {stage.step_s:.3g} s "
            f"(batch {stage.batch}{note}), evaluation {stage.scored} x {stage.evaluation_s:.3g} s: "
            f"at most {time_text(stage.hours)}"
        )
    kind = "on the GPU" if cost.memory == "gpu" else "of the process"
    print(f"  memory       {gb(cost.memory_bytes)} {kind} at its peak, with {cost.memory_clips} clips at a time")
    disk = cost.disk
    print(
        f"  disk         frame store {gb(disk.frame_store)} to build, checkpoints {gb(disk.checkpoints)} at most, "
        f"predictions {gb(disk.predictions)}"
    )
    store = f", frame store once {time_text(cost.store_hours)}" if cost.store_hours else ""
    each = f"{runs} runs of {time_text(cost.hours)}" if runs > 1 else "one run"
    paid = "" if cost_all is None else f"; cost {cost_all:.2f}"
    print(f"  in total     {time_text(hours_all)} at most ({each}{store}){paid}")


def time_text(hours: float) -> str:
    """Hours as a person says them."""
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours >= 1 / 60 else f"{hours * 3600:.2g} s"
