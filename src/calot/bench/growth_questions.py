"""What `calot bench growth` measures: attention over tokens, statistics over videos, frames, replicates and runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from calot.bench.bootstrap import Replicates, simulated_predictions
from calot.bench.entropy import naive_entropy
from calot.bench.growth import GrowthQuestion, GrowthWay, GrowthWork, traced_megabytes
from calot.bench.window import attention_call, peak_megabytes
from calot.models.attention_statistics import normalised_entropy
from calot.models.windows import WindowPartition
from calot.statistics.compare import compare
from calot.statistics.intervals import video_intervals
from calot.statistics.permutation import swap_videos
from calot.statistics.predictions import Predictions
from calot.statistics.resampling import Resampler, bootstrap_weights
from calot.types import QueryKey

BINS, WINDOW = 4, 8  # temporal bins of the token grid, and the side of a window


@dataclass(frozen=True, kw_only=True)
class GrowthSizes:
    """The sizes of each question, and what stays the same in the others.

    `sides` are those of the token grid, which has four temporal bins; the map of all pairs is written out up to
    `written_out` tokens. A naive loop does one of `naive_part` replicates, at least two, and is scaled.
    """

    sides: tuple[int, ...] = (8, 16, 24, 32, 40, 48)
    written_out: int = 4096
    heads: int = 4
    width: int = 64
    videos: tuple[int, ...] = (10, 20, 40, 80, 160, 320)
    frames_per_video: int = 100
    frames: tuple[int, ...] = (3_000, 6_000, 12_000, 24_000, 48_000, 96_000)
    replicates: tuple[int, ...] = (250, 500, 1_000, 2_000, 4_000, 8_000)
    runs: tuple[int, ...] = (1, 2, 4, 8, 16)
    usual_frames: int = 12_000
    usual_videos: int = 41
    usual_replicates: int = 2_000
    frames_of_a_run: int = 2_000
    naive_part: int = 200
    repeats: int = 3


USUAL = GrowthSizes()
#: Sizes that take seconds: what a fixed cost hides is not seen in them.
SMALL = GrowthSizes(
    sides=(8, 16, 24),
    written_out=1024,
    heads=2,
    width=16,
    videos=(5, 10, 20),
    frames_per_video=30,
    frames=(300, 600, 1_200),
    replicates=(50, 100, 200),
    runs=(1, 2, 4),
    usual_frames=600,
    usual_videos=12,
    usual_replicates=100,
    frames_of_a_run=300,
    naive_part=50,
    repeats=2,
)


def growth_questions(sizes: GrowthSizes = USUAL) -> tuple[GrowthQuestion, ...]:
    """Tokens, videos, frames, replicates, runs."""
    return (_tokens(sizes), _videos(sizes), _frames(sizes), _replicates(sizes), _runs(sizes))


def _tokens(sizes: GrowthSizes) -> GrowthQuestion:
    sides = {BINS * side * side: side for side in sizes.sides}

    def attention(side_of: Callable[[int], int | None]) -> Callable[[int], GrowthWork]:
        def work(tokens: int) -> GrowthWork:
            grid, side = (BINS, sides[tokens], sides[tokens]), side_of(tokens)
            partition = None if side is None else WindowPartition(grid=grid, side=side)
            return GrowthWork(call=attention_call(_drawn_qkv(sizes, tokens), partition, backward=False))

        return work

    def fused(tokens: int) -> GrowthWork:
        query, key, _ = _drawn_qkv(sizes, tokens)
        qk = QueryKey(query=query, key=key, scaling=sizes.width**-0.5)
        return GrowthWork(call=torch.no_grad()(lambda: normalised_entropy(qk)))

    def written(tokens: int) -> GrowthWork:
        query, key, _ = _drawn_qkv(sizes, tokens)
        return GrowthWork(call=lambda: naive_entropy(query, key, scaling=sizes.width**-0.5))

    every = tuple(sides)
    few = tuple(tokens for tokens in every if tokens <= sizes.written_out)
    return GrowthQuestion(
        over="tokens",
        title="One attention",
        fixed=f"{sizes.heads} heads of {sizes.width}, {BINS} bins, forward",
        megabytes=peak_megabytes,
        ways=(
            GrowthWay(
                name="map written out", what="entropy: softmax, -sum p log p", sizes=few, work=written, naive=True
            ),
            GrowthWay(name="global", what="one fused call", sizes=every, work=attention(lambda _: None)),
            GrowthWay(
                name="windows of 8 x 8",
                series=1,
                what="calot.models.windows",
                sizes=every,
                work=attention(lambda _: WINDOW),
            ),
            GrowthWay(
                name="entropy, fused", series=2, what="logsumexp - scale * q . SDPA(q, k, k)", sizes=every, work=fused
            ),
        ),
    )


def _drawn_qkv(sizes: GrowthSizes, tokens: int) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    return tuple(torch.randn(1, sizes.heads, tokens, sizes.width, generator=draw) for _ in range(3))


def _videos(sizes: GrowthSizes) -> GrowthQuestion:
    each = sizes.frames_per_video
    return GrowthQuestion(
        over="videos",
        title="A larger set",
        fixed=f"{each} frames each, {sizes.usual_replicates:,} replicates",
        megabytes=traced_megabytes,
        ways=_interval_ways(sizes, sizes.videos, table=lambda n: simulated_predictions(n * each, videos=n)),
    )


def _frames(sizes: GrowthSizes) -> GrowthQuestion:
    count = sizes.usual_videos
    return GrowthQuestion(
        over="frames",
        title="Longer videos",
        fixed=f"{count} videos, {sizes.usual_replicates:,} replicates",
        megabytes=traced_megabytes,
        ways=_interval_ways(sizes, sizes.frames, table=lambda n: simulated_predictions(n, videos=count)),
    )


def _interval_ways(
    sizes: GrowthSizes, over: tuple[int, ...], *, table: Callable[[int], Predictions]
) -> tuple[GrowthWay, ...]:
    """AP of three criteria with intervals over videos, from a table that grows."""

    def loop(n: int) -> GrowthWork:
        return _sklearn_loop(sizes, (table(n),), replicates=sizes.usual_replicates)

    def boot(n: int) -> GrowthWork:
        return _bootstrap((table(n),), replicates=sizes.usual_replicates)

    def knife(n: int) -> GrowthWork:
        one = table(n)
        return GrowthWork(call=lambda: video_intervals(one))

    return (
        GrowthWay(name=_LOOP, what=_LOOP_DOES, sizes=over, work=loop, naive=True),
        GrowthWay(name=_BOOT, what=_BOOT_DOES, sizes=over, work=boot),
        GrowthWay(name=_KNIFE, series=1, what=_KNIFE_DOES, sizes=over, work=knife),
    )


def _replicates(sizes: GrowthSizes) -> GrowthQuestion:
    one, other = (simulated_predictions(sizes.usual_frames, videos=sizes.usual_videos, run=run) for run in (0, 1))

    def loop(n: int) -> GrowthWork:
        return _sklearn_loop(sizes, (one,), replicates=n)

    def boot(n: int) -> GrowthWork:
        return _bootstrap((one,), replicates=n)

    def swap(n: int) -> GrowthWork:
        return GrowthWork(call=lambda: swap_videos([one], [other], replicates=n))

    over = sizes.replicates
    return GrowthQuestion(
        over="replicates",
        title="More replicates",
        fixed=f"{sizes.usual_frames:,} frames, {sizes.usual_videos} videos",
        megabytes=traced_megabytes,
        ways=(
            GrowthWay(name=_LOOP, what=_LOOP_DOES, sizes=over, work=loop, naive=True),
            GrowthWay(name=_BOOT, what=_BOOT_DOES, sizes=over, work=boot),
            GrowthWay(
                name="swap test",
                series=2,
                what="calot.statistics.permutation: two runs, videos swapped",
                sizes=over,
                work=swap,
            ),
        ),
    )


def _runs(sizes: GrowthSizes) -> GrowthQuestion:
    @cache
    def run(number: int) -> Predictions:
        return simulated_predictions(sizes.frames_of_a_run, videos=sizes.usual_videos, run=number)

    def tables(n: int, *, first: int = 1) -> tuple[Predictions, ...]:
        return tuple(run(number) for number in range(first, first + n))

    def loop(n: int) -> GrowthWork:
        return _sklearn_loop(sizes, tables(n), replicates=sizes.usual_replicates)

    def boot(n: int) -> GrowthWork:
        return _bootstrap(tables(n), replicates=sizes.usual_replicates)

    def knife(n: int) -> GrowthWork:
        return GrowthWork(call=lambda: video_intervals(tables(n)))

    def pair(n: int) -> GrowthWork:
        sides = tables(n), tables(n, first=n + 1)
        return GrowthWork(call=lambda: compare(*sides, replicates=sizes.usual_replicates))

    over = sizes.runs
    return GrowthQuestion(
        over="runs",
        title="More runs",
        fixed=f"{sizes.frames_of_a_run:,} frames each, {sizes.usual_videos} videos",
        megabytes=traced_megabytes,
        ways=(
            GrowthWay(name=_LOOP, what=f"{_LOOP_DOES}, run by run", sizes=over, work=loop, naive=True),
            GrowthWay(name=_BOOT, what=_BOOT_DOES, sizes=over, work=boot),
            GrowthWay(name=_KNIFE, series=1, what=_KNIFE_DOES, sizes=over, work=knife),
            GrowthWay(
                name="compare, n on n", series=2, what="calot.statistics.compare, all of it", sizes=over, work=pair
            ),
        ),
    )


_LOOP, _LOOP_DOES = "scikit-learn loop", "gather the drawn videos' rows, average_precision_score; timed in part, scaled"
_BOOT, _BOOT_DOES = "bootstrap", "calot.statistics.resampling: sort once, reweight"
_KNIFE, _KNIFE_DOES = "jackknife (default)", "calot.statistics.intervals.video_intervals"


def _sklearn_loop(sizes: GrowthSizes, tables: tuple[Predictions, ...], *, replicates: int) -> GrowthWork:
    """Some of the replicates of each table, scaled to all of them."""
    count = max(2, replicates // sizes.naive_part)
    weights = bootstrap_weights(len(set(tables[0].videos.tolist())), replicates=count)
    loops = [Replicates(table=table, weights=weights) for table in tables]
    return GrowthWork(call=lambda: [loop.sklearn(count) for loop in loops], share=count / replicates)


def _bootstrap(tables: tuple[Predictions, ...], *, replicates: int) -> GrowthWork:
    weights = bootstrap_weights(len(set(tables[0].videos.tolist())), replicates=replicates)
    return GrowthWork(call=lambda: Resampler.of(tables).ap(weights))
