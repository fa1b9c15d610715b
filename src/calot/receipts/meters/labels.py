"""Meters of what changes training targets: mixing, read off frames and labels apart, and smoothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calot.data.mixing import Mixing
from calot.receipts.meters.band import DoseBand, Values, never, share
from calot.receipts.meters.frames import Meter
from calot.types import Batch

_DRAWS = 20_000
_PLAIN = 0.01  # a share nearer than this to 0 or 1 hardly shows in eight bits
_SEVERAL = 4  # fewer clips, each mixed by a share of its own, may well be mixed by much the same
_EQUAL = 0.999  # of the pixels that changed, those that are another clip's to the bit, where a box of it was cut in
_ROUNDING = 1 / 12  # squared, per value: what eight bits leave of any mix
_APART = "difference between the share in frames and in labels"


@dataclass(frozen=True)
class _Mix:
    """How one clip was mixed: with which other clip, and what it kept of itself, from `least` to `most`.

    A cut box is known to hold every pixel that changed, and no pixel that would have changed and did not.
    """

    kind: str
    partner: int
    least: float
    most: float


def mixing_meter(mixing: Mixing) -> Meter:
    """What each clip kept of itself, from its frames, and whether its labels and masks were mixed by the same."""

    def read(before: Batch, after: Batch) -> Values:
        told = [_mixes(before.video[:, 0], after.video[i, 0], own=i) for i in range(len(before))]
        mixes = [found[0] if found else None for found in told]
        kinds = [m.kind for m in mixes if m is not None]
        values: Values = {
            "share of batches under mixup": [float("mixup" in kinds)],
            "share of batches under cutmix": [float("cutmix" in kinds)],
            _APART: [_labels_apart(before, after, i, found) for i, found in enumerate(told)],
        }
        for kind in ("mixup", "cutmix"):
            found = [m for m in mixes if m is not None and m.kind == kind]
            kept = np.array([m.most for m in found if kind == "cutmix" or _PLAIN < m.most < 1 - _PLAIN])
            if not len(kept):
                continue
            each = kept if mixing.per_clip else np.median(kept, keepdims=True)
            middle = 0.5 if kind == "mixup" else 0.0
            name = f"{kind}: squared distance of the kept share from {middle:g}"
            values[name] = ((each - middle) ** 2).tolist()
            if not mixing.per_clip or len(kept) >= _SEVERAL:
                spread = max(0.0, max(m.least for m in found) - min(m.most for m in found))
                values[f"{kind}: spread of the kept share within a batch"] = [spread]
        if before.masks is not None and after.masks is not None and kinds:
            values["masks of the other clip that are missing"] = [float(_layers(after) <= _layers(before))]
        return values

    apart = 0.02  # of 8 bits, a partner's share can be told to about this
    rng = np.random.default_rng(0)
    lam = rng.beta(mixing.mixup_alpha, mixing.mixup_alpha, _DRAWS)
    plain = (lam > _PLAIN) & (lam < 1 - _PLAIN)
    unseen = 0.02 + mixing.mixup_probability * float(1 - plain.mean())
    bands = {
        "share of batches under mixup": share(mixing.mixup_probability, slack=unseen),
        "share of batches under cutmix": share(mixing.cutmix_probability, slack=unseen),
        _APART: never(apart),
        "masks of the other clip that are missing": never().optional(),
    }
    for kind, kept, middle in (("mixup", lam[plain], 0.5), ("cutmix", _kept_by_cut(mixing, rng), 0.0)):
        squares = (kept - middle) ** 2
        name = f"{kind}: squared distance of the kept share from {middle:g}"
        bands[name] = DoseBand(float(squares.mean()), sd=float(squares.std()), slack=0.02).optional()
        spread = f"{kind}: spread of the kept share within a batch"
        bands[spread] = (DoseBand(0.53, slack=0.48) if mixing.per_clip else never(0.02)).optional()
    return Meter(bands, read)


def _kept_by_cut(mixing: Mixing, rng: np.random.Generator) -> np.ndarray:
    """1 - the area of a square of 1 - lam about a uniform centre that the frame's edges cut off."""
    half = np.sqrt(1 - rng.beta(mixing.cutmix_alpha, mixing.cutmix_alpha, _DRAWS)) / 2
    centres = rng.random((2, _DRAWS))
    height, width = np.minimum(1, centres + half) - np.maximum(0, centres - half)
    return np.asarray(1 - height * width)


def _mixes(frames: Tensor, now: Tensor, *, own: int) -> list[_Mix]:
    """How a frame can have been made from those of its batch (b, c, h, w), the best explanation first; none where it is
    its own. There are several where clips are equal in what was taken of them, as in black borders."""
    changed = (now != frames[own]).any(dim=0)
    if not changed.any():
        return []
    same = (frames[:, :, changed] == now[:, changed]).float().mean(dim=(1, 2))
    same[own] = 0.0
    if float(same.max()) > _EQUAL:
        partners = [int(p) for p in same.argsort(descending=True, stable=True) if float(same[p]) > _EQUAL]
        return [_cut(frames[own], frames[p], now, changed=changed, partner=p) for p in partners]
    mine, others = frames[own].float().flatten(), frames.float().flatten(1)
    target, apart = now.float().flatten(), mine - others
    kept = ((target - others) * apart).sum(dim=1) / apart.square().sum(dim=1).clamp_min(1e-6)
    rest = ((target - others) - kept[:, None] * apart).square().sum(dim=1)
    rest[own] = torch.inf
    most = max(float(rest.min()), _ROUNDING * target.numel())
    partners = [int(p) for p in rest.argsort(stable=True) if float(rest[p]) <= most]
    return [_Mix("mixup", p, float(kept[p]), float(kept[p])) for p in partners]


def _cut(mine: Tensor, other: Tensor, now: Tensor, *, changed: Tensor, partner: int) -> _Mix:
    """The least and the largest box that explains which pixels (h, w) `changed`."""
    rows, columns = changed.any(dim=1).nonzero(), changed.any(dim=0).nonzero()
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    least = (bottom - top) * (right - left)
    kept = ((mine != other) & (now == mine)).any(dim=0)
    while top > 0 and not kept[top - 1, left:right].any():
        top -= 1
    while bottom < len(kept) and not kept[bottom, left:right].any():
        bottom += 1
    while left > 0 and not kept[top:bottom, left - 1].any():
        left -= 1
    while right < kept.shape[1] and not kept[top:bottom, right].any():
        right += 1
    largest = (bottom - top) * (right - left)
    return _Mix("cutmix", partner, 1 - largest / kept.numel(), 1 - least / kept.numel())


def _labels_apart(before: Batch, after: Batch, clip: int, mixes: list[_Mix]) -> float:
    """How far a clip's labels are from those that its frames' mix would give, by what fits them best."""
    mine, now = before.labels[clip], after.labels[clip]
    if not mixes:
        return 0.0 if torch.equal(mine, now) else _unseen(before, now, clip)
    return min(_outside(mine, before.labels[mix.partner], now, mix=mix) for mix in mixes)


def _outside(mine: Tensor, theirs: Tensor, now: Tensor, *, mix: _Mix) -> float:
    ends = torch.stack([kept * mine + (1 - kept) * theirs for kept in (mix.least, mix.most)])
    outside = torch.maximum(ends.amin(dim=0) - now, now - ends.amax(dim=0))
    return max(0.0, float(outside.max())) if len(now) else 0.0


def _unseen(before: Batch, now: Tensor, clip: int) -> float:
    """The same where no pixel shows a mix: a box between equal pixels, or a share too small for eight bits."""
    frames, own = before.video[:, 0], before.video[clip, 0]
    boxed = (frames == own).all(dim=1).float().mean(dim=(1, 2))
    faint = 0.5 / (frames.float() - own.float()).abs().flatten(1).amax(dim=1).clamp_min(0.5)
    hidden = torch.maximum(boxed, faint).tolist()
    return min(
        _outside(before.labels[clip], before.labels[p], now, mix=_Mix("unseen", p, 1 - share_of, 1.0))
        for p, share_of in enumerate(hidden)
    )


def _layers(batch: Batch) -> int:
    return 0 if batch.masks is None else batch.masks.place.shape[1]


def smoothing_meter(strength: float) -> Meter:
    """By how much labels moved towards 1/2, as a share of the way."""
    name, rest = "share of the way to 1/2", "labels off that way"

    def read(before: Batch, after: Batch) -> Values:
        way = (0.5 - before.labels).double()
        moved = (after.labels - before.labels).double()
        far = way.abs() > 0.05
        gone = (moved / way)[far]
        off = (moved - strength * way).abs()
        return {name: gone.tolist(), rest: [float(off.max())] if off.numel() else []}

    return Meter({name: DoseBand(strength, slack=1e-4), rest: never(1e-6).optional()}, read)
