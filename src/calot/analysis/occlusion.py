"""What each block of a clip does to the criteria's logits: occlusion and integrated gradients, by captum.

A block is a piece of the network's own input: some frames, a square of each. Covering it shows the clip's own blurred
content, or black, in its place.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Bool, Float
from kornia.filters import gaussian_blur2d
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from calot.errors import CalotError
from calot.models.classifier import Classifier
from calot.out_of_memory import ClipsAtATime, while_scoring
from calot.statistics.occlusion import GRADIENTS, OCCLUSION
from calot.types import Batch

Cover = Literal["blur", "black"]

#: A frame is blurred by this share of its side (standard deviation), so that nothing smaller than it is left.
_BLUR = 1 / 8
#: Tokens of all clips that are encoded at a time.
_TOKENS = 4096

Maps = NDArray[np.float32]
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Occlusion:
    """How a clip is cut and covered: `across` x `across` blocks of a frame, `in_time` pieces of its frames.

    `by` is what a covered block shows. `gradient_steps` are those of the integral; insertion and deletion go from
    nothing to everything in `curve_steps`, also in `random_orders` drawn orders.
    """

    across: int = 8
    in_time: int = 2
    by: Cover = "blur"
    gradient_steps: int = 16
    curve_steps: int = 8
    random_orders: int = 4

    def __post_init__(self) -> None:
        least = {"across": 2, "in_time": 1, "gradient_steps": 2, "curve_steps": 2, "random_orders": 1}
        for name, smallest in least.items():
            if not smallest <= getattr(self, name) <= 256:
                raise CalotError(f"Occlusion.{name}={getattr(self, name)} must lie between {smallest} and 256")
        if self.by not in get_args(Cover):
            raise CalotError(f"Occlusion.by={self.by!r}: a block is covered by {' or '.join(get_args(Cover))}")

    def block(self, clip: Float[Tensor, "t c h w"]) -> tuple[int, int]:
        """Frames and pixels along each side of a block of it; the last ones may be smaller."""
        frames, _, side, _ = clip.shape
        return math.ceil(frames / min(self.in_time, frames)), math.ceil(side / min(self.across, side))

    def cover(self, clip: Float[Tensor, "t c h w"], *, black: Float[Tensor, " c"]) -> Float[Tensor, "t c h w"]:
        """What is shown in the place of a covered block; `black` are the normalised values of black."""
        if self.by == "black":
            return black[:, None, None].expand_as(clip).contiguous()
        sigma = clip.shape[-1] * _BLUR
        reach = 2 * math.ceil(3 * sigma) + 1
        side = min(reach, 2 * ((clip.shape[-1] - 1) // 2) + 1)
        blurred: Tensor = gaussian_blur2d(clip, (side, side), (sigma, sigma))
        return blurred


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipEffects:
    """One clip: by method, each block's effect on each criterion's logit `(k, t, y, x)`, positive where it speaks for
    the criterion.

    `curves`: by order (a method's, or random), logits less those of the whole clip `(2, k, steps + 1)`: deletion, from
    nothing covered to everything, and insertion, from everything covered to nothing. `unexplained` is by how much the
    sum of integrated gradients misses the difference of logits.
    """

    logits: Maps
    maps: dict[str, Maps]
    curves: dict[str, Maps]
    unexplained: Maps


def require_captum() -> Any:
    """captum's attribution methods. Raises CalotError that says how to get it."""
    try:
        from captum import attr
    except ImportError as error:
        raise CalotError(
            "occlusion and integrated gradients need the package captum, which is not installed here: "
            "pip install 'calot[explain]' (or leave them out: --parts names those that are to be shown)"
        ) from error
    return attr


@dataclass(frozen=True, kw_only=True)
class Occluder:
    """One model whose clips are covered block by block."""

    model: Classifier
    accelerator: Accelerator
    settings: Occlusion = Occlusion()
    at_a_time: ClipsAtATime = field(default_factory=while_scoring)

    def normalised(self, batch: Batch) -> Float[Tensor, "b t c h w"]:
        """The clips as the backbone's network takes them."""
        (view,) = self.model.backbone.spec.views
        view.require(batch.video)
        clips: Tensor = view.normalise(batch.video)
        return clips

    def covered(self, clip: Float[Tensor, "t c h w"]) -> Float[Tensor, "t c h w"]:
        """The whole clip covered."""
        (view,) = self.model.backbone.spec.views
        black = -torch.tensor(view.mean, device=clip.device) / torch.tensor(view.std, device=clip.device)
        return self.settings.cover(clip, black=black)

    def logits(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b k"]:
        """The criteria's logits of normalised clips, as many at a time as memory takes; with a graph where one is kept.

        Raises CalotError where one is not finite.
        """

        def compute(part: Batch) -> Tensor:
            with self.accelerator.autocast():
                outputs: Any = self.model(part)
            logits: Tensor = outputs.logits.float()
            return logits

        batch = Batch.unlabelled(clips).to(clips.device)
        parts = self.at_a_time.parts(batch, compute=compute, where="covering blocks")
        logits = torch.cat([found for found, _ in parts])
        if not bool(torch.isfinite(logits).all()):
            raise CalotError("a clip with covered blocks has logits that are not finite: use compute.precision=fp32")
        return logits

    @property
    def at_once(self) -> int:
        """How many versions of a clip go through the model together."""
        return max(1, _TOKENS // math.prod(self.model.backbone.spec.grid))

    def maps(self, clip: Float[Tensor, "t c h w"]) -> tuple[dict[str, Maps], Maps]:
        """Each block's effect by occlusion and by integrated gradients, and what the latter leave unexplained."""
        self.model.eval()
        covered = self.covered(clip)
        by_gradients, unexplained = self._integrated(clip, covered)
        return {OCCLUSION: self._occluded(clip, covered), GRADIENTS: by_gradients}, unexplained

    def effects(self, clip: Float[Tensor, "t c h w"], *, seed: int) -> ClipEffects:
        """Maps and curves of one normalised clip; random orders are drawn from `seed`."""
        maps, unexplained = self.maps(clip)
        with torch.no_grad():
            covered, whole = self.covered(clip), self.logits(clip[None])[0]
            blocks, criteria = next(iter(maps.values()))[0].shape, len(whole)
            curves = {}
            for method, of_all in maps.items():
                found = [
                    self._curves(clip, covered, order=np.argsort(-one, axis=None, kind="stable"), blocks=blocks)[:, k]
                    for k, one in enumerate(of_all)
                ]
                curves[method] = np.stack(found, axis=1)
            rng, count = np.random.default_rng(seed), math.prod(blocks)
            drawn = [rng.permutation(count) for _ in range(self.settings.random_orders)]
            curves["random"] = np.mean([self._curves(clip, covered, order=o, blocks=blocks) for o in drawn], axis=0)
        full = whole.cpu().numpy()
        assert curves["random"].shape[1] == criteria
        less = {name: (values - full[None, :, None]).astype(np.float32) for name, values in curves.items()}
        return ClipEffects(logits=full, maps=maps, curves=less, unexplained=unexplained)

    def _occluded(self, clip: Tensor, covered: Tensor) -> Maps:
        frames, side = self.settings.block(clip)
        shape = (frames, clip.shape[1], side, side)
        with torch.no_grad():
            found: Tensor = (
                require_captum()
                .Occlusion(self.logits)
                .attribute(
                    clip[None],
                    sliding_window_shapes=shape,
                    strides=shape,
                    baselines=covered[None],
                    perturbations_per_eval=self.at_once,
                )
            )
        return np.asarray(found[:, ::frames, 0, ::side, ::side].float().cpu().numpy())

    def _integrated(self, clip: Tensor, covered: Tensor) -> tuple[Maps, Maps]:
        method = require_captum().IntegratedGradients(self.logits)
        frames, side = self.settings.block(clip)
        maps, missed = [], []
        with torch.inference_mode(mode=False), torch.enable_grad(), differentiable(self.model):
            whole, base = clip.clone(), covered.clone()
            criteria = self.logits(whole[None]).shape[1]
            for k in range(criteria):
                found, delta = method.attribute(
                    whole[None],
                    baselines=base[None],
                    target=k,
                    n_steps=self.settings.gradient_steps,
                    internal_batch_size=max(2, self.at_once // 2),
                    return_convergence_delta=True,
                )
                by_pixel = found[0].detach().float().sum(dim=1)
                maps.append(block_sums(by_pixel, frames=frames, side=side).cpu().numpy())
                missed.append(float(delta.detach().abs().sum()))
        return np.stack(maps).astype(np.float32), np.array(missed, dtype=np.float32)

    def _curves(
        self, clip: Tensor, covered: Tensor, *, order: NDArray[np.intp], blocks: tuple[int, ...]
    ) -> NDArray[np.float64]:
        """Logits `(2, k, steps + 1)` while blocks are covered, or shown, in an order."""
        steps, frames_side = self.settings.curve_steps, self.settings.block(clip)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        done = np.round(np.linspace(0, len(order), steps + 1))
        first = torch.from_numpy((rank[None] < done[:, None]).reshape(-1, *blocks)).to(clip.device)
        found = []
        for hidden in (first, ~first):
            logits = [
                self.logits(torch.where(_pixels(part, like=clip, block=frames_side), covered, clip))
                for part in torch.split(hidden, self.at_once)
            ]
            found.append(torch.cat(logits).T.double().cpu().numpy())
        return np.stack(found)


def block_sums(values: Float[Tensor, "t h w"], *, frames: int, side: int) -> Float[Tensor, "s y x"]:
    """Sums over blocks; those at the end may be smaller."""
    t, h, w = values.shape
    padded = F.pad(values, (0, -w % side, 0, -h % side, 0, -t % frames))
    t, h, w = padded.shape
    return padded.reshape(t // frames, frames, h // side, side, w // side, side).sum(dim=(1, 3, 5))


def _pixels(
    blocks: Bool[Tensor, "m s y x"], *, like: Float[Tensor, "t c h w"], block: tuple[int, int]
) -> Bool[Tensor, "m t 1 h w"]:
    """Each block's value on every pixel of it."""
    (frames, side), (t, _, h, w) = block, like.shape
    wide = blocks.repeat_interleave(frames, dim=1).repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
    return wide[:, :t, None, :h, :w]


@contextlib.contextmanager
def differentiable(model: Classifier) -> Iterator[None]:
    """Nothing of the model stops a gradient on its way to the clip for a while: a frozen backbone is given a parameter
    without elements, so that one of its parameters trains, and no pooling lets go of its tokens' graph."""
    letting_go = [module for module in model.modules() if getattr(module, "detached", False)]
    with contextlib.ExitStack() as stack:
        for module in letting_go:
            stack.callback(setattr, module, "detached", True)
            module.detached = False  # type: ignore[assignment]
        if not model.backbone_trains:
            model.backbone.register_parameter("with_graph", nn.Parameter(torch.zeros(0)))
            stack.callback(delattr, model.backbone, "with_graph")
        yield
