"""The trivial baselines beside a result, as text narrow enough for 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calot.terminal import print_table

if TYPE_CHECKING:
    from calot.statistics.intervals import Interval
    from calot.statistics.outcome import PairedDifference
    from calot.statistics.trivial import BesideTrivial, TrivialTables


def print_trivial(found: BesideTrivial) -> None:
    """Each baseline on the same clips, the result minus it, and one sentence."""
    if not found.baselines:
        print(f"\nTrivial baselines: {found.reason}.")
        return
    print("\nTrivial baselines on the same clips, fitted on train:")
    table = _table("", "mAP", "95 % over videos", "result minus it", "95 %, paired")
    for one in found.baselines:
        apart = found.differences[one.name]
        table.add_row(one.title, *_interval(one.intervals.map), *_interval(apart, sign="+"))
    print_table(table)
    print(f"{found.verdict()} {found.held()}".rstrip())


def print_baselines(found: TrivialTables) -> None:
    """The same before there is a result."""
    from calot.criteria import CRITERIA, label

    print(f"Trivial baselines on {found.split}, protocol {found.protocol}, manifest {found.manifest_hash[:12]}")
    if found.undefined:
        print(f"Undefined: {found.undefined}")
        return
    print(f"Fitted on {found.clips} clips of {found.videos} videos of train")
    table = _table("", "mAP", "95 % over videos", *(f"AP {label(name).split()[0]}" for name in CRITERIA))
    for one in found.baselines:
        ap = (_interval(one.intervals.ap[name])[0] for name in CRITERIA)
        table.add_row(one.title, *_interval(one.intervals.map), *ap)
    print_table(table)
    for reason in dict.fromkeys(one.intervals.map.reason for one in found.baselines if one.intervals.map.reason):
        print(f"No interval or no value of mAP: {reason}")


def _interval(item: Interval | PairedDifference, *, sign: str = "") -> tuple[str, str]:
    """A value and its ends in points; `sign` is "+" for a difference."""
    if item.value is None:
        return "undefined", "undefined"
    value = f"{100 * item.value:{sign}.2f}"
    if item.low is None or item.high is None:
        return value, "undefined"
    return value, f"{100 * item.low:{sign}.1f} to {100 * item.high:{sign}.1f}"


def _table(*headings: str) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table
