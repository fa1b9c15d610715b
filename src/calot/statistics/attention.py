"""Attention by layer and head, from the table of clips: means, ratios, paired differences, intervals over videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.errors import CalotError
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import plain_interval, proportion_interval, without_each

Array = NDArray[np.float64]

#: Whose attention a row is.
RUN, RANDOM_WEIGHTS, UNIFORM, SHUFFLED, AGAINST = "run", "random", "uniform", "shuffled", "against"
#: The set of tokens that are black in every frame.
BORDER = "border"
#: Statistics that a run's rows hold and those of shuffled frames may lack.
PER_CLIP = (
    *("entropy", "averaged_entropy", "entropy_before_rotary", "averaged_before_rotary", "gap_nats", "gap_share"),
    *("distance_tokens", "distance_pixels", "distance_bins", "distance_seconds", "window_share"),
    *("largest", "on_the_most"),
)
#: The entropy of the map averaged over heads, queries and clips, as the study reported it.
STUDY, STUDY_BEFORE = "study_entropy", "study_entropy_before_rotary"
#: Statistics that are shares, whose intervals are on the logit scale.
_SHARES = (
    *("entropy", "averaged_entropy", "entropy_before_rotary", "averaged_before_rotary", "window_share"),
    *("on_the_most", "apart", STUDY, STUDY_BEFORE),
)

_NO_MASK = "no clip has a mask"
_ABSENT = "no clip shows any of it"


@dataclass(frozen=True, kw_only=True)
class AttentionMean:
    """One statistic of one variant: of a head, or the mean over heads where `head` is None; `less` names what was
    subtracted on the same clips, where it is a difference."""

    variant: str
    less: str | None
    layer: int
    head: int | None
    statistic: str
    interval: Interval
    clips: int
    videos: int

    def row(self) -> dict[str, Any]:
        """Plain values, for a table."""
        own = {k: getattr(self, k) for k in ("variant", "less", "layer", "head", "statistic")}
        found = {k: getattr(self.interval, k) for k in ("value", "low", "high", "reason")}
        return own | found | {"clips": self.clips, "videos": self.videos}


#: Before a set's name: the attention on it if all that falls on tokens with a place were spread evenly over these.
_SEEN = "even_"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sums:
    """Of one statistic and variant, sums over each video's clips `(videos, layers, heads)`, the heads' mean last."""

    above: Array
    below: Array
    clips: Array  # videos
    heads: NDArray[np.int64]  # how many each layer has

    @property
    def value(self) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.above.sum(axis=0) / self.below.sum(axis=0))

    @property
    def left_out(self) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(without_each(self.above) / without_each(self.below))


def summarise_attention(
    heads: pl.DataFrame, received: pl.DataFrame, *, changes: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Every statistic of every variant by layer and head, and differences between the run and what stands beside it.

    `heads`, `received` and `changes` are as `calot.analysis` makes them. The columns are those of `AttentionMean`.
    """
    videos = sorted(set(heads["video"].to_list()))
    variants = heads["variant"].unique(maintain_order=True).to_list()
    found = list(_means(heads, videos=videos, variants=variants))
    found += _study(received, videos=videos, layers=sorted(set(heads["layer"].to_list())))
    if changes is not None:
        found += _changes(changes, videos=videos)
    return pl.DataFrame([one.row() for one in found], schema_overrides=_SCHEMA, infer_schema_length=None)


_SCHEMA = {"variant": pl.String, "less": pl.String, "layer": pl.Int64, "head": pl.Int64, "reason": pl.String}
_SCHEMA |= {"value": pl.Float64, "low": pl.Float64, "high": pl.Float64}


def _means(heads: pl.DataFrame, *, videos: Sequence[str], variants: Sequence[str]) -> Iterator[AttentionMean]:
    sets = [name.removeprefix("mass_") for name in heads.columns if name.startswith("mass_")]
    wanted = [name for name in PER_CLIP if name in heads.columns]
    placed = pl.col("placed") if "placed" in heads.columns else pl.lit(1.0)
    heads = heads.with_columns((pl.col(f"area_{name}") * placed).alias(f"{_SEEN}{name}") for name in sets)
    ratios = {f"enrichment_{name}": (f"mass_{name}", f"{_SEEN}{name}") for name in sets}
    wanted += [*(f"mass_{name}" for name in sets), *(f"area_{name}" for name in sets), *ratios]
    for statistic in wanted:
        sums = {
            variant: _sums(heads.filter(pl.col("variant") == variant), statistic, ratios=ratios, videos=videos)
            for variant in variants
        }
        if statistic in PER_CLIP:  # what a variant was never asked for, unlike a class that no clip shows
            sums = {variant: one for variant, one in sums.items() if one.clips.any()}
        for variant, one in sums.items():
            yield from _each(one, variant=variant, statistic=statistic, by_head=variant in (RUN, AGAINST))
        for other in (RANDOM_WEIGHTS, SHUFFLED, AGAINST):
            if RUN in sums and other in sums and not statistic.startswith("area_"):
                by_head = other == AGAINST
                yield from _each(sums[RUN], less=other, than=sums[other], statistic=statistic, by_head=by_head)


def _sums(rows: pl.DataFrame, statistic: str, *, ratios: dict[str, tuple[str, str]], videos: Sequence[str]) -> _Sums:
    """Sums by video: of a statistic and of ones, or of both parts of a ratio; clips without it count for neither."""
    above, below = ratios.get(statistic, (statistic, None))
    layers, heads = int(rows["layer"].max()) + 1, 1 + int(rows["head"].max() or 0)  # type: ignore[arg-type]
    whole = rows.with_columns(head=pl.col("head").fill_null(0)).filter(pl.col(above).is_not_null())
    found = np.zeros((2, len(videos), layers, heads))
    place = {video: number for number, video in enumerate(videos)}
    where = (np.array([place[v] for v in whole["video"].to_list()], dtype=np.int64), *whole["layer", "head"])
    np.add.at(found[0], where, whole[above].to_numpy())
    np.add.at(found[1], where, np.ones(len(whole)) if below is None else whole[below].to_numpy())
    clips = np.zeros(len(videos))
    first = whole.filter((pl.col("layer") == pl.col("layer").min()) & (pl.col("head") == 0))
    np.add.at(clips, [place[v] for v in first["video"].to_list()], 1.0)
    both = np.concatenate([found, found.mean(axis=-1, keepdims=True)], axis=-1)
    own = np.zeros(layers, dtype=np.int64)
    np.maximum.at(own, rows["layer"].to_numpy(), rows["head"].fill_null(0).to_numpy() + 1)
    return _Sums(above=both[0], below=both[1], clips=clips, heads=own)


def _each(
    one: _Sums, *, statistic: str, by_head: bool, variant: str = RUN, less: str | None = None, than: _Sums | None = None
) -> Iterator[AttentionMean]:
    """A mean or a difference of means for every layer, and for every head where they are asked for."""
    some = one.clips > 0
    value, left_out = one.value, one.left_out[some]
    if than is not None:
        if value.shape != than.value.shape:
            raise CalotError(f"{less}: its layers or heads are not the run's; a difference needs the same backbone")
        value, left_out = value - than.value, left_out - than.left_out[some]
    last = value.shape[1] - 1
    for layer in range(value.shape[0]):
        for head in (*range(one.heads[layer]), last) if by_head else (last,):
            yield AttentionMean(
                variant=variant,
                less=less,
                layer=layer,
                head=None if head == last else head,
                statistic=statistic,
                interval=_interval(
                    statistic, float(value[layer, head]), left_out[:, layer, head], difference=than is not None
                ),
                clips=int(one.clips.sum()),
                videos=int(some.sum()),
            )


def _interval(statistic: str, value: float, left_out: Array, *, difference: bool) -> Interval:
    if not np.isfinite(value):
        return Interval(value=None, low=None, high=None, reason=_NO_MASK if not len(left_out) else _ABSENT)
    if difference or statistic == "cka":
        return plain_interval(value, left_out=left_out)
    if statistic in _SHARES or statistic.startswith(("mass_", "area_")):
        return proportion_interval(value, left_out=left_out)
    return plain_interval(value, left_out=left_out, floor=0.0)


def _study(received: pl.DataFrame, *, videos: Sequence[str], layers: Sequence[int]) -> Iterator[AttentionMean]:
    """Entropy of the map averaged over heads, queries and all clips, as a share of its maximum."""
    for (variant, rotary), rows in received.group_by(["variant", "rotary"], maintain_order=True):
        for layer in layers:
            mine = rows.filter(pl.col("layer") == layer).sort("video")
            maps, clips = np.array(mine["received"].to_list(), dtype=np.float64), mine["clips"].to_numpy()
            whole = _entropy(maps.sum(axis=0, keepdims=True) / clips.sum())[0]
            with np.errstate(divide="ignore", invalid="ignore"):
                left_out = _entropy(without_each(maps) / without_each(clips.astype(np.float64))[:, None])
            name = STUDY if rotary else STUDY_BEFORE
            yield AttentionMean(
                variant=str(variant),
                less=None,
                layer=layer,
                head=None,
                statistic=name,
                interval=_interval(name, float(whole), left_out, difference=False),
                clips=int(clips.sum()),
                videos=len(clips),
            )


def _entropy(maps: Array) -> Array:
    """Of each row, over the log of its length."""
    safe = np.where(maps > 0, maps, 1.0)
    return np.asarray(-(maps * np.log(safe)).sum(axis=1) / np.log(maps.shape[1]))


def _changes(changes: pl.DataFrame, *, videos: Sequence[str]) -> Iterator[AttentionMean]:
    for statistic in ("apart", "cka"):
        sums = _sums(changes, statistic, ratios={}, videos=videos)
        yield from _each(sums, variant=RUN, less=AGAINST, statistic=statistic, by_head=statistic == "apart")
