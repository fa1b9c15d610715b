"""What training and scoring reach of a device's own limit: the same arithmetic as plain matrix products, or the same
bytes read once. Full size on a GPU; on a CPU the tiny size, by the same code."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from calot.bench.epochs import Unkept
from calot.bench.side_by_side import Aside, Contest, ExactnessCheck, Outcome, compete, one_torch_thread, seconds
from calot.bench.window import peak_megabytes
from calot.config.overrides import apply_overrides
from calot.experiment import Experiment, scaled
from calot.experiments import find
from calot.models.adaptation import ParameterGroup
from calot.models.attention import tapped
from calot.models.attention_statistics import normalised_entropy
from calot.models.classifier import Classifier
from calot.run.build import build_classifier
from calot.run.device import fused_step, make_accelerator, placed
from calot.run.footprint import clip_flop
from calot.train.loop import Fit, optimise
from calot.train.optim import Schedule, build_adamw
from calot.train.progress import Progress
from calot.train.stage import Compute
from calot.types import Batch, Tokens

Part = Literal["forward", "lora", "lora-18-23", "entropy", "head"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]

#: By part: the share of the limit that is asked for. The LoRA steps and the forward pass are of DESIGN's table.
SHARES: dict[Part, float] = {"forward": 0.5, "lora": 0.5, "lora-18-23": 0.5, "entropy": 0.4, "head": 0.25}
_WORDS: dict[Part, str] = {
    "forward": "score clips",
    "lora": "a step of LoRA in all layers",
    "lora-18-23": "a step of LoRA in the last quarter of the layers",
    "entropy": "score clips and take every layer's attention entropy",
    "head": "a step of pooling and head on tokens that the device holds",
}
_LAYERS: dict[Part, str] = {"lora": "None", "lora-18-23": str(tuple(range(18, 24)))}
_CHECKED_CLIPS = 2
#: How far a precision may be from float32 (float32 from float64), relative to the norm of what is compared.
TOLERANCES = {"bf16": 0.05, "fp16": 0.01, "fp32": 1e-4}


def bench_gpu(
    *,
    part: Part = "forward",
    device: Device = "auto",
    precision: Precision = "auto",
    clips: int | None = None,
    repeats: int = 5,
) -> Outcome:
    """One part at the size that the device is for, in the precision that a run there has unless another is given."""
    with one_torch_thread():
        work = _Work.of(part, compute=Compute(device=device, precision=precision), clips=clips)
        outcome = compete(
            Contest(
                bench="gpu",
                work=f"{_WORDS[part]}, {work.clips} clips; {work.model.backbone.spec.describe()}",
                naive_way=work.limit_in_words,
                our_way=f"calot on {work.device.type}, {work.precision}",
                target=SHARES[part] if work.device.type == "cuda" else 0.0,  # a CPU is not what this is for
                repeats=repeats,
                plain=False,
                checks=work.checks,
                naive=work.waited(work.limit),
                naive_share=work.limit_share,
                ours=work.waited(work.call),
                asides=work.asides,
                settings=work.settings(),
            )
        )
    if outcome.ours is None:
        return outcome
    rates = {
        "tflops": work.flop / outcome.ours.median / 1e12,
        "clips_per_s": work.clips / outcome.ours.median,
    }
    return replace(outcome, contest=replace(outcome.contest, settings={**outcome.contest.settings, **rates}))


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A model on its device, clips there, and what is done with them; `flop` of one call."""

    part: Part
    plain: Classifier  # in float32, never called under autocast
    model: Classifier
    fit: Fit
    batch: Batch
    flop: float
    made: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, part: Part, *, compute: Compute, clips: int | None) -> _Work:
        """Random weights and clips from one seed."""
        accelerator = make_accelerator(compute)
        gpu = accelerator.device.type == "cuda"
        experiment = _experiment(part, scale="full" if gpu else "tiny")
        torch.manual_seed(0)
        model = build_classifier(experiment).to(accelerator.device)
        experiment.train.adapt(model.backbone)
        _wake(model, sharp=part == "entropy")
        plain = copy.deepcopy(model)
        usual = (512 if gpu else 1024) if part == "head" else 32 if gpu else 8
        batch = _clips(experiment, count=clips or usual, tokens=part == "head").to(accelerator.device)
        fit = _fit(experiment, model, accelerator=accelerator)
        forward, backward = clip_flop(experiment, stage=0, cached=part == "head")
        trains = part not in ("forward", "entropy")
        flop = len(batch) * (forward + backward * trains + _entropy_flop(experiment) * (part == "entropy"))
        return cls(part=part, plain=plain, model=model, fit=fit, batch=batch, flop=flop)

    @property
    def device(self) -> torch.device:
        return cast(torch.device, self.fit.accelerator.device)

    @property
    def precision(self) -> str:
        found = str(self.fit.accelerator.mixed_precision)
        return "fp32" if found == "no" else found

    @property
    def clips(self) -> int:
        return len(self.batch)

    def call(self) -> object:
        """What is timed, as training and scoring do it."""
        if self.part == "forward":
            with torch.inference_mode(), self.fit.accelerator.autocast():
                return self.fit.called(self.batch).logits
        if self.part == "entropy":
            with self.fit.accelerator.autocast():
                return _entropies(self.model, self.batch)
        return optimise(self.fit, self.batch, progress=Progress())

    def waited(self, call: Callable[[], object]) -> Callable[[], object]:
        """A call that ends when the device has done the work."""

        def run() -> None:
            call()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        return run

    # The limit

    @property
    def _side(self) -> int:
        return 8192 if self.device.type == "cuda" else 768

    @property
    def _products(self) -> int:
        """Plain products in a call of the limit: of much work, a part."""
        return max(1, min(50, round(self.flop / (2 * self._side**3))))

    @property
    def limit_share(self) -> float:
        return 1.0 if self.part == "head" else self._products * 2 * self._side**3 / self.flop

    @property
    def limit_in_words(self) -> str:
        if self.part == "head":
            return "the tokens read twice, as forward and backward pass must"
        return f"as many FLOP in products of {self._side} x {self._side} matrices, {self.precision}"

    def limit(self) -> object:
        if self.part == "head":
            assert self.batch.tokens is not None
            return [self.batch.tokens.values.sum() for _ in range(2)]
        if not self.made:
            half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision, torch.float32)
            for name in ("one", "other", "product"):
                self.made[name] = torch.randn(self._side, self._side, device=self.device, dtype=half)
        for _ in range(self._products):
            torch.mm(self.made["one"], self.made["other"], out=self.made["product"])
        return self.made["product"]

    # What it gives

    def checks(self) -> tuple[ExactnessCheck, ...]:
        """In this precision against float32, or float32 against float64."""
        few = self.batch.of(torch.arange(min(_CHECKED_CLIPS, self.clips), device=self.device))
        double = self.precision == "fp32"
        reference = copy.deepcopy(self.plain).double() if double else self.plain
        wide = replace(few, labels=few.labels.double() if double else few.labels)
        if few.tokens is not None:
            values = few.tokens.values.double() if double else few.tokens.values.float()
            wide = replace(wide, tokens=replace(few.tokens, values=values))
        want = _found(self.part, reference, wide)
        self.model.load_state_dict(self.plain.state_dict())  # steps may have been taken
        with self.fit.accelerator.autocast():
            got = _found(self.part, self.model, few)
        off = float((got.double() - want.double()).norm() / want.double().norm())
        what = f"{_compared(self.part)} in {self.precision} against {'float64' if double else 'float32'}, relative"
        return (ExactnessCheck(what=what, difference=off, tolerance=TOLERANCES[self.precision]),)

    def asides(self) -> tuple[Aside, ...]:
        """What torch.compile would make of the layers. Runs do not use it: compiled layers pass over the hooks and
        seams by which receipts and instruments look on."""
        if self.part != "forward":
            return ()
        what = "the encoder's layers through torch.compile; not used in runs, whose receipts it would blind"
        if self.device.type != "cuda":
            return (Aside(name="compiled", what=what, seconds=None, reason="a minute of compiling, only on a GPU"),)
        other = copy.deepcopy(self.plain)
        placed_other = placed(other, accelerator=self.fit.accelerator)
        for layer in other.backbone.layers:
            layer.compile(dynamic=False)
        work = replace(self, model=other, fit=replace(self.fit, model=other, called=placed_other))
        run = work.waited(work.call)
        run()
        return (Aside(name="compiled", what=what, seconds=min(seconds(run) for _ in range(3))),)

    def settings(self) -> dict[str, Any]:
        return {
            "kind": self.part,
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
            "precision": self.precision,
            "clips": self.clips,
            "tflop": self.flop / 1e12,
            "peak_mb": self._peak(),
        }

    def _peak(self) -> float:
        """The most memory, in MB, of a call above what stands."""
        if self.device.type != "cuda":
            self.call()
            return peak_megabytes(self.call)
        self.waited(self.call)()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.waited(self.call)()
        return (torch.cuda.max_memory_allocated(self.device) - before) / 1e6


def _experiment(part: Part, *, scale: str) -> Experiment:
    """A frozen encoder, or LoRA as the study's, without what is drawn."""
    changes = ["backbone.weights=None", "head.dropout=0.0", "pooling.dropout=0.0"]
    if part in _LAYERS:
        lora = f"LoRA(rank=16, alpha=32, dropout=0.0, targets=('q', 'v'), layers={_LAYERS[part]}, lr=1e-4)"
        changes.append(f"train.adaptation={lora}")
    return scaled(apply_overrides(find("e02_frozen_probe").experiment, changes), scale)


def _wake(model: Classifier, *, sharp: bool) -> None:
    """Adapters away from their zeros, so that their gradient is more than rounding; attention that is not uniform."""
    backbone = model.backbone
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    for layer in range(len(backbone.layers) if sharp else 0):
        for role in ("q", "k"):
            nn.init.normal_(cast(Any, backbone.linear(layer, role)).weight, std=2 / backbone.spec.width**0.5)


def _clips(experiment: Experiment, *, count: int, tokens: bool) -> Batch:
    """Noise with labels, as frames or as tokens."""
    spec, draw = experiment.backbone, torch.Generator().manual_seed(0)
    view = spec.views[0]
    shape = (count, 0 if tokens else view.frames, 3, view.size, view.size)
    batch = Batch.unlabelled(torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw))
    if tokens:
        number = spec.grid[0] * spec.grid[1] * spec.grid[2]
        batch = batch.with_tokens(Tokens(torch.randn(count, number, spec.width, generator=draw), grid=spec.grid))
    labels = torch.randint(0, 2, (count, 3), generator=draw).float()
    return replace(batch, labels=labels, soft=labels)


def _fit(experiment: Experiment, model: Classifier, *, accelerator: Accelerator) -> Fit:
    """All that a step of the loop needs, for an adapted model."""
    stage = experiment.train
    everything = ParameterGroup("all", tuple(model.parameters()), stage.lr)  # of which what trains is updated
    fused, decay = fused_step(accelerator), stage.weight_decay
    adamw = build_adamw([everything], weight_decay=decay, decayed=stage.decayed, fused=fused)
    called = placed(model, accelerator=accelerator)
    return Fit(
        model=model,
        called=called.train(),
        stage=stage,
        objective=experiment.objective.build(model=model, loss=experiment.loss),
        optimiser=accelerator.prepare(adamw),
        schedule=Schedule(warmup_steps=0, total_steps=1000, floor=0.0),
        accelerator=accelerator,
        seed=0,
        micro_batch=None,
        data=cast(Any, None),  # a step reads none
        keeper=Unkept(),
    )


def _entropy_flop(experiment: Experiment) -> int:
    """FLOP of a clip: one more attention call per layer."""
    spec = experiment.backbone
    tokens = spec.grid[0] * spec.grid[1] * spec.grid[2]
    return int(4 * tokens**2 * spec.width * cast(Any, spec).layers)


def _entropies(model: Classifier, batch: Batch) -> Tensor:
    """Mean normalised entropy of each layer and head."""
    with torch.inference_mode(), tapped(model, layers=range(len(model.backbone.layers))) as seen:
        model(batch)
        return torch.stack([normalised_entropy(qk).mean(dim=(0, 2)) for qk in seen.values()])


def _compared(part: Part) -> str:
    return {"forward": "tokens", "entropy": "entropies"}.get(part, "gradients")


def _found(part: Part, model: Classifier, batch: Batch) -> Tensor:
    """What is compared between precisions, as one vector."""
    if part == "entropy":
        return _entropies(model, batch).flatten()
    if part == "forward":
        with torch.no_grad():
            return model.encode(batch).values.flatten()
    model.zero_grad()
    loss = F.binary_cross_entropy_with_logits(model(batch).logits, batch.labels)
    gradients = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
    return torch.cat([g.flatten() for g in gradients])
