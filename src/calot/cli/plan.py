"""`calot train --plan`, printed."""

from __future__ import annotations

import json as json_module
from dataclasses import replace
from typing import TYPE_CHECKING

from calot.errors import CalotError

if TYPE_CHECKING:
    from calot.run.plan import Plan
    from calot.run.request import Request


def require_together(
    *, plan: bool, plan_for: str | None, dry_run: bool, price_per_hour: float | None, json: bool
) -> None:
    """Raises CalotError for options of `calot train` that say nothing without each other."""
    only_asked = dry_run or plan_for is not None
    if (json or price_per_hour is not None) and not only_asked:
        raise CalotError("--json and --price-per-hour go with --dry-run or --for: a run prints its progress and report")
    if plan_for is not None and (dry_run or not plan):
        raise CalotError("--for goes with --plan, and not with --dry-run, which measures this machine")
    if json and plan and dry_run:
        raise CalotError("--json prints one thing: --dry-run --json, or --plan --for DEVICE --json")
    if price_per_hour is not None and not 0 <= price_per_hour < float("inf"):
        raise CalotError(f"--price-per-hour {price_per_hour}: expected what an hour costs, 0 or more")


def planned(asked: list[Request]) -> list[Request]:
    """The same runs as this machine does them best; each experiment's plan is printed once."""
    from calot.progress import Ui
    from calot.run.plan import plan, this_device

    device = this_device(asked[0].experiment)
    known: list[tuple[Request, Plan]] = []
    found = []
    for request in asked:
        own = next((p for other, p in known if other.experiment == request.experiment), None)
        if own is None:
            own = plan(request, device, ui=Ui())
            known.append((request, own))
            _show(own, price_per_hour=None)
        found.append(replace(request, experiment=own.applied(request.experiment)))
    return found


def show_plans(asked: list[Request], *, device: str, price_per_hour: float | None, json: bool) -> None:
    """What each experiment would need on a device that is known by name; nothing is trained."""
    from calot.progress import Ui
    from calot.run.plan import device_named, plan

    wanted = device_named(device)
    one_each = [r for i, r in enumerate(asked) if r.experiment not in [other.experiment for other in asked[:i]]]
    plans = [plan(request, wanted, ui=Ui()) for request in one_each]
    if json:
        print(json_module.dumps([p.to_dict(price_per_hour=price_per_hour) for p in plans], indent=1, allow_nan=False))
        return
    for found in plans:
        _show(found, price_per_hour=price_per_hour)
    print("\nA plan for another device: nothing was trained.")


def _show(found: Plan, *, price_per_hour: float | None) -> None:
    from calot.cli.dry_run import time_text
    from calot.run.machine import gb
    from calot.run.plan import SHARE, USABLE

    device = found.device
    print(
        f"\n{found.experiment} on {device.name}: {gb(device.memory)}, {device.precision}, {device.tflops:.3g} TFLOP/s "
        f"({device.source})"
    )
    for number, stage in enumerate(found.stages, start=1):
        again = ", layers computed again for the gradient" if stage.checkpointing else ""
        part = f"stage {number}      " if len(found.stages) > 1 else "clips        "
        print(
            f"  {part}{stage.batch} a step: {stage.passes} x {stage.micro_batch} at a time{again}; "
            f"{gb(stage.memory)} of the {USABLE:.0%} of memory that a plan fills"
        )
        size = f", {gb(stage.features_bytes)} on the disk" if stage.features_bytes else ""
        print(f"  features     {stage.features}{size}")
    print(f"  frame store  {gb(found.store_bytes)}, {found.store_place}")
    paid = "" if price_per_hour is None else f"; cost {price_per_hour * found.hours:.2f}"
    total = sum(s.tflop for s in found.stages)
    print(
        f"  work         {total:,.0f} TFLOP, at most {time_text(found.hours)} at {SHARE:.0%} of that rate, which is "
        f"assumed: --dry-run measures{paid}"
    )
