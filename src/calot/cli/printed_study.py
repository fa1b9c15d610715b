"""A study's plan and its result, printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from calot.cli.dry_run import time_text
from calot.cli.printed import points, table_of_columns
from calot.terminal import print_table

if TYPE_CHECKING:
    from calot.studying.cost import StudyPlan
    from calot.studying.outcome import ExperimentRow


def print_plan(plan: StudyPlan) -> None:
    """One line per experiment, in seconds at most, and the sum."""
    table = table_of_columns("experiment", "runs", "steps", "s/step", "train", "score", "once", "all")
    for row in plan.experiments:
        once = row.features_s + row.receipt_s
        cells = [f"{value:.0f}" for value in (row.training_s, row.evaluation_s, once, row.seconds)]
        table.add_row(row.experiment, str(row.runs), str(row.steps), f"{row.step_s:.3f}", *cells)
    print_table(table)
    runs = sum(row.runs for row in plan.experiments)
    print(
        f"\n{runs} runs, {time_text(plan.seconds / 3600)} of work at most, {time_text(plan.wall_s / 3600)} on "
        f"{plan.workers} worker{'' if plan.workers == 1 else 's'}. train, score: seconds of one run; once: "
        "features and the checks that seeds share. Patience may end runs sooner. No run was begun."
    )


def print_study(rows: Sequence[ExperimentRow], *, costs: Mapping[str, Any], plan: Mapping[str, Any] | None) -> None:
    """One line per experiment, then each against its baseline, then where the time went."""
    table = table_of_columns("experiment", "seeds", "val mAP", "95 % interval", "spread", "receipts", "s")
    for row in rows:
        if row.treatment.invalid:
            scores = ["–", "–", "–"]
        else:
            spread = "–" if row.seed_deviation is None else points(row.seed_deviation)
            scores = [points(row.map["value"]) if row.seeds else "–", _interval(row.map), spread]
        table.add_row(row.experiment, str(len(row.seeds)), *scores, row.treatment.status, f"{row.seconds:.0f}")
    print_table(table)
    print()
    for row in rows:
        if row.against is not None:
            print(f"{row.experiment}: {row.against.verdict}")
        elif row.baseline is not None:
            print(f"{row.experiment}: not compared: {row.refusal}")
    shares = sorted(costs["shares"].items(), key=lambda item: -item[1])
    said = ", ".join(f"{part} {100 * share:.0f} %" for part, share in shares if share >= 0.005)
    print(f"\nTime of all runs together: {time_text(costs['total_s'] / 3600)}: {said}.")
    print(f"Evaluation, receipts, start-up and saving: {100 * costs['overhead']:.0f} %.")
    if plan is not None:
        print(f"Planned at most: {time_text(plan['seconds'] / 3600)}.")


def _interval(item: Mapping[str, Any]) -> str:
    return "–" if item.get("low") is None else f"{points(item['low'])} to {points(item['high'])}"
