"""One measured figure of a phantom and the band that it must lie in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AuditRow:
    """One measured figure, its target, the band it must lie in (`low` or `high` None where open, both for none), and
    its 95 % interval over videos where there is one."""

    name: str
    value: float
    target: float | None = None
    low: float | None = None
    high: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the value lies in its band; None where there is none."""
        if self.low is None and self.high is None:
            return None
        low, high = self.low if self.low is not None else -math.inf, self.high if self.high is not None else math.inf
        return low <= self.value <= high

    def to_dict(self) -> dict[str, Any]:
        """JSON values; an undefined figure is null."""
        value = self.value if math.isfinite(self.value) else None
        found = {
            "name": self.name, "value": value, "target": self.target,
            "low": self.low, "high": self.high, "passed": self.passed,
        }  # fmt: skip
        return found if self.interval is None else found | {"interval": list(self.interval)}
