"""What a whole study would take: each kind of run measured once, in real steps on real clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from calot.config.json_form import to_json
from calot.experiment import Experiment
from calot.progress import Ui
from calot.receipts.reverting import changes
from calot.run.estimate import RunCost, StageCost, dry_run
from calot.run.read_back import BATCHES
from calot.run.request import Request

#: Forward and backward passes of eight clips in both controls, and in a rehearsal: some, and more for each field that
#: is declared to differ. Counted in `calot.receipts` for e02 and e10a.
_CONTROLS, _REHEARSAL, _PER_FIELD, _CLIPS = 200, 30, 15, 8
#: Seconds to import everything, once a worker, and to open data, build the model and close the receipt, once a run.
_IMPORT_S, _OPEN_S = 8.0, 2.5
#: Steps on cached features take at least this share of a whole one.
_HEADS = 0.04


@dataclass(frozen=True, kw_only=True)
class PlannedExperiment:
    """An experiment of the lot, upper bounds in seconds: patience may end a run sooner.

    `training_s`, `evaluation_s` and `opening_s` are of one run; `features_s` and `receipt_s` are paid once: features by
    the first experiment that reads them, a receipt's checks by the first seed.
    """

    experiment: str
    runs: int
    steps: int
    step_s: float
    training_s: float
    evaluation_s: float
    opening_s: float
    features_s: float
    receipt_s: float

    @property
    def run_s(self) -> float:
        """One run of which nothing is shared."""
        return self.training_s + self.evaluation_s + self.opening_s

    @property
    def seconds(self) -> float:
        """All its runs."""
        return self.runs * self.run_s + self.features_s + self.receipt_s

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"run_s": self.run_s, "seconds": self.seconds}


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """All experiments on `workers` processes; `store_s` decodes frames, once a data set."""

    experiments: tuple[PlannedExperiment, ...]
    workers: int
    store_s: float

    @property
    def seconds(self) -> float:
        """Of work, of all workers together."""
        return sum(one.seconds for one in self.experiments) + self.store_s + self.workers * _IMPORT_S

    @property
    def wall_s(self) -> float:
        """Until the last run ends: an equal share each, or the longest run where that is longer."""
        return max(self.seconds / self.workers, max((one.run_s for one in self.experiments), default=0.0))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = [one.to_dict() for one in self.experiments]
        whole = {"workers": self.workers, "frame_store_s": self.store_s, "imports_s": self.workers * _IMPORT_S}
        return whole | {"experiments": rows, "seconds": self.seconds, "wall_s": self.wall_s}


def study_plan(requests: Sequence[Request], *, workers: int, ui: Ui) -> StudyPlan:
    """Measure each shape of run once; experiments that differ in what costs no time share a measurement.

    Raises CalotError for anything that would stop a run itself.
    """
    measured: dict[str, RunCost] = {}
    made: set[str] = set()
    rows = []
    names = list(dict.fromkeys(request.experiment.name for request in requests))
    with ui.task("plan") as advance:
        for number, name in enumerate(names, start=1):
            first, *others = [request for request in requests if request.experiment.name == name]
            shape = _shape(first.experiment)
            measured[shape] = measured.get(shape) or dry_run(first, ui=ui)
            backbone = repr((first.experiment.backbone, first.experiment.augment, first.experiment.clip))
            seeds = 1 if first.experiment.backbone.weights is not None else 1 + len(others)
            times = 0 if backbone in made else seeds  # random weights are the seed's own, and so are their features
            rows.append(_planned(first, measured[shape], runs=1 + len(others), features=times))
            made |= {backbone} if rows[-1].features_s else set()
            advance(number, len(names))
    store = max((cost.store_hours for cost in measured.values()), default=0.0) * 3600
    return StudyPlan(experiments=tuple(rows), workers=workers, store_s=store)


def _shape(experiment: Experiment) -> str:
    """Equal for experiments whose steps take equally long: the same but for names, rates, lengths and numbers."""
    stages = [(_without(stage.adaptation, "lr"), stage.batch) for stage in experiment.stages]
    parts = (experiment.backbone, experiment.pooling, experiment.head, experiment.heads, experiment.clip)
    prepared = (experiment.masking, experiment.augment, experiment.mixing, experiment.protocol, experiment.geometry)
    return repr((*parts, *prepared, type(experiment.loss), experiment.uses_masks, experiment.compute, stages))


def _without(component: Any, field: str) -> Any:
    data = to_json(component)
    return {k: v for k, v in data.items() if k != field} if isinstance(data, dict) else data


def _planned(request: Request, cost: RunCost, *, runs: int, features: int) -> PlannedExperiment:
    """One experiment's row from the cost of its shape; `features` is how often a cache of them is made."""
    experiment = request.experiment
    stages = [
        replace(measured, epochs=stage.epochs, scored=stage.scored)
        for measured, stage in zip(cost.stages, experiment.stages, strict=True)
    ]
    train, val = cost.clips["train"], cost.clips["val"]
    last, first = stages[-1], stages[0]
    clip_s = last.evaluation_s / last.evaluation_clips
    passes = sum(s.scored * s.evaluation_s * (1 - s.saved * (1 - _HEADS)) for s in stages)
    cached = max((s.saved * (s.views * train + val) for s in stages), default=0.0) * clip_s
    steps = sum(s.epochs * s.steps_per_epoch for s in stages)
    training = sum(s.epochs * s.steps_per_epoch * _step(s) for s in stages)
    sample = min(val, BATCHES * experiment.compute.evaluation_batch)
    rounded = last.saved and experiment.compute.features == "fp16"  # then an epoch's logits are not the model's
    again = val if rounded else 2 * sample  # as the receipt's ablation and the checkpoint read back need
    eight = first.step_s / first.batch * _CLIPS
    declared = 0 if request.baseline is None else len(changes(experiment, request.baseline))
    proof = (_CONTROLS + _REHEARSAL + _PER_FIELD * declared) * eight if request.receipt else 0.0
    return PlannedExperiment(
        experiment=experiment.name,
        runs=runs,
        steps=steps,
        step_s=training / steps,
        training_s=training,
        evaluation_s=passes + again * clip_s,
        opening_s=_OPEN_S,
        features_s=features * cached,
        receipt_s=proof,
    )


def _step(stage: StageCost) -> float:
    """Seconds of a step, with what is cached not computed: a forward pass, as evaluation makes it."""
    clip_s = stage.evaluation_s / stage.evaluation_clips
    return max(_HEADS * stage.step_s, stage.step_s - stage.saved * stage.batch * clip_s)
