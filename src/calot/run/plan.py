"""`calot train --plan`: how a run fits a device. How many clips go through at a time, what is recomputed, where frames
and features lie, and how long it takes. The effective batch is the experiment's and stays."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from calot.errors import CalotError, nearest_name
from calot.experiment import Experiment
from calot.models.classifier import Classifier
from calot.progress import Ui
from calot.run.build import build_classifier
from calot.run.feature_choice import chosen_kind, stored_bytes, unfit
from calot.run.footprint import Footprint, stage_footprint
from calot.run.machine import memory_bytes
from calot.run.request import Request
from calot.run.sample import SampledData, sampled_data
from calot.train.stage import Stage

#: Of a device's memory what a plan may fill; the rest is the allocator's, the loss's, and other programs'.
USABLE = 0.85
#: What CUDA, its libraries and their workspaces take; on a CPU, Python and its libraries.
RESERVED = 1_500_000_000
#: Share of the matrix products' rate that a step reaches, assumed until `--dry-run` has measured one.
SHARE = 0.4


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a plan is made for. `tflops`: of dense matrix products in `precision`, as published or measured here."""

    name: str
    memory: int
    tflops: float
    precision: str
    source: str = "published"


#: By name; memory as the driver reports it, rates of dense matrix products that add up in float32.
DEVICES: Mapping[str, Device] = {
    "rtx3080-12gb": Device(name="RTX 3080, 12 GB", memory=12_600_000_000, tflops=61.3, precision="bf16"),
    "a100-80gb": Device(name="A100, 80 GB", memory=85_000_000_000, tflops=312.0, precision="bf16"),
    "h100-80gb": Device(name="H100, 80 GB", memory=85_000_000_000, tflops=989.0, precision="bf16"),
    "h200-141gb": Device(name="H200, 141 GB", memory=150_000_000_000, tflops=989.0, precision="bf16"),
}


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """A stage on a device: `micro_batch` clips at a time, `passes` of them to an effective `batch`. Memory in bytes,
    `tflop` of all its epochs."""

    batch: int
    micro_batch: int
    passes: int
    checkpointing: bool
    memory: int
    features: str
    features_bytes: int
    epochs: int
    tflop: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All stages on a device. `hours` assume `SHARE` of the device's rate; `store_bytes` of decoded frames."""

    experiment: str
    device: Device
    stages: tuple[StagePlan, ...]
    clips: Mapping[str, int]
    store_bytes: int
    store_place: str

    @property
    def hours(self) -> float:
        return sum(s.tflop for s in self.stages) / (SHARE * self.device.tflops) / 3600

    def applied(self, experiment: Experiment) -> Experiment:
        """The experiment as it is trained by this plan; its treatment is the same."""
        micro, checkpointing = min(s.micro_batch for s in self.stages), any(s.checkpointing for s in self.stages)
        compute = replace(experiment.compute, micro_batch=micro, gradient_checkpointing=checkpointing)
        return replace(experiment, compute=compute)

    def to_dict(self, *, price_per_hour: float | None = None) -> dict[str, Any]:
        """All of it as JSON."""
        cost = None if price_per_hour is None else price_per_hour * self.hours
        return asdict(self) | {"hours": self.hours, "share_assumed": SHARE, "cost": cost}


def device_named(name: str) -> Device:
    """One of `DEVICES`. Raises CalotError for another name."""
    if name not in DEVICES:
        raise CalotError(f"--for {name}: not a device that is known here.{nearest_name(name, among=DEVICES)}")
    return DEVICES[name]


def this_device(experiment: Experiment) -> Device:
    """The one that a run would use here, its rate measured by a matrix product of a second."""
    gpu = torch.cuda.is_available() and experiment.compute.device != "cpu"
    if not gpu:
        cores = torch.get_num_threads()
        name, memory, precision = f"CPU, {cores} thread{'s' * (cores > 1)}", memory_bytes() or 8 << 30, "fp32"
        place, kind = torch.device("cpu"), torch.float32
    else:
        name, memory, precision = torch.cuda.get_device_name(), torch.cuda.mem_get_info()[1], "bf16"
        place, kind = torch.device("cuda"), torch.bfloat16
    return Device(name=name, memory=memory, tflops=_rate(place, kind), precision=precision, source="measured")


def _rate(device: torch.device, kind: torch.dtype) -> float:
    """TFLOP/s of a matrix product."""
    side = 8192 if device.type == "cuda" else 1024
    one = torch.randn(side, side, device=device, dtype=kind)
    best = float("inf")
    until = time.perf_counter() + 1.0
    while time.perf_counter() < until:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        one @ one
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e12


def plan(request: Request, device: Device, *, ui: Ui) -> Plan:
    """How an experiment's run fits a device; nothing is decoded, trained or written.

    Raises CalotError where not even one clip at a time fits, and for bad data.
    """
    experiment = request.experiment
    with sampled_data(request.data, experiment=experiment, ui=ui, kind=SampledData) as data:
        clips = {split: len(data.whole(split, training=split == "train")) for split in ("train", "val")}
        frames = sum(len(data.manifest.split(split)) for split in clips)
    stages = []
    with ui.task("plan") as advance:
        for number, stage in enumerate(experiment.stages):
            advance(number, len(experiment.stages))
            stages.append(_stage(request, number, stage, device=device, clips=clips))
    store = 3 * experiment.backbone.size**2 * frames
    return Plan(
        experiment=experiment.name,
        device=device,
        stages=tuple(stages),
        clips=clips,
        store_bytes=store,
        store_place="in memory as the system caches it" if store < 0.5 * (memory_bytes() or 0) else "on the disk",
    )


def _stage(request: Request, number: int, stage: Stage, *, device: Device, clips: Mapping[str, int]) -> StagePlan:
    experiment = request.experiment
    with torch.device("meta"):
        model = build_classifier(experiment, weights=False)
        for earlier in experiment.stages[: number + 1]:
            earlier.adapt(model.backbone)
    views, kept = _features(request, model, stage=stage, clips=clips)
    half = device.precision != "fp32"
    found = stage_footprint(_with(experiment, checkpointing=False), stage=number, half=half, cached=views > 0)
    fixed = _fixed(found, half=half)
    room = USABLE * device.memory - RESERVED - fixed
    each, checkpointing = found.activations, experiment.compute.gradient_checkpointing
    if checkpointing or each > room:
        checkpointing = True
        less = stage_footprint(_with(experiment, checkpointing=True), stage=number, half=half, cached=views > 0)
        each = less.activations + 2 * found.activations // max(1, len(model.backbone.layers))  # a layer's at a time
        found = less
    if each > room:
        raise CalotError(
            f"{experiment.name} does not fit {device.name}: it holds {fixed / 1e9:.1f} GB, and one clip "
            f"{each / 1e9:.2f} GB more even with gradient checkpointing, of {USABLE * device.memory / 1e9:.1f} GB"
        )
    most = min(stage.batch, int(room // max(1, each)), experiment.compute.micro_batch or stage.batch)
    passes = -(-stage.batch // most)
    micro = -(-stage.batch // passes)  # as even as it can be
    scored = clips["val"] + min(experiment.compute.train_subset, clips["train"])
    whole = stage_footprint(experiment, stage=number, half=half).forward if views else found.forward
    steps, evaluation = clips["train"] * (found.forward + found.backward), scored * found.forward
    once = (views * clips["train"] + clips["val"]) * (whole - found.forward) if views else 0
    return StagePlan(
        batch=stage.batch,
        micro_batch=micro,
        passes=passes,
        checkpointing=checkpointing,
        memory=int(fixed + RESERVED + micro * each),
        features=kept[0],
        features_bytes=kept[1],
        epochs=stage.epochs,
        tflop=(stage.epochs * steps + stage.scored * evaluation + once) / 1e12,
    )


def _with(experiment: Experiment, *, checkpointing: bool) -> Experiment:
    return replace(experiment, compute=replace(experiment.compute, gradient_checkpointing=checkpointing))


def _fixed(found: Footprint, *, half: bool) -> int:
    """Weights, their copies in half precision, gradients and AdamW's two moments."""
    return found.weights + (found.weights // 2 if half else 0) + 3 * found.trained


def _features(
    request: Request, model: Classifier, *, stage: Stage, clips: Mapping[str, int]
) -> tuple[int, tuple[str, int]]:
    """In how many views features are cached (0: not), and in words how, with their bytes."""
    experiment, first = request.experiment, model.backbone.first_trained
    preparation = experiment.preparation(seed=request.seed)
    if first in (-1, 0):
        return 0, ("none: nothing is frozen below what trains", 0)
    if experiment.compute.features == "off":
        return 0, ("none: compute.features=off", 0)
    if (why := unfit(experiment, model, preparation=preparation)) is not None:
        return 0, (f"none: {why}", 0)
    views = len(preparation.listed)
    free = shutil.disk_usage(experiment.compute.cache_folder or request.data).free
    kind = chosen_kind(experiment, model, stage=stage, views=views, clips=clips, free=free)
    if kind is None:
        return 0, ("none: they would not pay, or not fit the disk", 0)
    size = stored_bytes(experiment, views=views, clips=clips, kind=kind)
    what = "tokens" if first is None else f"what enters layer {first}"
    return views, (f"{what} in {views} view{'s' * (views > 1)}, {kind}", size)
