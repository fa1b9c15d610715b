"""What was seen in the run, epoch by epoch, as small charts: each reading's mean in the band that settings declare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from calot.provenance.evidence import ObservedEvidence, ObservedReading
from calot.provenance.receipt import Receipt

_WIDTH, _HEIGHT, _EDGE = 150.0, 44.0, 4.0


@dataclass(frozen=True, kw_only=True)
class Small:
    """One small chart, its title and what it says in words."""

    title: str
    said: str
    met: bool
    drawing: Markup


def small_charts(receipt: Receipt | None) -> Sequence[Small]:
    """A chart for each reading that was seen in the run, those outside their band first; none without the check."""
    check = None if receipt is None else next((c for c in receipt.checks if c.name == "observed"), None)
    if check is None or not isinstance(check.evidence, ObservedEvidence):
        return ()
    readings = check.evidence.readings
    several = len({r.stage for r in readings}) > 1
    ordered = sorted(readings, key=lambda r: r.met)
    return tuple(
        Small(
            title=f"stage {r.stage}: {r.name}" if several else r.name,
            said=_said(r),
            met=r.met,
            drawing=_drawn(r),
        )
        for r in ordered
    )


def _said(reading: ObservedReading) -> str:
    if not reading.count:
        return "never seen"
    top = "" if reading.high >= 1e9 else f" to {reading.high:.3g}"
    band = f"{reading.low:.3g}{top}" if top else f"at least {reading.low:.3g}"
    return f"{reading.value:.3g}, the mean of {reading.count:,} (declared {band})"


def _drawn(reading: ObservedReading) -> Markup:
    """Dots by epoch, joined; the band behind them. The scale holds both, but for a band without an upper end."""
    values = [v for v in reading.by_epoch if v is not None] or [reading.value]
    ends = [reading.low, reading.high] if reading.high < 1e9 else [reading.low]
    low, high = min(*values, *ends), max(*values, *ends)
    span = high - low or 1.0
    count = max(1, len(reading.by_epoch) - 1)

    def y(value: float) -> float:
        return _HEIGHT - _EDGE - (min(max(value, low), high) - low) / span * (_HEIGHT - 2 * _EDGE)

    def x(place: int) -> float:
        return _EDGE + place / count * (_WIDTH - 2 * _EDGE)

    top, bottom = y(min(reading.high, high)), y(reading.low)
    points = [(x(i), y(v)) for i, v in enumerate(reading.by_epoch) if v is not None]
    colour = "accent" if reading.met else "warn"
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2" fill="var(--{colour})"/>' for a, b in points)
    return Markup(
        f'<svg class="small" role="img" aria-label="{{}}" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}">'
        f'<rect x="0" y="{top:.1f}" width="{_WIDTH:g}" height="{max(1.5, bottom - top):.1f}" fill="var(--band)"/>'
        f'<polyline points="{line}" fill="none" stroke="var(--{colour})" stroke-width="1.2"/>{dots}</svg>'
    ).format(f"{reading.name} by epoch: {_said(reading)}")
