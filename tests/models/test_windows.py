"""Window attention against global attention and against a mask over all pairs, in float64, built here."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import VJEPA2Config, VJEPA2Model

from calot.models.attention import reading, tapped
from calot.models.attention_statistics import attention_mass, normalised_entropy, received_attention
from calot.models.backbones.additions import ParallelWindows, WindowAttention
from calot.models.backbones.protocol import Backbone
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.windows import WindowPartition, Windows

TINY = {"weights": None, "size": 64, "frames": 8, "patch": 8, "width": 128, "layers": 4, "heads": 2}
GRID = (4, 8, 8)
CASES = [(side, shift, all_bins) for side in (2, 4) for shift in (0, side // 2) for all_bins in (False, True)]


def _backbone(windows: WindowAttention | None) -> Backbone:
    torch.manual_seed(0)
    built = VJEPA2(**TINY, windows=windows).build().eval()
    sharper = torch.Generator().manual_seed(1)
    for name, weight in built.named_parameters():
        if name.endswith(("query.weight", "key.weight")):
            torch.nn.init.normal_(weight, std=0.08, generator=sharper)
    return built


def _clip() -> Tensor:
    return torch.randn(2, 8, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def _allowed(*, side: int, shift: int, all_bins: bool) -> Tensor:
    """Which pairs of the grid's tokens may see each other, from their places alone."""
    places = list(itertools.product(*(range(size) for size in GRID)))

    def window(place: tuple[int, int, int]) -> tuple[int, ...]:
        time, *spots = place
        blocks = [-1 if spot < shift else (spot - shift) // side for spot in spots]
        return (0 if all_bins else time, *blocks)

    return torch.tensor([[window(a) == window(b) for b in places] for a in places])


def _masked(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~allowed, -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


def _over_windows(q: Tensor, k: Tensor, v: Tensor, partition: WindowPartition) -> Tensor:
    mask = partition.between(None, clips=len(q))
    parts = [partition.parted(x) for x in (q, k, v)]
    mixed = F.scaled_dot_product_attention(*parts, attn_mask=None if mask is None else mask.to(q.dtype))
    return partition.whole(mixed.transpose(1, 2))


@pytest.mark.parametrize(("side", "shift", "all_bins"), CASES)
def test_windows_equal_a_mask_over_all_pairs_forward_and_gradient(side: int, shift: int, all_bins: bool) -> None:
    draw = torch.Generator().manual_seed(side)
    qkv = [torch.randn(2, 3, 256, 8, generator=draw, dtype=torch.float64) for _ in range(3)]
    weight = torch.randn(2, 256, 3, 8, generator=draw, dtype=torch.float64)
    exact = [x.clone().requires_grad_() for x in qkv]
    ours = [x.float().requires_grad_() for x in qkv]
    want = _masked(*exact, _allowed(side=side, shift=shift, all_bins=all_bins))
    got = _over_windows(*ours, WindowPartition(grid=GRID, side=side, shift=shift, all_bins=all_bins))
    (want * weight).sum().backward()
    (got * weight.float()).sum().backward()
    assert torch.allclose(got.double(), want, atol=1e-5)
    assert all(torch.allclose(a.grad.double(), b.grad, atol=1e-5) for a, b in zip(ours, exact, strict=True))


@pytest.mark.parametrize(("side", "shift", "all_bins"), CASES)
def test_the_encoders_attention_is_that_of_its_windows(side: int, shift: int, all_bins: bool) -> None:
    """Through transformers' own layer: the mixed values, and every statistic, equal those of the masked map."""
    backbone = _backbone(WindowAttention(size=side, shifted=shift > 0, all_bins=all_bins))
    plain = _backbone(None)
    hidden = plain.embedding(_clip())
    for number, module in ((1, backbone), (1, plain)):
        with reading(module, layer=number) as seen:
            module.layers[number](hidden, None)
        if module is backbone:
            mixed, tap = seen.mixed, seen.query_key
            assert torch.allclose(seen.rebuilt(), mixed, atol=1e-5)
    q, k = seen.query_key.query, seen.query_key.key
    v = seen.values.unflatten(-1, (2, -1)).transpose(1, 2)
    allowed = _allowed(side=side, shift=shift, all_bins=all_bins)
    assert torch.allclose(mixed, _masked(q, k, v, allowed).flatten(2), atol=1e-5)
    scores = (q.double() @ k.double().mT / math.sqrt(q.shape[-1])).masked_fill(~allowed, -math.inf)
    p = scores.softmax(-1)
    entropy = torch.special.entr(p).sum(-1) / allowed.sum(-1).double().log()
    entropy[..., allowed.sum(-1) == 1] = 1.0  # a corner of a shifted window of 2 sees itself alone
    assert torch.allclose(normalised_entropy(tap).double(), entropy, atol=1e-5)
    assert torch.allclose(received_attention(tap).double(), p.mean(dim=(1, 2)), atol=1e-6)
    chosen = (torch.arange(256) % 7 == 0).float().expand(2, -1)
    assert torch.allclose(
        attention_mass(tap, chosen).double(), (p @ chosen[:, None, :, None].double())[..., 0], atol=1e-5
    )


def test_at_full_size_one_window_over_the_whole_grid_is_global_attention() -> None:
    config = VJEPA2Config(
        num_hidden_layers=1, frames_per_clip=16, attn_implementation="calot", pred_num_hidden_layers=1
    )
    torch.manual_seed(0)
    attention = VJEPA2Model(config).encoder.layer[0].attention
    hidden = torch.randn(1, 2048, 1024, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        everywhere = attention(hidden)[0]
        attention.windows = Windows(WindowPartition(grid=(8, 16, 16), side=16, all_bins=True))
        whole = attention(hidden)[0]
        attention.windows = Windows(WindowPartition(grid=(8, 16, 16), side=8))
        local = attention(hidden)[0]
    assert (whole - everywhere).abs().max() <= 1e-6
    assert (local - everywhere).abs().max() > 1e-3


def test_shifting_happens_in_every_other_layer_and_windows_in_chosen_ones() -> None:
    backbone = _backbone(WindowAttention(size=4, shifted=True, layers=(0, 1, -1)))
    found = [dict(backbone.attention(n).named_children()).get("windows") for n in range(4)]
    assert [None if w is None else w.partition.shift for w in found] == [0, 2, None, 2]


def test_parallel_windows_are_the_plain_encoder_until_their_factors_move() -> None:
    plain, parallel = _backbone(None), _backbone(ParallelWindows(size=4))
    clip = _clip()
    assert torch.equal(plain(clip).values, parallel(clip).values)
    (parameter,) = parallel.fresh
    assert parameter.shape == (4, 2)
    with torch.no_grad():
        parameter[2, 1] = 0.5
    assert not torch.allclose(plain(clip).values, parallel(clip).values, atol=1e-4)
    with tapped(parallel, layers=(2,)) as taps, tapped(plain, layers=(2,)) as others:
        parallel(clip), plain(clip)
    assert torch.equal(taps[2].query, others[2].query)  # the map that is read is the global one


def test_windows_train_the_same_under_gradient_checkpointing() -> None:
    found = []
    for checkpointed in (False, True):
        backbone = _backbone(ParallelWindows(size=4, shifted=True)).train()
        if checkpointed:
            backbone.checkpoint_gradients()
        with torch.no_grad():
            backbone.fresh[0].fill_(0.3)
        backbone(_clip()).values.square().mean().backward()
        found.append({n: p.grad for n, p in backbone.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(found[0][n], found[1][n], atol=1e-7) for n in found[0])


@pytest.mark.parametrize(
    ("windows", "message"),
    [(WindowAttention(size=3), "does not divide"), (WindowAttention(size=8, shifted=True), "nothing to shift")],
)
def test_windows_that_do_not_fit_are_refused(windows: WindowAttention, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VJEPA2(**TINY, windows=windows)
