"""Everything that is read off a map, against the whole map in float64, built here pair by pair."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from calot.models.attention_maps import TokenPlaces, dark_tokens, linear_cka, map_sums, maps_apart, uniform_attention
from calot.models.attention_statistics import attention_mass, dense_rows, normalised_entropy, received_attention
from calot.models.windows import WALL, WindowPartition
from calot.types import QueryKey

GRID = (4, 8, 8)
TOKENS = 4 * 8 * 8
PLACES = TokenPlaces(grid=GRID)
SHARPNESSES = [0.0, 0.5, 2.0, 6.0]


@dataclass(frozen=True)
class Case:
    """Which tokens see each other: parts of a clip, extra tokens in front of each, walls, a bias of keys."""

    name: str
    parts: int = 1
    extra: int = 0
    side: int | None = None
    shift: int = 0
    bias: bool = False


CASES = [
    Case("all tokens"),
    Case("all tokens, keys biased", bias=True),
    Case("frame by frame with extra tokens", parts=4, extra=5),
    Case("frame by frame with extra tokens, biased", parts=4, extra=5, bias=True),
    Case("windows", side=4),
    Case("shifted windows with a position bias", side=4, shift=2),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def _draw(case: Case, *, gain: float = 1.5, clips: int = 2, heads: int = 3, seed: int = 0) -> QueryKey:
    g = torch.Generator().manual_seed(seed)
    partition = None if case.side is None else WindowPartition(grid=GRID, side=case.side, shift=case.shift)
    parts = case.parts if partition is None else partition.count
    size = TOKENS // parts + case.extra
    query, key = (gain * torch.randn(clips * parts, heads, size, 16, generator=g).double() for _ in range(2))
    between = None
    if partition is not None and case.shift:
        position = torch.randn(1, heads, size, size, generator=g)
        between = partition.between(position, clips=clips).double()
    return QueryKey(
        query=query,
        key=key,
        scaling=0.25,
        bias=torch.randn(clips * parts, 1, 1, size, generator=g).double() if case.bias else None,
        between=between,
        parts=parts,
        extra=case.extra,
        order=None if partition is None else partition.order(),
    )


def _whole(qk: QueryKey) -> Tensor:
    """The map `b heads n (n + extra tokens of all parts)` in float64, query by query and part by part."""
    order = torch.arange(TOKENS) if qk.order is None else qk.order
    place, clips = order.reshape(qk.parts, -1), len(qk.query) // qk.parts
    found = torch.zeros(clips, qk.query.shape[1], TOKENS, TOKENS + qk.parts * qk.extra, dtype=torch.float64)
    for clip, part in itertools.product(range(clips), range(qk.parts)):
        row = clip * qk.parts + part
        scores = qk.scaling * qk.query[row] @ qk.key[row].mT
        scores = scores + (0 if qk.bias is None else qk.bias[row]) + (0 if qk.between is None else qk.between[row])
        shares = scores.softmax(-1)
        for slot, token in enumerate(place[part].tolist()):
            found[clip, :, token, place[part]] = shares[:, slot + qk.extra, qk.extra :]
            own = slice(TOKENS + part * qk.extra, TOKENS + (part + 1) * qk.extra)
            found[clip, :, token, own] = shares[:, slot + qk.extra, : qk.extra]
    return found


def _distances() -> tuple[Tensor, Tensor, Tensor]:
    """In space, in time, and whether two tokens share a window of half a frame's side in one bin; from places alone."""
    where = list(itertools.product(*map(range, GRID)))
    space = [[math.hypot(a[1] - b[1], a[2] - b[2]) for b in where] for a in where]
    time = [[abs(a[0] - b[0]) for b in where] for a in where]
    same = [[(a[0], a[1] // 4, a[2] // 4) == (b[0], b[1] // 4, b[2] // 4) for b in where] for a in where]
    return torch.tensor(space).double(), torch.tensor(time).double(), torch.tensor(same).double()


def _naive(qk: QueryKey, sets: Tensor) -> dict[str, Tensor]:
    whole = _whole(qk)
    placed, received = whole[..., :TOKENS], whole.mean(dim=2)
    entropy = -torch.special.xlogy(whole, whole).sum(-1)
    seen = (whole > 0).sum(-1).double()
    space, time, same = _distances()
    on_places = placed.sum(dim=(2, 3))
    most = received[..., :TOKENS].sort(descending=True, dim=-1).values
    return {
        "entropy": entropy.mean(-1),
        "normalised": (entropy / seen.log()).mean(-1),
        "averaged": -torch.special.xlogy(received, received).sum(-1),
        "received": received,
        "mass": (placed @ sets.double()[:, None].mT).mean(2),
        "distance": (placed * space).sum(dim=(2, 3)) / on_places,
        "seconds": (placed * time * 3.0).sum(dim=(2, 3)) / on_places,
        "window": (placed * same).sum(dim=(2, 3)) / on_places,
        "largest": most[..., 0] * TOKENS,
        "on_the_most": most[..., :3].sum(-1),
    }


def _read(qk: QueryKey, sets: Tensor, *, chunk: int | None = None) -> dict[str, Tensor]:
    sums = map_sums(qk, places=PLACES, sets=sets, chunk=chunk)
    names = ("entropy", "normalised", "averaged", "received", "mass", "distance", "window", "largest", "on_the_most")
    times = 3.0 * torch.arange(4).double().expand(len(sets), 4)
    return {name: getattr(sums, name) for name in names} | {"seconds": sums.seconds(times)}


def _single(qk: QueryKey) -> QueryKey:
    return replace(qk, **{k: v.float() for k, v in vars(qk).items() if isinstance(v, Tensor) and k != "order"})


def _sets(*, m: int = 5) -> Tensor:
    return torch.rand(2, m, TOKENS, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("gain", SHARPNESSES)
@every_case
def test_every_statistic_equals_the_whole_map_in_float64(case: Case, gain: float) -> None:
    qk, sets = _draw(case, gain=gain), _sets()
    expected = _naive(qk, sets)
    for kind, held in (("float64", qk), ("float32", _single(qk))):
        for name, found in _read(held, sets).items():
            scale = max(1.0, float(expected[name].abs().max()))
            error = float((found - expected[name]).abs().max()) / scale
            assert error < 1e-5, f"{name} from {kind} is {error:.2g} off"


@pytest.mark.parametrize("chunk", [3, 16, 1000])
@every_case
def test_the_size_of_a_chunk_changes_nothing(case: Case, chunk: int) -> None:
    qk, sets = _draw(case), _sets()
    once = _read(qk, sets)
    for name, found in _read(qk, sets, chunk=chunk).items():
        torch.testing.assert_close(found, once[name], rtol=1e-12, atol=1e-12)


@every_case
def test_the_fused_kernels_of_training_say_the_same(case: Case) -> None:
    qk, sets = _draw(case), _sets()
    found = _read(qk, sets)
    torch.testing.assert_close(found["normalised"], normalised_entropy(qk).mean(-1))
    torch.testing.assert_close(found["mass"], attention_mass(qk, sets.double()).mean(2))
    torch.testing.assert_close(found["received"][..., :TOKENS].mean(1), received_attention(qk))


def test_where_every_query_is_sharp_and_queries_differ_the_true_figure_is_low_and_the_averaged_one_high() -> None:
    """Each query has 90 % on one token of its own: the averaged map is flat, though no query's is."""
    score = math.log(0.9 * (TOKENS - 1) / 0.1)
    identity = torch.eye(TOKENS)[None, None]
    shuffled = identity[:, :, torch.randperm(TOKENS, generator=torch.Generator().manual_seed(0))]
    sums = map_sums(QueryKey(query=score * identity, key=shuffled, scaling=1.0), places=PLACES, sets=_sets()[:1])
    true, averaged = float(sums.normalised), float(sums.averaged) / math.log(TOKENS)
    assert true < 0.30
    assert averaged > 0.95
    gap = float(sums.averaged - sums.entropy)
    assert gap == pytest.approx((averaged - true) * math.log(TOKENS), abs=1e-6)


def test_the_gap_is_the_mutual_information_of_query_and_key() -> None:
    qk = _draw(CASES[0], gain=2.0)
    whole = _whole(qk)
    joint, keys = whole / TOKENS, whole.mean(dim=2, keepdim=True)
    information = (joint * (whole / keys).log()).sum(dim=(2, 3))
    sums = map_sums(qk, places=PLACES, sets=_sets())
    torch.testing.assert_close(sums.averaged - sums.entropy, information)
    assert (information > 0.1).all()


def test_uniform_attention_has_the_figures_of_its_formulas() -> None:
    sums = map_sums(uniform_attention(_draw(CASES[0], gain=4.0)), places=PLACES, sets=_sets())
    assert sums.entropy.shape == (2, 1)
    expected = {
        "normalised": 1.0,
        "averaged": math.log(TOKENS),
        "entropy": math.log(TOKENS),
        "window": 16 / TOKENS,
        "largest": 1.0,
        "on_the_most": 3 / TOKENS,
    }
    for name, value in expected.items():
        torch.testing.assert_close(getattr(sums, name), torch.full((2, 1), value).double(), msg=name)
    torch.testing.assert_close(sums.mass[:, 0], _sets().double().mean(dim=2), rtol=1e-6, atol=1e-6)
    steps = (4**2 - 1) / (3 * 4)  # mean |i - j| over 4 bins
    torch.testing.assert_close(sums.seconds(torch.arange(4.0).expand(2, 4)), torch.full((2, 1), steps).double())
    pairs = itertools.product(range(8), repeat=4)
    apart = sum(math.hypot(a - c, b - d) for a, b, c, d in pairs) / 8**4
    torch.testing.assert_close(sums.distance, torch.full((2, 1), apart).double())


def test_uniform_attention_frame_by_frame_knows_what_its_frames_cannot_see() -> None:
    case = CASES[2]
    sums = map_sums(uniform_attention(_draw(case)), places=PLACES, sets=torch.ones(2, 1, TOKENS))
    keys = 64 + 5
    torch.testing.assert_close(sums.entropy, torch.full((2, 1), math.log(keys)).double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sums.averaged, torch.full((2, 1), math.log(4 * keys)).double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sums.mass[..., 0], torch.full((2, 1), 64 / keys).double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sums.window, torch.full((2, 1), 16 / 64).double(), rtol=1e-6, atol=1e-6)
    assert float(sums.seconds(torch.arange(4.0).expand(2, 4)).abs().max()) == 0.0


def test_uniform_attention_keeps_the_walls_of_shifted_windows() -> None:
    qk = _draw(CASES[5])
    sums = map_sums(uniform_attention(qk), places=PLACES, sets=_sets())
    torch.testing.assert_close(sums.normalised, torch.ones(2, 1).double())
    seen = (qk.between[: qk.parts, 0] > WALL / 2).double()  # type: ignore[index]
    torch.testing.assert_close(sums.entropy, seen.sum(-1).log().mean().expand(2, 1))


def test_a_planted_local_map_has_its_distance_and_all_of_its_window() -> None:
    """Every token looks at the other corner of its own 4 x 4 window, in its own bin."""
    where = list(itertools.product(*map(range, GRID)))
    number = {place: i for i, place in enumerate(where)}
    target = [number[t, 4 * (y // 4) + 3 - y % 4, 4 * (x // 4) + 3 - x % 4] for t, y, x in where]
    looked = torch.eye(TOKENS)[target]
    qk = QueryKey(query=60.0 * looked[None, None], key=torch.eye(TOKENS)[None, None], scaling=1.0)
    sums = map_sums(qk, places=PLACES, sets=_sets()[:1])
    apart = sum(math.hypot(y % 4 - (3 - y % 4), x % 4 - (3 - x % 4)) for _, y, x in where) / TOKENS
    assert float(sums.distance) == pytest.approx(apart, abs=1e-6)
    assert float(sums.window) == pytest.approx(1.0, abs=1e-6)
    assert float(sums.seconds(torch.arange(4.0)[None])) == pytest.approx(0.0, abs=1e-6)
    assert float(sums.normalised) == pytest.approx(0.0, abs=1e-6)
    assert float(sums.largest) == pytest.approx(1.0, abs=1e-4)


def test_a_planted_look_two_bins_back_is_so_far_in_time_and_outside_its_window() -> None:
    target = (torch.arange(TOKENS) - 128) % TOKENS
    qk = QueryKey(query=60.0 * torch.eye(TOKENS)[target][None, None], key=torch.eye(TOKENS)[None, None], scaling=1.0)
    sums = map_sums(qk, places=PLACES, sets=_sets()[:1])
    assert float(sums.seconds(torch.tensor([[0.0, 2.0, 4.0, 6.0]]))) == pytest.approx(4.0, abs=1e-6)
    assert float(sums.distance) == pytest.approx(0.0, abs=1e-6)
    assert float(sums.window) == pytest.approx(0.0, abs=1e-6)


def test_a_planted_sink_receives_everything() -> None:
    query, key = torch.ones(1, 2, TOKENS, 8), torch.zeros(1, 2, TOKENS, 8)
    key[:, 1, 77] = 10.0  # the second head alone
    sums = map_sums(QueryKey(query=query, key=key, scaling=1.0), places=PLACES, sets=_sets()[:1])
    torch.testing.assert_close(sums.largest, torch.tensor([[1.0, TOKENS]]).double())
    torch.testing.assert_close(sums.on_the_most, torch.tensor([[3 / TOKENS, 1.0]]).double())


def test_a_planted_cue_has_its_mass_and_a_row_is_not_mistaken_for_a_column() -> None:
    """Attention on the first row of every frame: all of the mass is there, and an eighth of it on the first column."""
    tokens = torch.arange(TOKENS)
    row, column = (tokens // 8 % 8 == 0).float(), (tokens % 8 == 0).float()
    key = torch.zeros(1, 1, TOKENS, 8)
    key[..., row > 0, :] = 10.0
    sets = torch.stack([row, column])[None]
    sums = map_sums(QueryKey(query=torch.ones_like(key), key=key, scaling=1.0), places=PLACES, sets=sets)
    torch.testing.assert_close(sums.mass, torch.tensor([[[1.0, 1 / 8]]]).double())


@every_case
def test_rows_over_the_whole_clip_are_those_of_the_map(case: Case) -> None:
    qk = _draw(case)
    tokens = torch.tensor([255, 0, 17, 130])
    whole = _whole(qk)[:, :, tokens]
    expected = torch.cat([whole[..., :TOKENS], whole[..., TOKENS:].sum(-1, keepdim=True)], dim=-1)
    torch.testing.assert_close(dense_rows(qk, tokens), expected)


@pytest.mark.parametrize("other", CASES, ids=lambda case: case.name)
@every_case
def test_the_distance_of_two_maps_is_half_of_what_differs_over_the_whole_clip(case: Case, other: Case) -> None:
    one, two = _draw(case), _draw(other, seed=5)
    found = maps_apart(one, two)
    alike = (case.parts, case.extra, case.side, case.shift) == (other.parts, other.extra, other.side, other.shift)
    a, b = (_whole(qk) if alike else dense_rows(qk, torch.arange(TOKENS)) for qk in (one, two))
    torch.testing.assert_close(found, (a - b).abs().sum(-1).mean(-1) / 2)
    assert ((found > 0) & (found <= 1)).all()
    assert float(maps_apart(one, one).abs().max()) == 0.0


def test_cka_of_a_model_with_itself_is_one_and_of_strangers_about_none() -> None:
    g = torch.Generator().manual_seed(0)
    one, other = torch.randn(256, 128, generator=g), torch.randn(256, 128, generator=g)
    turned = 3.0 * one @ torch.linalg.qr(torch.randn(128, 128, generator=g)).Q + 5.0
    assert linear_cka(one, one) == pytest.approx(1.0, abs=1e-9)
    assert linear_cka(one, turned) == pytest.approx(1.0, abs=1e-6)
    assert abs(linear_cka(one, other)) < 0.05, "the biased estimate is about 0.33 here"


def test_cka_equals_that_of_whole_gram_matrices() -> None:
    g = torch.Generator().manual_seed(0)
    one = torch.randn(40, 6, generator=g).double()
    other = one[:, :3] + torch.randn(40, 3, generator=g).double()

    def gram(x: Tensor) -> Tensor:
        centred = x - x.mean(0)
        return (centred @ centred.mT).fill_diagonal_(0)

    def hsic(k: Tensor, m: Tensor) -> Tensor:
        n, ones = 40, torch.ones(40).double()
        inside = (k @ m).trace() + ones @ k @ ones * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return (inside - 2 / (n - 2) * ones @ k @ m @ ones) / (n * (n - 3))

    k, m = gram(one), gram(other)
    assert linear_cka(one, other) == pytest.approx(float(hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt()), abs=1e-10)


def test_tokens_are_dark_where_every_frame_is_black_there() -> None:
    video = torch.full((2, 4, 3, 64, 64), 90, dtype=torch.uint8)
    video[0, :, :, :8, :16] = 3  # two tokens of the first row, in every frame
    video[0, 2, :, 8:16, :8] = 3  # the one below, in one frame alone
    video[1, :, 0, :8, :8] = 3  # dark in red alone
    dark = dark_tokens(video, grid=(2, 8, 8), level=16.0)
    assert dark.nonzero().tolist() == [[0, 0], [0, 1]]


def test_windows_are_half_of_a_frames_side() -> None:
    assert [TokenPlaces(grid=(8, side, side)).window for side in (16, 8, 14, 4, 1)] == [8, 4, 7, 2, 1]
