"""What a receipt says about a result: that its treatment is verified, unverified, or that the result is invalid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from calot.provenance.combination import Combination, MemberRun
from calot.provenance.receipt import CHECKS, Receipt, failures
from calot.statistics.schema import UNKNOWN

Proof = Literal["invalid", "unverified", "verified"]

#: From the worst to the best.
_ORDER: tuple[Proof, ...] = ("invalid", "unverified", "verified")


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """Whether a run, or a side of several, was treated as declared; `why` is empty where every check holds.

    `invalid`: a check failed, and there is no result to show. `unverified`: nothing was disproved, but not everything
    was proven either; the numbers stand, with this stamp.
    """

    status: Proof
    why: str = ""

    @property
    def invalid(self) -> bool:
        return self.status == "invalid"

    @property
    def stamp(self) -> str:
        """The words shown beside a number, or in its place; empty where every check holds."""
        lead = {"verified": "", "unverified": "treatment unverified: ", "invalid": "INVALID: "}[self.status]
        return lead + self.why


NO_RECEIPT = Treatment(status="unverified", why="no receipt")


def treatment_of(
    receipt: Receipt | None, *, fingerprint: str = UNKNOWN, combination: Combination | None = None
) -> Treatment:
    """What a receipt says of predictions with this fingerprint; a receipt of another experiment proves nothing.

    A mean of several predictions has no receipt of its own: it is proven where every member is.
    """
    if combination is not None:
        return weakest({str(m): _of_member(m) for m in combination.members})
    if receipt is None:
        return NO_RECEIPT
    if UNKNOWN != fingerprint != receipt.fingerprint:
        why = f"the receipt is of another experiment ({receipt.fingerprint[:12]}, here {fingerprint[:12]})"
        return Treatment(status="unverified", why=why)
    if receipt.failed:
        return Treatment(status="invalid", why=failures(receipt.checks))
    if receipt.old:
        return Treatment(status="unverified", why="the receipt is of an older calot, whose checks proved less")
    made = {c.name for c in receipt.checks if c.status != "pending"}
    missing = [name for name in CHECKS if name not in made]
    if missing:
        return Treatment(status="unverified", why=f"receipt check {', '.join(missing)} not made")
    return Treatment(status="verified")


def _of_member(member: MemberRun) -> Treatment:
    return Treatment(status="unverified" if member.unproven else "verified", why=member.unproven)


def weakest(runs: Mapping[str, Treatment]) -> Treatment:
    """What can be said about several runs together, by name: one failed check makes all of it invalid."""
    status = min((t.status for t in runs.values()), key=_ORDER.index)
    named: dict[str, list[str]] = {}
    for name, treatment in runs.items():
        if treatment.status == status and treatment.why:
            named.setdefault(treatment.why, []).append(name)
    said = [
        why if status == "unverified" and len(names) == len(runs) else f"{why} in {', '.join(names)}"
        for why, names in named.items()
    ]
    return Treatment(status=status, why="; ".join(said))
