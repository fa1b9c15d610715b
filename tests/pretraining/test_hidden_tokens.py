"""Are the masks those of the published sampler? Its statistics are computed here a second time, another way."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from calot.errors import CalotError, FieldError
from calot.pretraining.masks import LONG_RANGE, SHORT_RANGE, MultiBlock, as_places, draw_places

KINDS = (SHORT_RANGE, LONG_RANGE)
GRIDS = ((8, 16, 16), (4, 8, 8))  # full size, tiny
DRAWS = 1000


def published_sizes(kind: MultiBlock, grid: tuple[int, int, int]) -> dict[tuple[int, int], float]:
    """Heights and widths with their probabilities: the official arithmetic over uniform aspect ratios."""
    found: Counter[tuple[int, int]] = Counter()
    _, rows, columns = grid
    keep = int(rows * columns * {"short": 0.15, "long": 0.7}[kind.name])
    ratios = 0.75 + (np.arange(100_000) + 0.5) / 100_000 * 0.75
    for ratio in ratios.tolist():
        high, wide = round(math.sqrt(keep * ratio)), round(math.sqrt(keep / ratio))
        found[min(high, rows), min(wide, columns)] += 1
    return {size: n / len(ratios) for size, n in found.items()}


def published_ratio(size: tuple[int, int], blocks: int, grid: tuple[int, int, int]) -> float:
    """The expected share of a frame that blocks of one size hide, given that they do not hide all of it."""
    (high, wide), (_, rows, columns) = size, grid
    places = list(itertools.product(range(rows - high + 1), range(columns - wide + 1)))
    if blocks == 2:  # few places: every pair of them
        shares = []
        for one, other in itertools.product(places, repeat=2):
            frame = np.zeros((rows, columns), bool)
            for top, left in (one, other):
                frame[top : top + high, left : left + wide] = True
            if not frame.all():
                shares.append(frame.mean())
        return float(np.mean(shares))
    missed = np.zeros((rows, columns))
    for top, left in places:
        one_block = np.ones((rows, columns))
        one_block[top : top + high, left : left + wide] = 0
        missed += one_block / len(places)
    return float(1 - (missed**blocks).mean())


def drawn(kind: MultiBlock, grid: tuple[int, int, int], number: int) -> tuple[tuple[int, int, int], np.ndarray]:
    rng = np.random.default_rng([7, number])
    size = kind.size(grid, aspect=float(rng.uniform(*kind.aspect)))
    return size, kind.hides(grid, size=size, rng=rng)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_thousand_masks_have_the_published_statistics(kind: MultiBlock, grid: tuple[int, int, int]) -> None:
    sizes = published_sizes(kind, grid)
    ratios = {size: published_ratio(size, kind.blocks, grid) for size in sizes}
    masks = [drawn(kind, grid, number) for number in range(DRAWS)]
    assert all((mask == mask[0]).all() for _, mask in masks), "tubes through every bin"
    assert {size[0] for size, _ in masks} == {grid[0]}
    counts = Counter(size[1:] for size, _ in masks)
    assert counts.keys() <= sizes.keys()
    for size, share in sizes.items():  # aspect ratios, as the sizes that they become
        assert abs(counts[size] / DRAWS - share) < 4 * math.sqrt(share * (1 - share) / DRAWS) + 1e-9
    shares = np.array([mask.mean() for _, mask in masks])
    expected = sum(share * ratios[size] for size, share in sizes.items())
    assert abs(shares.mean() - expected) < 4 * shares.std() / math.sqrt(DRAWS)


@pytest.mark.parametrize(("kind", "blocks", "scale"), [(SHORT_RANGE, 8, 0.15), (LONG_RANGE, 2, 0.7)])
def test_the_two_kinds_are_the_published_ones(kind: MultiBlock, blocks: int, scale: float) -> None:
    settings = (kind.blocks, kind.spatial_scale, kind.temporal_scale, kind.aspect)
    assert settings == (blocks, scale, 1.0, (0.75, 1.5))


def test_as_many_blocks_are_placed_as_the_kind_says() -> None:
    """Single tokens far apart show how many there are: never more than `blocks`, and that many nearly always."""
    grid, few = (2, 40, 40), MultiBlock(name="dots", blocks=8, spatial_scale=1 / 1600, aspect=(1.0, 1.0))
    counts = [int(drawn(few, grid, number)[1][0].sum()) for number in range(200)]
    assert max(counts) == 8
    assert np.mean(counts) > 7.9


def test_a_block_in_part_of_the_bins_begins_in_any_of_them() -> None:
    half = MultiBlock(name="half", blocks=1, spatial_scale=0.25, temporal_scale=0.5)
    firsts = {int(np.flatnonzero(drawn(half, (8, 16, 16), n)[1].any((1, 2)))[0]) for n in range(200)}
    assert firsts == set(range(5))


def test_clips_of_a_batch_show_and_hide_equally_many_tokens_the_first_ones() -> None:
    masks = [np.zeros((2, 2, 2), bool) for _ in range(2)]
    masks[0][:, 0, 0] = True
    masks[1][:, 0] = True
    places = as_places(masks)
    assert places.context.tolist() == [[1, 2, 3, 5], [2, 3, 6, 7]]
    assert places.targets.tolist() == [[0, 4], [0, 1]]


def test_draws_depend_on_the_place_in_the_run_and_the_clip_alone() -> None:
    def places(*clips: int, start: int = 32, epoch: int = 1) -> np.ndarray:
        return draw_places(LONG_RANGE, grid=(8, 16, 16), clips=clips, where=[0, 0, epoch, start]).targets

    whole = places(5, 9, 5)
    assert (places(5, 9, 5) == whole).all()
    assert not (whole[0] == whole[2]).all(), "a clip drawn twice is masked twice"
    for other in (places(5, 9, 5, epoch=2), places(5, 9, 5, start=64)):
        assert other.shape != whole.shape or not (other == whole).all()


def test_a_block_that_leaves_nothing_or_hides_nothing_is_refused() -> None:
    with pytest.raises(CalotError, match=r"long\.spatial_scale=1\.0: a block .* covers the grid .* lower it"):
        MultiBlock(name="long", blocks=1, spatial_scale=1.0, aspect=(1.0, 1.0)).require((4, 8, 8))
    with pytest.raises(CalotError, match=r"dot\.spatial_scale=0\.001: .* hides nothing of the grid .* raise it"):
        MultiBlock(name="dot", blocks=1, spatial_scale=0.001).require((4, 8, 8))
    with pytest.raises(FieldError, match=r"aspect=\(2\.0, 1\.0\)"):
        MultiBlock(name="x", blocks=1, spatial_scale=0.5, aspect=(2.0, 1.0))
    for grid, kind in itertools.product(GRIDS, KINDS):
        kind.require(grid)


def test_blocks_that_always_hide_everything_end_with_an_error() -> None:
    wide = MultiBlock(name="wide", blocks=64, spatial_scale=0.9, aspect=(1.0, 1.0))
    with pytest.raises(CalotError, match=r"wide\.blocks=64: 1000 draws hid all"):
        wide.hides((1, 4, 4), size=(1, 3, 4), rng=np.random.default_rng(0))
