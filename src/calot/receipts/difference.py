"""Checks 1 and 5: each declared field acts, and the treatment switched off is the baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from calot.errors import CalotError
from calot.experiment import Experiment
from calot.provenance.evidence import Change, DifferenceEvidence, FieldEvidence, SwitchedOffEvidence, SwitchOff, Verdict
from calot.provenance.receipt import ReceiptCheck, Status
from calot.receipts.leaves import inner_fields
from calot.receipts.probe import FLOOR, Probe, ProbeData, acts, probe
from calot.receipts.reverting import Path, at, changes, reverted, with_fields
from calot.run.request import Request

#: Readings that a neutral adaptation may leave unchanged: an adapter starts as the identity, yet trains.
_FORWARD = ("data", "frames", "labels", "masks", "logits")


def declared_difference(
    experiment: Experiment, baseline: Experiment, *, request: Request, data: ProbeData
) -> tuple[ReceiptCheck, ReceiptCheck]:
    """Put each declared field back alone, and switch each declared component off; what changes is the evidence."""
    paths = changes(experiment, baseline)
    whole = probe(experiment, request=request, data=data)
    base = probe(baseline, request=request, data=data)
    fields = []
    for path in paths:
        value, together, seen = _put_back(experiment, baseline, path, among=paths, request=request, data=data)
        found = whole.changes(seen)
        fields.append(
            FieldEvidence(
                field=".".join(path),
                value=str(at(experiment, path)),
                against=str(at(baseline, path)),
                reverted_with=tuple(".".join(p) for p in together[1:]),
                changes=found,
                verdict=_verdict(path, found, sides=(experiment, value)),
            )
        )
        fields += _inside(experiment, baseline, path, request=request, data=data)
    inert = [f.field for f in fields if f.verdict == "inert"]
    negligible = [f"{f.field} is negligible ({f.share:.2g} of the whole)" for f in fields if f.verdict == "negligible"]
    idle = [f.field for f in fields if f.verdict == "not binding"]
    if inert or negligible:
        nothing = [f"{', '.join(inert)}: another value changes nothing"] if inert else []
        why = "; ".join(nothing + negligible)
    else:
        why = f"{len(fields)} declared field{'s' if len(fields) != 1 else ''}, each of which acts"
        why += f", but for {', '.join(idle)}: not binding at this length" if idle else ""
    first = ReceiptCheck(
        name="declared difference",
        status="failed" if inert or negligible else "passed",
        why=why,
        evidence=DifferenceEvidence(floor=FLOOR, fields=tuple(fields)),
    )

    @cache  # several fields of one component have the same neutral form
    def put_in(where: Path, value: Any) -> Probe:
        return probe(with_fields(baseline, {where: value}), request=request, data=data)

    off = [_off(experiment, baseline, path, base=base, put_in=put_in) for path in paths]
    return first, _switched_off(whole.changes(base), off)


def _put_back(
    experiment: Experiment, baseline: Experiment, path: Path, *, among: list[Path], request: Request, data: ProbeData
) -> tuple[Experiment, tuple[Path, ...], Probe]:
    """The experiment with one declared field put back, what went back with it, and its probe.

    What can be written but not built alone (all layers of an encoder of which some are kept) goes back with the other
    declared fields of its component.
    """
    value, together = reverted(experiment, baseline, path, among=among)
    try:
        return value, together, probe(value, request=request, data=data)
    except CalotError:
        beside = [p for p in among if p not in together and p[:-1] == path[:-1]]
        if not beside:
            raise
    together = (*together, *beside)
    value = with_fields(experiment, {p: at(baseline, p) for p in together})
    return value, together, probe(value, request=request, data=data)


def _inside(
    experiment: Experiment, baseline: Experiment, path: Path, *, request: Request, data: ProbeData
) -> Iterator[FieldEvidence]:
    """Every field of a component that the baseline lacks, against other values of its own, until one acts."""
    whole: Probe | None = None
    for inner in inner_fields(experiment, baseline, path):
        best: FieldEvidence | None = None
        for other, tried in inner.others:
            whole = whole or probe(experiment, request=request, data=data, short=True)
            try:
                found = whole.changes(probe(tried, request=request, data=data, short=True))
            except CalotError:  # a value that these clips do not admit, such as a crop larger than their frames
                continue
            acting: Verdict = "acts" if any(map(acts, found)) else "negligible" if found else "inert"
            tally = FieldEvidence(field=inner.path, value=inner.value, against=other, changes=found, verdict=acting)
            best = tally if best is None or tally.share > best.share else best
            if acting == "acts":
                break
        if best is not None:
            yield best


def _verdict(path: Path, changed: tuple[Change, ...], *, sides: tuple[Experiment, Experiment]) -> Verdict:
    """How a field came out. A patience that its stage could reach on neither side is not the experiment's fault: the
    run was shortened."""
    if any(map(acts, changed)):
        return "acts"
    if any(change.name.split()[0] != "steps" or change.share > 1e-6 for change in changed):
        return "negligible"
    binds = path[-1] != "patience" or any(at(side, path[:-1]).patience_binds for side in sides)
    return "inert" if binds else "not binding"


def _switched_off(changed: tuple[Change, ...], off: list[SwitchOff]) -> ReceiptCheck:
    wrong = [o.field for o in off if o.equal is False]
    tried = [o.field for o in off if o.equal is not None]
    acting = any(map(acts, changed))
    if not acting:
        why = "on a fixed batch nothing differs from the baseline"
    elif wrong:
        why = f"{', '.join(wrong)}: switched off it does not equal the baseline"
    elif tried:
        why = f"{', '.join(dict.fromkeys(tried))} switched off equals the baseline"
    else:
        why = "a change of architecture or of a setting: there is nothing to switch off"
    status: Status = "failed" if wrong or not acting else "passed" if tried else "not applicable"
    evidence = SwitchedOffEvidence(changes=changed, off=tuple(off))
    return ReceiptCheck(name="switched off", status=status, why=why, evidence=evidence)


def _off(
    experiment: Experiment, baseline: Experiment, path: Path, *, base: Probe, put_in: Callable[[Path, Any], Probe]
) -> SwitchOff:
    """The baseline with one declared component put in, in its neutral form; `put_in` probes it."""
    found = _neutral(experiment, baseline, path)
    field = ".".join(path)
    if found is None:
        return SwitchOff(field=field, equal=None, why="a change of architecture or a setting")
    names = [n for n in base.readings if "adaptation" not in found.where or n.startswith(_FORWARD)]

    def apart(other: Probe) -> list[str]:
        differing = base.differing(other)
        return [n for n in names if n in differing]

    if found.theirs is not None and apart(put_in(found.where, found.theirs)):
        return SwitchOff(field=field, equal=None, why="the baseline has it too, at another setting")
    try:
        other = put_in(found.where, found.mine)
    except (CalotError, ValueError, TypeError) as error:
        return SwitchOff(field=field, equal=None, why=f"it does not stand alone ({error})")
    wrong, exact = apart(other), all(base.distance(other, n) == 0.0 for n in names)
    return SwitchOff(field=field, equal=not wrong, bit_for_bit=exact, compared=tuple(names), apart=tuple(wrong))


@dataclass(frozen=True)
class _Neutral:
    """Where a component stands, it in its neutral form, and the baseline's component of the same kind in its own, where
    that is another value than the baseline's."""

    where: Path
    mine: Any
    theirs: Any | None


def _neutral(experiment: Experiment, baseline: Experiment, path: Path) -> _Neutral | None:
    """The deepest component on the path that knows its neutral form."""
    for depth in range(len(path), 0, -1):
        where = path[:depth]
        value, theirs = at(experiment, where), at(baseline, where)
        if isinstance(value, tuple) and value and all(hasattr(v, "neutral") for v in value):
            kinds = {type(v) for v in value if v not in theirs}
            if {type(v) for v in theirs} - {type(v) for v in value}:
                return None  # it lacks what the baseline has: there is nothing to switch off that would bring it back
            off = tuple(v.neutral() if type(v) in kinds else v for v in theirs)
            mine = tuple(v if v in theirs else v.neutral() for v in value)
            return _Neutral(where, mine, None if off == theirs else off)
        if hasattr(value, "neutral"):
            off = theirs.neutral() if type(theirs) is type(value) else theirs
            return _Neutral(where, value.neutral(), None if off == theirs else off)
    return None
