"""What a whole attention map adds up to, by clip and head: entropies, mass on sets of tokens, distances, sinks.

One pass over the map's rows, a few at a time: exact, and never a whole n x n map. Without gradient. Sums over rows are
kept in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from calot.models.attention_statistics import MapRows, dense_rows, map_rows, places_of
from calot.models.windows import WALL
from calot.types import QueryKey

#: Of a frame's side, the part that is the side of the windows whose share of attention is reported: 8 of 16 tokens.
WINDOW_OF_SIDE = 0.5

#: Rows of two maps of different parts that are compared at a time.
_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class TokenPlaces:
    """Where a clip's tokens are: their grid (time, rows, columns)."""

    grid: tuple[int, int, int]

    @property
    def window(self) -> int:
        """The side in tokens of the windows whose share is reported."""
        return max(1, round(min(self.grid[1:]) * WINDOW_OF_SIDE))

    def bins(self, tokens: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """The temporal bin of these tokens."""
        return tokens // (self.grid[1] * self.grid[2])

    def cells(self, tokens: Int[Tensor, "*any"]) -> Float[Tensor, "*any xy"]:
        """Row and column of these tokens."""
        _, rows, columns = self.grid
        return torch.stack([tokens // columns % rows, tokens % columns], dim=-1).to(torch.float32)

    def windows(self, tokens: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """A number for the window and temporal bin that these tokens are in."""
        cell = (self.cells(tokens) // self.window).long()
        return (self.bins(tokens) * self.grid[1] + cell[..., 0]) * self.grid[2] + cell[..., 1]


@dataclass(frozen=True, kw_only=True)
class MapSums:
    """Means over the queries of each clip and head, all in float64; extra tokens ask nothing.

    `entropy` in nats, `normalised` over the log of the keys that a query sees. `received` is the map averaged over
    queries: over the grid's tokens, then over extra ones; it sums to 1. `mass` is the share on each token set, `bins`
    the share of attention that goes from one temporal bin to another (it sums to 1 less what extra tokens receive).
    Mean `distance` in tokens, in space alone, and the share in the query's `window`, are of attention on tokens that
    have a place.
    """

    entropy: Float[Tensor, "b heads"]
    normalised: Float[Tensor, "b heads"]
    received: Float[Tensor, "b heads _"]
    mass: Float[Tensor, "b heads m"]
    bins: Float[Tensor, "b heads t t"]
    distance: Float[Tensor, "b heads"]
    window: Float[Tensor, "b heads"]
    tokens: int

    @property
    def averaged(self) -> Float[Tensor, "b heads"]:
        """Entropy in nats of the map averaged over queries; less `entropy`, it is the mutual information of query and
        key."""
        return entropy_of(self.received)

    @property
    def largest(self) -> Float[Tensor, "b heads"]:
        """The largest attention that a token receives, times n: 1 where all receive alike."""
        return self.received[..., : self.tokens].amax(dim=-1) * self.tokens

    @property
    def on_the_most(self) -> Float[Tensor, "b heads"]:
        """The share of attention on the 1 % of tokens (rounded up) that receive most."""
        count = -(-self.tokens // 100)
        return self.received[..., : self.tokens].topk(count, dim=-1).values.sum(dim=-1)

    def seconds(self, times: Float[Tensor, "b t"]) -> Float[Tensor, "b heads"]:
        """Mean distance in time, given the time of each clip's bins, of attention on tokens that have a place."""
        apart = (times[:, :, None] - times[:, None, :]).abs().to(self.bins)
        weighed, whole = (x.sum(dim=(-2, -1)) for x in (self.bins * apart[:, None], self.bins))
        return torch.divide(weighed, whole)


def entropy_of(shares: Float[Tensor, "*any n"]) -> Float[Tensor, "*any"]:
    """-sum p log p in nats, in float64."""
    whole = shares.double()
    found: Tensor = -torch.special.xlogy(whole, whole).sum(dim=-1)
    return found


@torch.no_grad()
def map_sums(qk: QueryKey, *, places: TokenPlaces, sets: Float[Tensor, "b m n"], chunk: int | None = None) -> MapSums:
    """All of it in one pass; `sets` are token sets in the order of the grid, or weights of 0 to 1."""
    place = places_of(qk)
    onto = _columns(sets, place=place, places=places, extra=qk.extra)
    total = _Totals(place=place, places=places, extra=qk.extra, sets=sets.shape[1])
    for rows in map_rows(qk, chunk=chunk):
        total.add(rows, onto=onto)
    return total.means()


def _columns(sets: Tensor, *, place: Tensor, places: TokenPlaces, extra: int) -> Tensor:
    """For each key of each part, its weight in every token set and a 1 in the column of its bin: `p 1 s m + t`."""
    clips, parts = len(sets), len(place)
    of_sets = sets[:, :, place].transpose(1, 2).flatten(0, 1).mT
    of_bins = F.one_hot(places.bins(place), places.grid[0]).to(sets.dtype).repeat(clips, 1, 1)
    assert len(of_sets) == clips * parts
    return F.pad(torch.cat([of_sets, of_bins], dim=-1), (0, 0, extra, 0))[:, None]


class _Totals:
    """Sums over the rows so far."""

    def __init__(self, *, place: Int[Tensor, "p s"], places: TokenPlaces, extra: int, sets: int) -> None:
        self.place, self.places, self.extra, self.sets = place, places, extra, sets
        self.found: dict[str, Tensor] = {}

    def add(self, rows: MapRows, *, onto: Tensor) -> None:
        shares, asking = rows.shares, self.place[:, rows.first : rows.first + rows.shares.shape[2]]
        most = rows.seen.log()
        share = torch.where(most > 0, rows.entropy / most.clamp(min=1e-6), torch.ones_like(rows.entropy))
        self._sum("entropy", rows.entropy.sum(dim=2))
        self._sum("normalised", share.sum(dim=2))
        self._sum("received", shares.sum(dim=2), by_part=True)
        reached = shares @ onto.to(shares.dtype)
        self._sum("mass", reached[..., : self.sets].sum(dim=2))
        from_bin = F.one_hot(self.places.bins(asking), self.places.grid[0]).to(shares.dtype)  # p q t
        from_bin = from_bin.repeat(len(shares) // len(self.place), 1, 1)
        self._sum("bins", torch.einsum("phqt,pqu->phut", reached[..., self.sets :], from_bin))
        placed = self._by_part(shares[..., self.extra :])  # b p heads q s
        apart = torch.cdist(self.places.cells(asking), self.places.cells(self.place), compute_mode=_EXACTLY)
        self._sum("distance", (placed * apart[:, None].to(placed)).sum(dim=(3, 4)).flatten(0, 1))
        same = self.places.windows(asking)[:, :, None] == self.places.windows(self.place)[:, None, :]
        self._sum("window", (placed * same[:, None]).sum(dim=(3, 4)).flatten(0, 1))

    def _sum(self, name: str, value: Tensor, *, by_part: bool = False) -> None:
        whole = value.double()
        if not by_part:
            whole = self._by_part(whole).sum(dim=1)
        self.found[name] = self.found[name] + whole if name in self.found else whole

    def _by_part(self, x: Tensor) -> Tensor:
        return x.reshape(len(x) // len(self.place), len(self.place), *x.shape[1:])

    def means(self) -> MapSums:
        tokens = self.place.numel()
        found = {name: total / tokens for name, total in self.found.items()}
        received = self._by_part(found["received"]).transpose(1, 2)  # b heads p s
        placed = received[..., self.extra :].flatten(2)[..., self.place.flatten().argsort()]
        on_places = placed.sum(dim=-1)
        return MapSums(
            entropy=found["entropy"],
            normalised=found["normalised"],
            received=torch.cat([placed, received[..., : self.extra].flatten(2)], dim=-1),
            mass=found["mass"],
            bins=found["bins"],
            distance=found["distance"] / on_places,
            window=found["window"] / on_places,
            tokens=tokens,
        )


_EXACTLY = "donot_use_mm_for_euclid_dist"


def uniform_attention(qk: QueryKey) -> QueryKey:
    """Attention of one head to all keys alike, where the same pairs see each other."""
    between = None if qk.between is None else torch.where(qk.between[:, :1] > WALL / 2, 0.0, WALL)
    nothing = torch.zeros_like(qk.query[:, :1, :, :8], dtype=torch.float32)
    return replace(qk, query=nothing, key=nothing, bias=None, between=between)


def maps_apart(one: QueryKey, other: QueryKey) -> Float[Tensor, "b heads"]:
    """The mean over queries of the total variation distance between two maps of the same clips: 0 where they are the
    same, 1 where no query looks at anything that it looked at before."""
    if _same_keys(one, other):
        parts, extra, queries = one.parts, one.extra, places_of(one).numel()
        chunk = max(16, 2**21 // (one.query.shape[0] * one.query.shape[1] * one.key.shape[2]))
        sums = [
            (a.shares - b.shares).abs().sum(dim=(2, 3)).double()
            for a, b in zip(map_rows(one, chunk=chunk), map_rows(other, chunk=chunk), strict=True)
        ]
        assert extra == other.extra
        whole: Tensor = torch.stack(sums).sum(dim=0).reshape(-1, parts, one.query.shape[1]).sum(dim=1)
        return whole / (2 * queries)
    tokens = torch.arange(places_of(one).numel(), device=one.key.device)
    total = torch.zeros((), dtype=torch.float64)
    for some in torch.split(tokens, _ROWS):
        total = total + (dense_rows(one, some) - dense_rows(other, some)).abs().sum(dim=(2, 3)).double()
    return total / (2 * len(tokens))


def _same_keys(one: QueryKey, other: QueryKey) -> bool:
    alike = (one.parts, one.extra, one.key.shape[2]) == (other.parts, other.extra, other.key.shape[2])
    return alike and bool(torch.equal(places_of(one), places_of(other)))


@torch.no_grad()
def linear_cka(one: Float[Tensor, "n d"], other: Float[Tensor, "n e"]) -> float:
    """Linear CKA of two models' features of the same tokens (Kornblith et al. 2019), debiased (Song et al. 2012, eq. 5;
    Nguyen et al. 2021): 1 for the same up to rotation and scale, about 0 for unrelated ones however wide they are."""
    a, b = (x.double() - x.double().mean(dim=0) for x in (one, other))
    return float(_hsic(a, b) / (_hsic(a, a) * _hsic(b, b)).sqrt())


def _hsic(a: Tensor, b: Tensor) -> Tensor:
    """The unbiased estimate from features, whose Gram matrices are never made: `n` tokens, diagonals left out."""
    n = len(a)
    own_a, own_b = a.square().sum(dim=1), b.square().sum(dim=1)
    rows_a, rows_b = a @ a.sum(dim=0) - own_a, b @ b.sum(dim=0) - own_b
    shared = (a.mT @ b).square().sum() - (own_a * own_b).sum()
    both = rows_a.sum() * rows_b.sum() / ((n - 1) * (n - 2))
    return (shared + both - 2 / (n - 2) * (rows_a * rows_b).sum()) / (n * (n - 3))


def dark_tokens(video: Tensor, *, grid: tuple[int, int, int], level: float) -> Bool[Tensor, "b p"]:
    """Places of a clip's frames (uint8 `b t 3 h w`) that are black in every frame: the surround of the round view.

    A place is so where the mean of its pixels' brightest channels is at most `level` grey levels.
    """
    brightest = video.amax(dim=2).float()
    means = F.adaptive_avg_pool2d(brightest, grid[1:])
    return (means.amax(dim=1) <= level).flatten(1)
