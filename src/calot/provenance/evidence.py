"""What each receipt check measured, as values: one class per check, read and written without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from calot.config.component import Component
from calot.config.fields import Range
from calot.config.json_form import from_json, to_json
from calot.errors import CalotError

Number = Annotated[float, Range(ge=-1e12, le=1e12)]
Whole = Annotated[int, Range(ge=0, le=10**15)]
#: A layer of the encoder, from 0, or from its end as the experiment names it: -1 is the last.
LayerNumber = Annotated[int, Range(ge=-(10**6), le=10**6)]

#: How a declared field came out; `not binding`: a limit that this run is too short to reach.
Verdict = Literal["acts", "negligible", "inert", "not binding"]


@dataclass(frozen=True, kw_only=True)
class Evidence(Component):
    """The figures behind one check."""

    def to_json(self) -> Any:
        """Plain JSON, each part with its class."""
        return to_json(self)

    @staticmethod
    def from_json(data: Any) -> Evidence:
        """Rebuild what `to_json` wrote. Raises CalotError for anything else."""
        if not (isinstance(data, dict) and str(data.get("_type")).startswith(f"{__name__}.")):
            raise CalotError(f"{str(data)[:60]!r} is not the evidence of a receipt check")
        evidence: Evidence = from_json(data, Evidence)
        return evidence


@dataclass(frozen=True, kw_only=True)
class Change(Component):
    """One reading that changed, and by what share of the whole."""

    name: str
    share: Number


@dataclass(frozen=True, kw_only=True)
class FieldEvidence(Component):
    """One declared field reverted: to what (`against`), together with which others, and what that changed.

    A field is a dotted path; one inside a component of another class than the baseline's is compared with another value
    of its own that should make a difference, since the baseline has none.
    """

    field: str
    value: str
    against: str
    reverted_with: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    verdict: Verdict

    @property
    def share(self) -> float:
        """The largest change, as a share of the whole."""
        return max((change.share for change in self.changes), default=0.0)


@dataclass(frozen=True, kw_only=True)
class DifferenceEvidence(Evidence):
    """Every declared field; one that changes less than `floor` of the whole is negligible."""

    floor: Number
    fields: tuple[FieldEvidence, ...]


@dataclass(frozen=True, kw_only=True)
class TargetCount(Component):
    """Parameters of one target: how many were declared to train, and how many do."""

    target: str
    declared: Whole
    observed: Whole


@dataclass(frozen=True, kw_only=True)
class StageCounts(Component):
    """What trains in one stage, by target; the two lists should be empty."""

    stage: Whole
    targets: tuple[TargetCount, ...]
    listed_but_frozen: tuple[str, ...] = ()
    training_but_not_listed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StageStart(Component):
    """How a later stage began: the epoch it should have started from (from 0), and the tensors that did not."""

    stage: Whole
    best_epoch_before: Whole
    apart: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ParametersEvidence(Evidence):
    """What trains in each stage; `starts` are filled in after training."""

    stages: tuple[StageCounts, ...] = ()
    starts: tuple[StageStart, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GradientEvidence(Component):
    """A few real steps of one stage: how many tensors train and stay, and which did not behave as declared; `still` are
    groups whose rate is too low to move them over the stage."""

    stage: Whole
    steps: Whole
    clips: Whole
    trained: Whole
    frozen: Whole
    without_gradient: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()
    frozen_that_moved: tuple[str, ...] = ()
    still: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GradientsEvidence(Evidence):
    """The steps of every stage."""

    stages: tuple[GradientEvidence, ...]


@dataclass(frozen=True, kw_only=True)
class TermReach(Component):
    """One loss term alone: the parts of the model it declares, and those that its gradient reaches.

    `share` is its part of the gradient's norm, in the whole model or in a part that other terms reach too, where that
    is more; `units` is what its mean ran over.
    """

    stage: Whole
    term: str
    units: Number
    declared: tuple[str, ...]
    reached: tuple[str, ...]
    share: Number


@dataclass(frozen=True, kw_only=True)
class TermsEvidence(Evidence):
    """Every term of every stage; one whose share is below `floor` is negligible."""

    floor: Number
    terms: tuple[TermReach, ...]


@dataclass(frozen=True, kw_only=True)
class SwitchOff(Component):
    """One declared component in its neutral form, put into the baseline.

    `equal` is None where that cannot be checked, and `why` says so; `apart` names what was not equal, of `compared`.
    """

    field: str
    equal: bool | None
    why: str = ""
    bit_for_bit: bool = False
    compared: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SwitchedOffEvidence(Evidence):
    """What the whole treatment changes against its baseline, and each of its components switched off."""

    changes: tuple[Change, ...]
    off: tuple[SwitchOff, ...]


@dataclass(frozen=True, kw_only=True)
class DoseReading(Component):
    """One figure of what is applied, and its declared band."""

    name: str
    value: Number
    low: Number
    high: Number

    @property
    def met(self) -> bool:
        return self.low <= self.value <= self.high

    def __str__(self) -> str:
        if self.low == self.high:
            band = f"{self.low:.3g}"
        elif self.low < 1e-6 and self.high == 1.0:
            band = "above 0" if self.low else "0 to 1"
        else:
            band = f"{self.low:.3g} to {self.high:.3g}"
        return f"{self.name} is {self.value:.3g}, declared {band}"


@dataclass(frozen=True, kw_only=True)
class DosesEvidence(Evidence):
    """Every dose that the experiment declares."""

    doses: tuple[DoseReading, ...] = ()


#: The reading that a run and its baseline have of the same validation clips.
ENTROPY = "scoring: entropy of the last layer's attention (share of the most)"


@dataclass(frozen=True, kw_only=True)
class ObservedReading(Component):
    """One figure of what a stage was seen to do: its mean over `count` values, the band that settings declare for it,
    and its mean by epoch (None where an epoch had none). Nothing was seen where `count` is 0."""

    stage: Whole
    name: str
    count: Whole
    value: Number
    low: Number
    high: Number
    met: bool
    by_epoch: tuple[Number | None, ...] = ()

    def __str__(self) -> str:
        where = f"stage {self.stage}: {self.name}"
        if not self.count:
            return f"{where} was never seen"
        high = "" if self.high >= 1e9 else f" to {self.high:.3g}"
        return f"{where} is {self.value:.3g}, declared {'at least ' if not high else ''}{self.low:.3g}{high}"


@dataclass(frozen=True, kw_only=True)
class ObservedEvidence(Evidence):
    """All that was measured in the run itself; what is below `floor` of the whole is negligible."""

    floor: Number
    readings: tuple[ObservedReading, ...]


@dataclass(frozen=True, kw_only=True)
class AblationReading(Component):
    """Validation scores with one part of the trained model switched off: how far logits moved (relative to them), how
    far clips moved in rank (mean, share of all places), and macro mAP with and without, in points."""

    part: str
    logits: Number
    ranks: Number
    with_it: Number | None
    without_it: Number | None


@dataclass(frozen=True, kw_only=True)
class AblationEvidence(Evidence):
    """Every part that could be switched off; less than `floor` is rounding."""

    floor: Number
    parts: tuple[AblationReading, ...]


@dataclass(frozen=True, kw_only=True)
class InstrumentReading(Component):
    """How far the output rebuilt from a layer's captured queries and keys is from its own, and whether a bias was
    among its scores."""

    layer: LayerNumber
    apart: Number
    biased: bool


@dataclass(frozen=True, kw_only=True)
class PlantedMap(Component):
    """What the instruments read of a map whose every query looks at one token: entropy 0, and all of it received."""

    entropy: Number
    received: Number
    read: bool


@dataclass(frozen=True, kw_only=True)
class InstrumentsEvidence(Evidence):
    """The layers that the experiment reads or biases, and the positive control."""

    layers: tuple[InstrumentReading, ...]
    planted: PlantedMap


@dataclass(frozen=True, kw_only=True)
class LedgerEvidence(Evidence):
    """Runs of another treatment whose predictions are the same."""

    twins: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LookAlike(Component):
    """Two of the probe's clips that are nearly the same picture, and how far apart (share of the grey levels)."""

    one: str
    other: str
    apart: Number


@dataclass(frozen=True, kw_only=True)
class Overfit(Component):
    """The first control: training mAP on a few clips after `steps`, at the rate `lr` that learnt them best.

    `reachable` is what a linear fit on the same model's own untrained features reaches. `look_alike` are pairs with
    different labels: what no model could tell apart. `by_chance` are parts of the model that still draw while they
    train, with every regulariser off.
    """

    clips: Whole
    map: Number
    steps: Whole
    lr: Number
    reachable: Number
    look_alike: tuple[LookAlike, ...] = ()
    by_chance: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Shuffled(Component):
    """The second control: labels dealt to other clips, deal by deal, must not rank val (mean ROC area, t test's p) and
    must train to other scores than the true ones (`acts`)."""

    auc: Number
    p: Number
    auc_of_each_deal: tuple[Number, ...]
    auc_of_true_labels: Number
    acts: bool
    steps: Whole
    val_clips: Whole


@dataclass(frozen=True, kw_only=True)
class ControlsEvidence(Evidence):
    """Both controls."""

    overfit: Overfit
    shuffled: Shuffled
