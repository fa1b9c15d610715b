"""Numbers as they are shown: rounded, but never so that one beside 0 reads as 0."""

from __future__ import annotations

_MORE = 2


def rounded(value: float, *, digits: int, sign: bool = False) -> str:
    """`digits` decimals, and up to two more where the number would read as 0 and is not: a bound of +0.04 at one
    decimal is `+0.04`, as an interval from +0.0 would not say on which side of 0 it ends. No minus stands before 0."""
    shown = next((d for d in range(digits, digits + _MORE + 1) if round(value, d) != 0), digits)
    return f"{round(value, shown) + 0.0:{'+' if sign else ''}.{shown}f}"


def between(low: float, high: float, *, scale: float = 100, digits: int = 1, sign: bool = False) -> str:
    """`+0.04 to +1.2`: two bounds, by default shares as points."""
    return " to ".join(rounded(scale * bound, digits=digits, sign=sign) for bound in (low, high))


def how_many(count: int, noun: str) -> str:
    """`1 video`, `1,204 videos`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
