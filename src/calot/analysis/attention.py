"""Where an encoder looks: one row of numbers per clip, layer and head, from the queries and keys that it really used.

Beside the run's own attention stand that of the same network with random weights, uniform attention, and the run's on
the same clips with their frames shuffled in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from calot.analysis.token_places import class_weights, on_grid
from calot.data.clips import ClipTable
from calot.data.dataset import ClipDataset, batches, uploaded
from calot.errors import CalotError
from calot.models.attention import before_rotation, watched
from calot.models.attention_maps import MapSums, TokenPlaces, dark_tokens, map_sums, uniform_attention
from calot.models.classifier import Classifier
from calot.out_of_memory import ClipsAtATime, while_scoring
from calot.statistics.attention import BORDER, RUN, SHUFFLED, UNIFORM
from calot.types import Batch, QueryKey

#: A place whose pixels' brightest channels average at most this many grey levels is black.
DARK_LEVEL = 16.0

#: Tokens of all clips that are encoded at a time.
_TOKENS = 2048


@dataclass(frozen=True, kw_only=True)
class AttentionPass:
    """One model on the clips of a data set, whose masks (if any) hold classes as they are on disk, the nearest alone.

    `variant` is the name that the rows get. Where it is `RUN`, uniform attention on the same clips comes with it; where
    it is `SHUFFLED`, each clip's frames are put into another order, the same one every time.
    """

    model: Classifier
    dataset: ClipDataset
    accelerator: Accelerator
    variant: str
    workers: int = 0

    @cached_property
    def places(self) -> TokenPlaces:
        """Of the encoder's output."""
        return TokenPlaces(grid=self.model.backbone.spec.grid)

    def places_in(self, layer: int) -> TokenPlaces:
        """Of one layer's attention."""
        return TokenPlaces(grid=self.model.backbone.spec.grid_of(layer))

    def clip_batches(self) -> Iterator[Batch]:
        """The clips on the device, a few at a time, with their frames as this variant shows them."""
        size = max(1, _TOKENS // math.prod(self.places.grid))
        order, gpu = np.arange(len(self.dataset)), self.accelerator.device.type == "cuda"
        loaded = batches(self.dataset, order=order, epoch=0, batch_size=size, workers=self.workers, pin=gpu)
        for _, batch in uploaded(loaded, device=self.accelerator.device):
            yield _shuffled(batch) if self.variant == SHUFFLED else batch

    def sets(self, batch: Batch, *, grid: tuple[int, int, int]) -> dict[str, Float[Tensor, "b n"]]:
        """Token sets on a grid by name, as weights: the share of a token's pixels that are of a class, and the black
        surround; NaN throughout where a clip has no mask."""
        dark = dark_tokens(batch.video, grid=grid, level=DARK_LEVEL).float()
        found = {} if batch.masks is None else class_weights(batch.masks.values[:, 0], rows=grid[1], columns=grid[2])
        if batch.masks is not None:
            absent = ~batch.masks.complete
            found = {name: weights.masked_fill(absent[:, None], math.nan) for name, weights in found.items()}
        return {name: weights.repeat(1, grid[0]) for name, weights in (found | {BORDER: dark}).items()}

    def times(self, batch: Batch) -> Float[Tensor, "b t"]:
        """Seconds at which each clip's temporal bins are, by the numbers of their frames."""
        table = self.dataset.table
        frames = torch.from_numpy(table.clip_frame_numbers[batch.index.cpu().numpy()].astype(np.float64))
        seconds = frames.reshape(len(frames), self.places.grid[0], -1) / table.frames_per_second
        return seconds.mean(dim=2).to(batch.index.device)

    def clip(self, index: int) -> str:
        """A clip as a message names it."""
        found = self.dataset.table.clip(index)
        return f"video {found.video} frame {found.frame}"


@dataclass(frozen=True, kw_only=True)
class AttentionTables:
    """`heads`: a row per variant, clip, layer and head (none for uniform attention, whose heads are alike).

    `received`: per variant, before or after the rotary embedding, video and layer, the map averaged over queries and
    heads, summed over that video's `clips`; over all keys. `maps`: the same of each clip, over the grid's tokens alone
    `(clips, layers, t, h, w)`, of the variant that was asked for.
    """

    heads: pl.DataFrame
    received: pl.DataFrame
    maps: NDArray[np.float32]


@dataclass(kw_only=True)
class _Collected:
    """What was read so far, by layer of one batch, and over all batches."""

    rows: list[pl.DataFrame] = field(default_factory=list)
    received: dict[tuple[str, bool, str, int], NDArray[np.float64]] = field(default_factory=dict)
    clips: dict[str, int] = field(default_factory=dict)
    maps: list[NDArray[np.float32]] = field(default_factory=list)


@torch.inference_mode()
def read_attention(
    one: AttentionPass,
    *,
    on_clips: Callable[[int, int], None] | None = None,
    at_a_time: ClipsAtATime | None = None,
) -> AttentionTables:
    """One pass over the clips, layer by layer as the model computes, so that no more than one layer's queries and keys
    are held.

    Raises CalotError for a backbone without a seam, and where a number is not finite, naming layer and clip.
    """
    one.model.eval()
    collected, done = _Collected(), 0
    at_a_time = at_a_time or while_scoring()
    for batch in one.clip_batches():
        where = f"reading attention, {one.variant}"
        for found, part in at_a_time.parts(batch, compute=lambda part: _read_layers(one, part), where=where):
            _keep(one, part, found=found, into=collected)
            done += len(part)
            if on_clips is not None:
                on_clips(done, len(one.dataset))
    return _tables(one, collected)


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """One layer of one batch: columns `(b, heads)` by variant, averaged maps by variant and rotary embedding, and the
    run's map on the grid of the encoder's output."""

    columns: dict[str, dict[str, NDArray[np.float64]]]
    received: dict[tuple[str, bool], NDArray[np.float64]]
    maps: NDArray[np.float64]


def _read_layers(one: AttentionPass, batch: Batch) -> dict[int, _Layer]:
    """A forward pass during which each layer's attention is summed up and let go."""
    grids = {one.model.backbone.spec.grid_of(layer) for layer in range(len(one.model.backbone.layers))}
    sets, times, found = {grid: one.sets(batch, grid=grid) for grid in grids}, one.times(batch), dict[int, _Layer]()
    with ExitStack() as around:
        turned = one.model.backbone.spec.rotary and one.variant != SHUFFLED
        plain = around.enter_context(before_rotation(one.model)) if turned else None

        def watch(number: int, qk: QueryKey) -> None:
            _require_finite_scores(qk, one=one, layer=number, batch=batch)
            places, before = one.places_in(number), None if plain is None else plain(number, qk)
            read = _read_layer(one, qk, places=places, sets=sets[places.grid], times=times, plain=before)
            found[number] = read  # a mask in the encoder has it run twice: the second pass is the model's own

        around.enter_context(watched(one.model, watch=watch))
        around.enter_context(one.accelerator.autocast())
        one.model.encode(batch)
    return dict(sorted(found.items()))


def _read_layer(
    one: AttentionPass,
    qk: QueryKey,
    *,
    places: TokenPlaces,
    sets: dict[str, Tensor],
    times: Tensor,
    plain: QueryKey | None,
) -> _Layer:
    weights = torch.stack([w.nan_to_num(0.0) for w in sets.values()], dim=1)
    read = {one.variant: qk} | ({UNIFORM: uniform_attention(qk)} if one.variant == RUN else {})
    sums = {name: map_sums(held, places=places, sets=weights) for name, held in read.items()}
    received = {(name, True): _averaged_map(total) for name, total in sums.items()}
    pixels = one.model.backbone.spec.size / places.grid[1]
    columns = {name: _columns(total, sets=sets, times=times, pixels=pixels) for name, total in sums.items()}
    if plain is not None:
        before = map_sums(plain, places=places, sets=weights[:, :0])
        columns[one.variant] |= {
            "entropy_before_rotary": before.normalised,
            "averaged_before_rotary": before.averaged / math.log(before.received.shape[-1]),
        }
        received[one.variant, False] = _averaged_map(before)
    on_cpu = {name: {k: v.cpu().numpy() for k, v in held.items()} for name, held in columns.items()}
    own = received[one.variant, True][:, : math.prod(places.grid)]
    return _Layer(columns=on_cpu, received=received, maps=on_grid(own, grid=places.grid, wanted=one.places.grid))


def _averaged_map(sums: MapSums) -> NDArray[np.float64]:
    """Each clip's map averaged over heads and queries, `(b, keys)`."""
    return sums.received.mean(dim=1).cpu().numpy()


def _columns(
    sums: MapSums, *, sets: dict[str, Tensor], times: Tensor, pixels: float
) -> dict[str, Float[Tensor, "b heads"]]:
    """The columns of the table, by name (docs/attention.md says what each is); a token's side is so many pixels."""
    keys = math.log(sums.received.shape[-1])
    averaged, gap = sums.averaged, sums.averaged - sums.entropy
    every = torch.ones_like(sums.entropy)
    bins = torch.arange(times.shape[1], device=times.device, dtype=times.dtype).expand_as(times)
    found = {
        "entropy": sums.normalised,
        "entropy_nats": sums.entropy,
        "averaged_entropy": averaged / keys,
        "gap_nats": gap,
        "gap_share": gap / keys,
        "distance_tokens": sums.distance,
        "distance_pixels": sums.distance * pixels,
        "distance_bins": sums.seconds(bins),
        "distance_seconds": sums.seconds(times),
        "window_share": sums.window,
        "largest": sums.largest,
        "on_the_most": sums.on_the_most,
    }
    found["placed"] = sums.received[..., : sums.tokens].sum(dim=-1)
    for number, (name, weights) in enumerate(sets.items()):
        area = weights.double().mean(dim=1)[:, None]
        found[f"mass_{name}"] = torch.where(area.isnan(), area, sums.mass[..., number])
        found[f"area_{name}"] = area * every
    return found


def _keep(one: AttentionPass, batch: Batch, *, found: dict[int, _Layer], into: _Collected) -> None:
    """Add one batch's layers; whatever is not finite ends it."""
    table, indices = one.dataset.table, batch.index.cpu().numpy()
    videos = table.videos[indices]
    maps = []
    for layer, read in found.items():
        for variant, columns in read.columns.items():
            _require_finite(columns, one=one, layer=layer, indices=indices)
            into.rows.append(_rows(columns, variant=variant, layer=layer, table=table, indices=indices))
        for (variant, rotary), received in read.received.items():
            for place, video in enumerate(videos.tolist()):
                key = (variant, rotary, video, layer)
                into.received[key] = into.received.get(key, 0.0) + received[place]
        maps.append(read.maps)
    into.maps.append(np.stack(maps, axis=1).astype(np.float32))
    for video in videos.tolist():
        into.clips[video] = into.clips.get(video, 0) + 1


def _rows(
    columns: dict[str, NDArray[np.float64]],
    *,
    variant: str,
    layer: int,
    table: ClipTable,
    indices: NDArray[np.int64],
) -> pl.DataFrame:
    clips, heads = columns["entropy"].shape
    head: Any = [None] * clips if variant == UNIFORM else np.tile(np.arange(heads), clips)
    frame = {
        "variant": variant,
        "video": np.repeat(table.videos[indices], heads).tolist(),
        "frame": np.repeat(table.frame_numbers[indices], heads),
        "layer": layer,
        "head": pl.Series(head, dtype=pl.Int64),
    }
    values = {k: pl.Series(v.reshape(-1)).fill_nan(None) for k, v in columns.items()}
    return pl.DataFrame(frame | values)


def _tables(one: AttentionPass, collected: _Collected) -> AttentionTables:
    rows = [
        {"variant": variant, "rotary": rotary, "video": video, "layer": layer, "clips": collected.clips[video]}
        | {"received": received.tolist()}
        for (variant, rotary, video, layer), received in collected.received.items()
    ]
    maps = np.concatenate(collected.maps)
    return AttentionTables(
        heads=pl.concat(collected.rows, how="diagonal"),
        received=pl.DataFrame(rows),
        maps=maps.reshape(*maps.shape[:2], *one.places.grid),
    )


def _require_finite_scores(qk: QueryKey, *, one: AttentionPass, layer: int, batch: Batch) -> None:
    sound = (torch.isfinite(qk.query) & torch.isfinite(qk.key)).reshape(len(batch), -1).all(dim=1)
    if not bool(sound.all()):
        clip = one.clip(int(batch.index[~sound][0]))
        raise CalotError(
            f"layer {layer}, {clip} ({one.variant}): its queries or keys are not finite: the weights have diverged, "
            "or the precision does not reach. Train again, or use compute.precision=fp32."
        )


def _require_finite(
    columns: dict[str, NDArray[np.float64]], *, one: AttentionPass, layer: int, indices: NDArray[np.int64]
) -> None:
    for name, values in columns.items():
        wrong = np.isnan(values) & ~name.startswith(("mass_", "area_")) | np.isinf(values)
        if wrong.any():
            clip, head = (int(place[0]) for place in np.nonzero(wrong))
            raise CalotError(
                f"layer {layer}, head {head}, {one.clip(int(indices[clip]))} ({one.variant}): {name} is "
                f"{values[clip, head]}. Its queries and keys are finite: report this as a bug in calot."
            )


def _shuffled(batch: Batch) -> Batch:
    """The same clips with their frames in another order, drawn from each clip's own place in the table."""
    frames = batch.video.shape[1]
    orders = []
    for index in batch.index.tolist():
        rng, order = np.random.default_rng([0, index]), np.arange(frames)
        while frames > 1 and (order == np.arange(frames)).all():
            order = rng.permutation(frames)
        orders.append(order)
    chosen = torch.from_numpy(np.stack(orders)).to(batch.video.device)
    return replace(batch, video=torch.stack([clip[o] for clip, o in zip(batch.video, chosen, strict=True)]))


def clips_over_videos(table: ClipTable, *, masked: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """At most `count` clips: one of each video, then a second one, and so on, those with a mask first; in the order of
    the table, and the same every time."""
    drawn = np.random.default_rng(0).permutation(len(table))
    order = drawn[np.argsort(~masked[drawn], kind="stable")]
    turn: dict[str, int] = {}
    ranked: list[tuple[int, bool, int, int]] = []
    for place in order.tolist():
        video = str(table.videos[place])
        ranked.append((turn.get(video, 0), bool(~masked[place]), len(ranked), place))
        turn[video] = turn.get(video, 0) + 1
    return np.sort(np.array([place for *_, place in sorted(ranked)[:count]], dtype=np.int64))
