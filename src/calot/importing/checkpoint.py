"""A checkpoint trained elsewhere becomes a run's folder that `calot predict` and `calot evaluate` can score."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calot.config.overrides import apply_overrides
from calot.criteria import COLUMNS
from calot.errors import CalotError
from calot.experiment import Experiment
from calot.experiments import Resolved, find, resolve_found
from calot.importing.resemblance import Facts, disagreements, lora_of, nearest
from calot.importing.study_names import PATCH_ADAPTER, StudyState, study_state
from calot.models.adaptation import canonical_name
from calot.models.backbones.protocol import RANDOM
from calot.models.checkpoints import read_pt
from calot.models.classifier import Classifier
from calot.pipeline import needs_published_weights
from calot.progress import Ui
from calot.reading import sha256_of
from calot.run import claiming
from calot.run import folder as run_folder
from calot.run.build import build_classifier
from calot.run.data import OpenData
from calot.run.device import make_accelerator
from calot.run.request import Request
from calot.train import checkpoint
from calot.train.progress import Progress

_COLUMN_NOTE = (
    "outputs 1, 2, 3 are taken as Endoscapes' columns C1, C2, C3; the study's names for them were wrong, its columns "
    "right"
)
_UNVERIFIED = "trained elsewhere: what was trained, on what and how, is as its author says and is not verified"


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What to import, and what the file itself cannot show: experiment (None: the nearest), seed, data, names."""

    path: Path
    folder: Path
    experiment: str | None = None
    scale: str = "full"
    changes: Sequence[str] = ()
    data: Path | None = None
    seed: int = 42
    rename: Sequence[tuple[str, str]] = ()
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """The experiment that a checkpoint is taken for: how it was chosen, and what was set to fit its tensors."""

    resolved: Resolved
    guessed: bool
    as_well: Sequence[str]
    settings: Sequence[str]

    @property
    def experiment(self) -> Experiment:
        return self.resolved.experiment


def import_checkpoint(asked: ImportRequest, *, ui: Ui) -> dict[str, Any]:
    """Write the run's folder and return its `import.json`. Nothing is written before everything was found to fit.

    Raises CalotError for a file that is not a checkpoint or does not fit the experiment, and for a folder in use.
    """
    path, where = asked.path, asked.path.name
    state = study_state(read_pt(path), where=where, rename=asked.rename)
    facts = Facts.of(state.tensors, family=state.family, where=where)
    chosen = _choose(asked, facts)
    model = _fitted(state, chosen.experiment, where=where)
    record = _record(asked, state=state, facts=facts, chosen=chosen, model=model)
    request = Request(
        found=chosen.resolved.found,
        experiment=chosen.experiment,
        scale=asked.scale,
        overrides=chosen.resolved.overrides,
        data=asked.data or Path(),
        folder=asked.folder,
        seed=asked.seed,
        overwrite=asked.overwrite,
        imported=where,
    )
    data = None if asked.data is None else OpenData.of(asked.data, experiment=chosen.experiment, ui=ui)
    own = _canonical(model)
    tensors = {k: v.detach().to(own[k].dtype).clone().contiguous() for k, v in state.tensors.items()}
    with claiming.claimed(request):
        accelerator = make_accelerator(chosen.experiment.compute)
        run_folder.describe_import(request, model=model, accelerator=accelerator, record=record)
        if data is not None:
            run_folder.describe_first_data(asked.folder, data=data)
        place = checkpoint.Checkpoints(asked.folder / "checkpoints", every_s=0.0, say=ui.say)
        place.save_best(tensors=tensors, progress=Progress(stage=len(chosen.experiment.stages) - 1).to_dict())
    return record


def _choose(asked: ImportRequest, facts: Facts) -> _Chosen:
    guessed = asked.experiment is None
    found, as_well = nearest(facts, scale=asked.scale) if asked.experiment is None else (find(asked.experiment), [])
    resolved = resolve_found(found, overrides=asked.changes, scale=asked.scale)
    experiment = resolved.experiment
    found_open, settings = [], []
    for item in disagreements(facts, experiment):
        if item.change is None or not (guessed or item.settled):
            found_open.append(item)
            continue
        settings.append(item.change)
    place, _ = lora_of(experiment)
    if any(s.startswith(f"{place}.rank=") for s in settings) and facts.adapters is not None:
        settings.append(f"{place}.alpha={2 * facts.adapters.rank}")  # the study's own ratio, in every run of it
    if found_open:
        said = "; ".join(d.said for d in found_open)
        changes = " ".join(d.change for d in found_open if d.change)
        remedy = f" Add {changes}, or name" if changes else " Name"
        raise CalotError(f"{asked.path.name} is not {experiment.name}: {said}.{remedy} another --experiment.")
    settings = [s for s in settings if not any(c.split("=")[0] == s.split("=")[0] for c in asked.changes)]
    experiment = apply_overrides(experiment, settings)
    resolved = replace(resolved, experiment=experiment)
    return _Chosen(resolved=resolved, guessed=guessed, as_well=as_well, settings=settings)


def _fitted(state: StudyState, experiment: Experiment, *, where: str) -> Classifier:
    """The model that the tensors fit, name by name and shape by shape; its weights are not loaded."""
    with torch.device("meta"):
        model = build_classifier(experiment, weights=False)
        for stage in experiment.stages:
            stage.adapt(model.backbone)
    own, tensors = _canonical(model), state.tensors
    missing = [k for k in own if k not in tensors and (not k.startswith("backbone.") or ".lora_" in k)]
    if missing:
        no_rule = "".join(f"; {u.name} has no rule" for u in state.unmapped[:1])
        raise CalotError(
            f"{where}: lacks {_some(missing)} of {experiment.name}{no_rule}. Where another name holds it, "
            "--rename OLD=NEW puts that beginning of names in the place of this one."
        )
    surplus = [f"{state.sources[k]} {tuple(tensors[k].shape)}" for k in tensors if k not in own]
    if surplus:
        raise CalotError(f"{where}: has {_some(surplus)} more than {experiment.name}: another model. Name its own.")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise CalotError(
                f"{where}: {state.sources[name]} is {tuple(tensor.shape)}, and {name} of {experiment.name} is "
                f"{tuple(own[name].shape)}. Name the experiment it was trained with."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CalotError(f"{where}: {state.sources[name]} holds numbers that are not finite: nothing to score")
    lacking = [k for k in own if k not in tensors]
    if lacking and experiment.backbone.weights is None:
        raise CalotError(
            f"{where}: lacks {_some(lacking)} of the backbone, and backbone.weights is None. "
            "Set backbone.weights to the weights it was trained on."
        )
    if needs_published_weights(experiment, tensors=tensors):
        experiment.backbone.build()  # a run that could not be scored later is not a run
    return model


def _record(
    asked: ImportRequest, *, state: StudyState, facts: Facts, chosen: _Chosen, model: Classifier
) -> dict[str, Any]:
    """`import.json`: what was read, what was set, what was assumed, what was left."""
    experiment, where = chosen.experiment, asked.path.name
    names = [k for k in _canonical(model) if k.startswith("backbone.") and ".lora_" not in k]
    held = sum(k in state.tensors for k in names)
    published = experiment.backbone.weights or RANDOM
    weights = f"imported from {where}" if held == len(names) else f"{published}, in part imported from {where}"
    return {
        "file": where,
        "sha256": sha256_of(asked.path),
        "command": _command(asked),
        "training": _UNVERIFIED,
        "wrapped_in": state.wrapped_in,
        "claimed": _numbers(state.beside),
        "beside": sorted(map(str, state.beside)),
        "experiment": experiment.name,
        "chosen": "nearest to the tensors" if chosen.guessed else "named",
        "fits_as_well": list(chosen.as_well),
        "read_from_tensors": asdict(facts) | {"family": facts.family.name},
        "set_from_tensors": list(chosen.settings),
        "assumed": _assumed(experiment),
        "columns": {"note": _COLUMN_NOTE, **COLUMNS["endoscapes"]},
        "backbone": {"held": held, "of": len(names)},
        "weights": weights if held else published,
        "mapped": len(state.tensors),
        "not_mapped": [asdict(u) for u in state.unmapped],
    }


def _assumed(experiment: Experiment) -> dict[str, Any]:
    """What decides scores and leaves no trace in tensors, taken from the experiment."""
    _, lora = lora_of(experiment)
    masking = None if experiment.masking is None else type(experiment.masking).__name__
    return {
        "protocol": experiment.protocol.name,
        "frames of a clip": experiment.clip.length,
        "geometry": type(experiment.geometry).__name__,
        "backbone.heads": getattr(experiment.backbone, "heads", None),
        "pooling.heads": getattr(experiment.pooling, "heads", None),
        "adapter alpha": None if lora is None else lora.alpha,
        "masking in scoring": masking,
    }


def summary_lines(record: Mapping[str, Any]) -> list[str]:
    """An import for people, in short."""
    chosen = f"{record['experiment']} ({record['chosen']}"
    others = record["fits_as_well"]
    chosen += f"; the same tensors: {', '.join(others[:4])}{' ...' if len(others) > 4 else ''})" if others else ")"
    held, of = record["backbone"]["held"], record["backbone"]["of"]
    lines = [
        f"{record['file']} (sha256 {record['sha256'][:12]}...): {record['mapped']} tensors as {chosen}",
        f"backbone: {held} of {of} tensors in the file" + ("" if held == of else ", the others published ones"),
        f"columns: {record['columns']['note']}",
    ]
    if record["set_from_tensors"]:
        lines.append(f"set as the tensors show: {' '.join(record['set_from_tensors'])}")
    assumed = ", ".join(f"{k} {v}" for k, v in record["assumed"].items() if v is not None)
    lines.append(f"not in the file, taken from the experiment: {assumed}")
    reasons: dict[str, list[str]] = {}
    for item in record["not_mapped"]:
        reasons.setdefault(item["why"], []).append(f"{item['name']} {tuple(item['shape'])}")
    lines += [f"left out ({why}): {_some(found)}" for why, found in reasons.items()]
    if PATCH_ADAPTER in reasons:
        lines.append(
            "NOTE: the patch embedding's adapter acted in its source; without it these scores are not the same"
        )
    return [*lines, record["training"]]


def _some(names: Sequence[str]) -> str:
    listed = f"{len(names)} tensor{'' if len(names) == 1 else 's'}, {', '.join(names[:3])}"
    return listed + (" ..." if len(names) > 3 else "")


def _canonical(model: Classifier) -> dict[str, Tensor]:
    return {canonical_name(k): v for k, v in model.state_dict().items()}


def _numbers(beside: Mapping[str, Any]) -> dict[str, float]:
    """The plain numbers beside the tensors, such as the epoch and the best mAP that its author had."""
    found = {k: float(v) for k, v in beside.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return {k: v for k, v in found.items() if math.isfinite(v)}


def _command(asked: ImportRequest) -> str:
    """The command again, with files by their names alone."""
    words = ["calot", "import", asked.path.name, asked.folder.name, *asked.changes]
    words += ["--experiment", Path(asked.experiment).name] if asked.experiment else []
    words += ["--scale", asked.scale] if asked.scale != "full" else []
    words += [w for old, new in asked.rename for w in ("--rename", f"{old}={new}")]
    return shlex.join([*words, "--seed", str(asked.seed)])
