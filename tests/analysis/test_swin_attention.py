"""SwinV2's attention as `calot attention` reads it, beside the probabilities that transformers' own code computes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn
from transformers.models.swinv2.modeling_swinv2 import window_reverse

from calot.analysis.token_places import class_weights, on_grid
from calot.errors import CalotError
from calot.models.adaptation import LoRA
from calot.models.attention import watched
from calot.models.attention_maps import TokenPlaces, map_sums, maps_apart
from calot.models.backbones.protocol import Backbone
from calot.models.backbones.swin import SwinPerFrame
from calot.models.windows import WALL
from calot.statistics.attention import RUN, summarise_attention
from calot.types import QueryKey

#: Grids of 16, 8, 4 and 2 tokens a side, windows of 4: layers 1, 3, 5 and 7 would be shifted, the last two are not.
SPEC = replace(SwinPerFrame(frames=3).at_tiny_scale(), width=64, heads=4)
SIDES = (16, 16, 8, 8, 4, 4, 2, 2)


@pytest.fixture
def backbone() -> Backbone:
    """With queries and keys that look somewhere, and heads of different sharpness."""
    torch.manual_seed(0)
    made = SPEC.build().eval()
    for number in range(SPEC.layers):
        for role in ("q", "k"):
            nn.init.normal_(made.linear(number, role).weight, std=0.3)
        own: Any = made.layers[number].attention.self
        nn.init.uniform_(own.logit_scale, 0.5, 3.0)
        nn.init.normal_(own.continuous_position_bias_mlp[2].weight, std=0.1)
    return made


@pytest.fixture
def clips() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, 3, 64, 64), dtype=torch.uint8, generator=generator)


@torch.no_grad()
def read(backbone: Backbone, clips: Tensor) -> tuple[dict[int, QueryKey], dict[int, Tensor]]:
    """What is handed out of each layer, and the probabilities that its dropout got."""
    seen, shares = dict[int, QueryKey](), dict[int, Tensor]()
    handles = [
        block.attention.self.dropout.register_forward_hook(lambda _m, given, _o, n=n: shares.__setitem__(n, given[0]))
        for n, block in enumerate(backbone.layers)
    ]
    with watched(backbone, watch=seen.__setitem__):
        backbone(clips)
    for handle in handles:
        handle.remove()
    return seen, shares


def test_maps_are_the_probabilities_that_transformers_computes(backbone: Backbone, clips: Tensor) -> None:
    seen, shares = read(backbone, clips)
    assert sorted(seen) == list(range(8))
    shifted = []
    for number, qk in seen.items():
        assert qk.between is not None
        scores = qk.scaling * qk.query @ qk.key.mT + qk.between
        torch.testing.assert_close(scores.softmax(-1), shares[number], rtol=1e-4, atol=1e-6)
        shifted.append(bool((qk.between < WALL / 2).any()))
        assert SPEC.grid_of(number) == (3, SIDES[number], SIDES[number])
    assert shifted == [False, True, False, True, False, False, False, False]


def test_adapters_on_queries_move_what_is_read(backbone: Backbone, clips: Tensor) -> None:
    plain, _ = read(backbone, clips)
    LoRA(targets=("q", "v"), rank=4).apply(backbone)
    backbone.eval()
    for name, parameter in backbone.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.5)
    adapted, shares = read(backbone, clips)
    for number, qk in adapted.items():
        assert qk.between is not None
        scores = qk.query @ qk.key.mT + qk.between
        torch.testing.assert_close(scores.softmax(-1), shares[number], rtol=1e-4, atol=1e-6)
        assert float(maps_apart(plain[number], qk).min()) > 1e-4
    assert maps_apart(plain[0], plain[0]).abs().max() == 0


def whole_maps(shares: Tensor, block: Any) -> Tensor:
    """Probabilities by window as one map over each frame's tokens, `(frames, heads, queries, keys)`, by transformers'
    own way back from windows."""
    (rows, columns), side, shift = block.input_resolution, block.window_size, block.shift_size
    windows, heads, size, _ = shares.shape
    per_frame = windows * size // (rows * columns)
    count = windows // per_frame
    spot = torch.arange(windows * size).reshape(windows, side, side, 1)
    placed = window_reverse(spot, side, rows, columns).roll((shift, shift), dims=(1, 2)).reshape(per_frame, -1)
    found = torch.zeros(per_frame, heads, rows * columns, rows * columns)
    for frame in range(per_frame):
        where = placed[frame] - frame * count * size
        own = shares[frame * count : (frame + 1) * count]
        dense = torch.block_diag(*own.transpose(0, 1).flatten(0, 1)).reshape(heads, count * size, heads, count * size)
        for head in range(heads):
            found[frame, head] = dense[head, where][:, head, where]
    return found


@pytest.mark.parametrize("layer", range(8))
def test_figures_are_those_of_transformers_maps_laid_over_each_frame(
    backbone: Backbone, clips: Tensor, layer: int
) -> None:
    seen, shares = read(backbone, clips)
    places = TokenPlaces(grid=SPEC.grid_of(layer))
    side = SIDES[layer]
    weights = torch.zeros(2, 1, 3, side, side)
    weights[:, :, :, : side // 2, : side // 2] = 1.0  # a quarter of each frame
    sums = map_sums(seen[layer], places=places, sets=weights.flatten(2))
    maps = whole_maps(shares[layer].double(), backbone.layers[layer]).reshape(2, 3, -1, side**2, side**2)
    torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps[..., 0]))
    entropy = -torch.special.xlogy(maps, maps).sum(-1).mean(dim=(1, 3))
    torch.testing.assert_close(sums.entropy, entropy.double(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        sums.received, maps.mean(dim=3).transpose(1, 2).flatten(2).double() / 3, rtol=1e-4, atol=1e-7
    )
    mass = (maps * weights[:, 0].reshape(2, 3, 1, 1, -1)).sum(-1).mean(dim=(1, 3))
    torch.testing.assert_close(sums.mass[..., 0], mass.double(), rtol=1e-4, atol=1e-6)
    spots = torch.cartesian_prod(torch.arange(side), torch.arange(side)).double()
    distance = (maps * torch.cdist(spots, spots)).sum(-1).mean(dim=(1, 3))
    torch.testing.assert_close(sums.distance, distance, rtol=1e-4, atol=1e-5)
    assert sums.normalised.max() < 1.0


def test_windows_that_do_not_tile_a_stage_are_refused(clips: Tensor) -> None:
    made = replace(SPEC, window=3, pretrained_window=0).build().eval()
    with pytest.raises(CalotError, match="windows of 3 x 3 tokens do not tile a grid of 16 x 16: what pads it"):
        read(made, clips)


def test_classes_and_maps_keep_their_sums_between_grids() -> None:
    values = torch.zeros(1, 8, 8, dtype=torch.uint8)
    values[0, :2, 3] = 5
    for side in (2, 4, 8, 16):
        weights = class_weights(values, rows=side, columns=side)["gallbladder"]
        assert weights.shape == (1, side**2)
        assert float(weights.mean()) == pytest.approx(2 / 64)
    fine = np.random.default_rng(0).random((2, 3 * 16 * 16))
    coarse = on_grid(fine, grid=(3, 16, 16), wanted=(3, 2, 2))
    by_hand = fine.reshape(2, 3, 2, 8, 2, 8).sum(axis=(3, 5)).reshape(2, -1)
    np.testing.assert_allclose(coarse, by_hand)
    np.testing.assert_array_equal(on_grid(fine, grid=(3, 16, 16), wanted=(3, 16, 16)), fine)


def test_layers_with_fewer_heads_have_no_rows_for_the_others() -> None:
    rows = [
        {"variant": RUN, "video": video, "frame": 0, "layer": layer, "head": head, "entropy": 0.25 * (1 + head)}
        for video in ("1", "2", "3")
        for layer, heads in enumerate((1, 2, 4))
        for head in range(heads)
    ]
    received = [
        {"variant": RUN, "rotary": True, "video": v, "layer": n, "clips": 1, "received": [1 / size] * size}
        for v in ("1", "2", "3")
        for n, size in enumerate((64, 16, 4))
    ]
    found = summarise_attention(pl.DataFrame(rows), pl.DataFrame(received)).filter(pl.col("statistic") == "entropy")
    assert [found.filter(pl.col("layer") == n)["head"].drop_nulls().len() for n in range(3)] == [1, 2, 4]
    means = {row["layer"]: row["value"] for row in found.filter(pl.col("head").is_null()).to_dicts()}
    assert means == pytest.approx({0: 0.25, 1: 0.375, 2: 0.625})


def test_the_position_bias_is_not_left_out(backbone: Backbone, clips: Tensor) -> None:
    seen, _ = read(backbone, clips)
    biases = seen[0].between
    assert biases is not None
    assert float(biases.std()) > 0.1
