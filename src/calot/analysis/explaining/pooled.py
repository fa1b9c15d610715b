"""The weights that a run's pooling gives to tokens, clip by clip: read at the tap point of the real module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from calot.analysis.capture import capture
from calot.analysis.explaining.part import Subject
from calot.criteria import CRITERIA
from calot.models.classifier import Classifier
from calot.statistics.metrics import sigmoid
from calot.types import Batch, Outputs

#: The last word of every pooling's tap point, whose output is its weights after softmax, `b h n`.
TAP = "attention_map"


@dataclass(frozen=True, kw_only=True, eq=False)
class PooledClips:
    """`rows`: one per clip and tap point; `maps`: the mean over heads, `(taps, clips, t, h, w)`.

    Columns: clip, video, frame, tap; entropy (mean over heads of each head's, a share of its maximum),
    averaged_entropy (of the map averaged over heads: the study's), std, max and times_uniform (max over the mean) of
    that map, bin_0 ... (its sum by temporal bin), preferred_bin, last_bin; confidence (mean over criteria of the
    probability of what was called), and by criterion label, score and right. `bins` is their number, `tokens` how many
    there are.
    """

    rows: pl.DataFrame
    maps: NDArray[np.float32]
    taps: tuple[str, ...]
    grid: tuple[int, int, int]


def pooling_taps(model: Classifier) -> tuple[str, ...]:
    """The tap points of a model's pooling; none where it has no weights."""
    names = [f"pooling.{name}" for name, _ in model.pooling.named_modules() if name]
    return tuple(name for name in names if name.rpartition(".")[2] == TAP)


def without_weights(model: Classifier) -> str:
    """The sentence for a pooling that weighs nothing."""
    name = type(model.pooled_by).__name__
    return f"This run pools by {name}, which has no weights over tokens to look at: it reads every token alike."


def read_pooled(subject: Subject, clips: NDArray[np.int64], *, label: str) -> PooledClips:
    """Show these places of the subject's table to its model, and read what its pooling weighs."""
    taps = pooling_taps(subject.model)
    dataset = subject.dataset(clips)
    rows: list[pl.DataFrame] = []
    maps: list[NDArray[np.float32]] = []
    grid = (1, 1, 1)
    with capture(subject.model, points=taps) as seen:
        for outputs, batch in subject.passes(dataset, label=label):
            grid = outputs.tokens.grid
            places = clips[batch.index.cpu().numpy()]
            allowed = _allowed(subject.model, outputs)
            weights = [seen[tap][-1].float() for tap in taps]
            for held in seen.values():
                held.clear()
            shown = _Shown(subject=subject, places=places, outputs=outputs, batch=batch)
            rows += [shown.rows(tap, weights=w, allowed=allowed) for tap, w in zip(taps, weights, strict=True)]
            maps.append(torch.stack([w.mean(dim=1) for w in weights]).cpu().numpy())
    joined = np.concatenate(maps, axis=1)
    return PooledClips(rows=pl.concat(rows), maps=joined.reshape(*joined.shape[:2], *grid), taps=taps, grid=grid)


def _allowed(model: Classifier, outputs: Outputs) -> Float[Tensor, " b"]:
    """How many tokens each clip's pooling may attend to: hard masking leaves some out."""
    tokens, kept = outputs.tokens, outputs.kept
    if model.masking is not None and kept is not None:
        tokens = model.masking.pooled(replace(tokens, keep=None), kept)
    if tokens.keep is None:
        return torch.full((len(tokens.values),), float(tokens.values.shape[1]), device=tokens.values.device)
    return tokens.keep.sum(dim=1).float()


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """One batch as it was shown."""

    subject: Subject
    places: NDArray[np.int64]
    outputs: Outputs
    batch: Batch

    def rows(self, tap: str, *, weights: Float[Tensor, "b h n"], allowed: Float[Tensor, " b"]) -> pl.DataFrame:
        mean = weights.mean(dim=1)
        most = allowed.log().clamp(min=1e-12)
        bins = mean.reshape(len(mean), self.outputs.tokens.grid[0], -1).sum(dim=2).cpu().numpy()
        table = self.subject.table
        columns: dict[str, object] = {
            "clip": [self.subject.clip_name(i) for i in self.places.tolist()],
            "video": table.videos[self.places].tolist(),
            "frame": table.frame_numbers[self.places],
            "tap": tap,
            "entropy": (_entropy(weights).mean(dim=1) / most).clamp(max=1.0).cpu().numpy().astype(np.float64),
            "averaged_entropy": (_entropy(mean) / most).clamp(max=1.0).cpu().numpy().astype(np.float64),
            "std": mean.std(dim=1, correction=0).cpu().numpy().astype(np.float64),
            "max": mean.max(dim=1).values.cpu().numpy().astype(np.float64),
        }
        columns["times_uniform"] = columns["max"] * allowed.cpu().numpy()
        columns |= {f"bin_{t}": bins[:, t].astype(np.float64) for t in range(bins.shape[1])}
        columns |= {"preferred_bin": bins.argmax(axis=1), "last_bin": bins[:, -1].astype(np.float64)}
        return pl.DataFrame(columns | self._scores())

    def _scores(self) -> dict[str, object]:
        probability = sigmoid(self.outputs.logits.float().cpu().numpy())
        labels = self.subject.table.majority[self.places]
        found: dict[str, object] = {"confidence": np.maximum(probability, 1 - probability).mean(axis=1)}
        for k, name in enumerate(CRITERIA):
            found |= {f"label_{name}": labels[:, k], f"score_{name}": probability[:, k]}
            found[f"right_{name}"] = (probability[:, k] >= 0.5) == (labels[:, k] > 0)
        return found


def _entropy(weights: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """In nats, over the last axis."""
    nats: Tensor = torch.special.entr(weights.double()).sum(dim=-1)
    return nats


def bins_of(rows: pl.DataFrame) -> Sequence[str]:
    """The columns of the temporal bins, oldest first."""
    return [name for name in rows.columns if name.startswith("bin_")]


def frames_of_bins(subject: Subject, clips: NDArray[np.int64], *, bins: int) -> NDArray[np.uint8]:
    """A frame of each temporal bin of some clips, `(clips, bins, h, w, 3)`."""
    table = subject.table.select(clips)
    rows = table.frames[:, :: max(1, table.frames.shape[1] // bins)][:, :bins]
    return np.ascontiguousarray(subject.store().read(rows).transpose(0, 1, 3, 4, 2))
