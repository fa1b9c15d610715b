"""What may be said about two treatments of a study: every rule of its document, in one place.

1. A run whose receipt has a failed check is left out and named; a side of which none is left is invalid.
2. A side without a finished run is *not run*; seeds that are missing are named.
3. Runs scored on other frames, or under another protocol, are refused, never compared.
4. A difference is called where its 95 % interval leaves 0 out, and the permutation test (where its own false rate
   holds) agrees; where it is called, the words are *better* or *worse*.
5. Where the interval lies within the smallest effect of interest on both sides of 0, the two differ by less than that.
6. Everything else is *no evidence of a difference*: never "the same". What the design could find stands beside it.
7. With fewer than five seeds on a side, the words are about these checkpoints, not about the treatment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from calot.errors import CalotError
from calot.provenance.treatment import Treatment, weakest
from calot.statistics.compare import Comparison, compare
from calot.statistics.outcome import PairedDifference, outcome_of
from calot.statistics.predictions import Predictions

Kind = Literal["better", "worse", "within", "no evidence", "undefined", "invalid", "not run"]

_KINDS: Mapping[str, Kind] = {
    "higher": "better",
    "lower": "worse",
    "equivalent": "within",
    "undecided": "no evidence",
    "disagree": "no evidence",
    "undefined": "undefined",
    "invalid": "invalid",
}
_CALLED: Mapping[Kind, str] = {
    "better": "better",
    "worse": "worse",
    "within": "differs by less than {effect:g} points",
    "no evidence": "no evidence of a difference",
    "undefined": "undefined",
    "invalid": "INVALID",
    "not run": "not run",
}


@dataclass(frozen=True, kw_only=True)
class RunOfSide:
    """A finished run: its predictions, and what its receipt proves."""

    seed: int
    table: Predictions
    treatment: Treatment


@dataclass(frozen=True, kw_only=True)
class SideOfStudy:
    """An experiment's finished runs by seed; `missing` names runs that were asked for and are not finished."""

    name: str
    runs: Sequence[RunOfSide] = ()
    missing: Sequence[str] = ()

    @property
    def sound(self) -> list[RunOfSide]:
        """Those whose receipt did not fail."""
        return [run for run in self.runs if not run.treatment.invalid]

    @property
    def failed(self) -> list[RunOfSide]:
        """Those that are left out."""
        return [run for run in self.runs if run.treatment.invalid]

    @property
    def treatment(self) -> Treatment:
        """What can be said of the runs that count: of all of them where none is left."""
        counted = self.sound or self.runs
        if not counted:
            return Treatment(status="unverified", why="no finished run")
        return weakest({f"seed {run.seed}": run.treatment for run in counted})

    def notes(self) -> list[str]:
        """Which seeds are left out and why, and which are missing."""
        found = [f"{self.name} seed {run.seed} left out: {run.treatment.why}" for run in self.failed]
        return [*found, *([f"{self.name}: {', '.join(self.missing)} not finished"] if self.missing else [])]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is said about a minus b; `comparison` None where there are no numbers, and `why` then says why."""

    a: str
    b: str
    kind: Kind
    words: str
    comparison: Comparison | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def called(self) -> str:
        """The verdict in a word or a few, for a table."""
        return called(self.kind, comparison=self.comparison)


def called(kind: Kind, *, comparison: Comparison | None) -> str:
    """`better`, `no evidence of a difference`, ...: with `, these checkpoints` where it is about these."""
    effect = 2.0 if comparison is None else 100 * comparison.smallest_effect
    words = _CALLED[kind].format(effect=effect)
    about = "" if comparison is None or kind in ("invalid", "undefined") else comparison.about
    return f"{words} (these checkpoints)" if about == "these checkpoints" else words


def decide(a: SideOfStudy, b: SideOfStudy, *, smallest_effect: float = 0.02) -> Decision:
    """Hold a against b by the rules above. Raises CalotError where they were scored on other frames or protocols."""
    notes = (*a.notes(), *b.notes())
    for side in (a, b):
        if not side.runs:
            why = f"not run: {side.name} has no finished run"
            return Decision(a=a.name, b=b.name, kind="not run", words=f"{why}.", notes=notes)
    for side in (a, b):
        if not side.sound:
            why = f"INVALID: {side.name}: {side.treatment.why}"
            return Decision(a=a.name, b=b.name, kind="invalid", words=f"{why}.", notes=notes)
    found = compare(
        [run.table for run in a.sound],
        [run.table for run in b.sound],
        names=(a.name, b.name),
        treatments=(a.treatment, b.treatment),
        smallest_effect=smallest_effect,
    )
    kind = _KINDS[found.outcome]
    return Decision(a=a.name, b=b.name, kind=kind, words=found.verdict, comparison=found, notes=notes)


def kind_of(difference: PairedDifference, *, smallest_effect: float = 0.02) -> Kind:
    """The same rules for one criterion's difference of AP."""
    return _KINDS[outcome_of(difference, smallest_effect=smallest_effect)]


def require_one_protocol(frames: Mapping[str, tuple[str | None, str | None]]) -> None:
    """`frames`: by run, the manifest's hash and the protocol it was scored under. Raises CalotError for a mixture."""
    seen: dict[tuple[str | None, str | None], list[str]] = {}
    for run, scored in frames.items():
        seen.setdefault(scored, []).append(run)
    if len(seen) > 1:
        said = "; ".join(
            f"{protocol} on manifest {str(manifest)[:12]}: {_few(runs)}" for (manifest, protocol), runs in seen.items()
        )
        raise CalotError(
            f"these runs were scored on {len(seen)} different sets of frames ({said}): one document may not hold "
            "them together; move those of the other protocol to a folder of their own"
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
