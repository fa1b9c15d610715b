"""Do blocks lie on the anatomy where a clip has a mask, and anywhere where it has none?"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_table import frames_folder, without_labels
from run_requests import StopAfter, requested, trained, trainer

from calot.errors import Stopped
from calot.experiments import find
from calot.pretraining.hiding import GuidedMeter, anatomy_in, hidden_in_training, hidden_in_validation
from calot.pretraining.masks import LONG_RANGE, SHORT_RANGE, AnatomyBlocks, MultiBlock, draw_places
from calot.run.trainer import Trainer
from calot.train.progress import Progress
from calot.types import IGNORED, MASK_PIXELS, Batch, Masks

P02 = "p02_anatomy_masks"
GRID, SMALL = (8, 16, 16), (4, 8, 8)
GUIDED = AnatomyBlocks(name="short", blocks=8, spatial_scale=0.15)
SINGLE = AnatomyBlocks(name="one", blocks=1, spatial_scale=0.15)
FAST = ("protocol=keyframes", "train.lr=1e-3", "train.adaptation.lr=1e-3", "train.epochs=2", "train.patience=2")


def corner(rows: slice, columns: slice) -> np.ndarray:
    anatomy = np.zeros(GRID[1:], bool)
    anatomy[rows, columns] = True
    return anatomy


def extents(hidden: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(hidden.any((0, 2))), np.flatnonzero(hidden.any((0, 1)))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def blocks(kind: AnatomyBlocks, anatomy: np.ndarray, *, draws: int = 200) -> Iterator[np.ndarray]:
    for number in range(draws):
        rng = np.random.default_rng([3, number])
        size = kind.size(GRID, aspect=float(rng.uniform(*kind.aspect)))
        yield kind.hides(GRID, size=size, rng=rng, anatomy=anatomy)


@pytest.mark.parametrize("rows", [slice(0, 3), slice(13, 16)], ids=["top", "bottom"])
@pytest.mark.parametrize("columns", [slice(0, 3), slice(13, 16)], ids=["left", "right"])
def test_with_all_anatomy_in_a_corner_every_block_lies_in_that_corner(rows: slice, columns: slice) -> None:
    """A block of 5 to 7 tokens to a side is moved into the frame, so that it touches both of the corner's edges."""
    for hidden in blocks(SINGLE, corner(rows, columns)):
        top, bottom, left, right = extents(hidden)
        assert top == 0 if rows.start == 0 else bottom == 15
        assert left == 0 if columns.start == 0 else right == 15


def test_a_blocks_centre_is_a_token_of_anatomy_and_each_is_as_likely() -> None:
    """Where blocks need not be moved, the centre is the middle token, or the one after it."""
    anatomy = corner(slice(7, 9), slice(6, 10))
    met = np.zeros(GRID[1:])
    for hidden in blocks(SINGLE, anatomy, draws=1600):
        top, bottom, left, right = extents(hidden)
        met[top + (bottom - top + 1) // 2, left + (right - left + 1) // 2] += 1
    assert not met[~anatomy].any()
    assert np.abs(met[anatomy] - 200).max() < 4 * np.sqrt(200)


def test_without_anatomy_the_draws_are_those_of_multi_block() -> None:
    where, clips = [0, 0, 1, 32], (5, 9, 5)
    free = draw_places(SHORT_RANGE, grid=GRID, clips=clips, where=where)
    for anatomy in (None, [np.zeros(GRID[1:], bool)] * 3):
        places = draw_places(GUIDED, grid=GRID, clips=clips, where=where, anatomy=anatomy)
        assert (places.context == free.context).all()
        assert (places.targets == free.targets).all()
    guided = draw_places(GUIDED, grid=GRID, clips=clips, where=where, anatomy=[corner(slice(3), slice(3))] * 3)
    assert guided.targets.shape != free.targets.shape or (guided.targets != free.targets).any()


def test_multi_block_takes_no_notice_of_masks() -> None:
    where, anatomy = [0, 0, 1, 32], [corner(slice(3), slice(3))]
    for kind in (SHORT_RANGE, LONG_RANGE):
        free, seen = (draw_places(kind, grid=GRID, clips=[4], where=where, anatomy=a) for a in (None, anatomy))
        assert (free.targets == seen.targets).all()


def clips_with(values: np.ndarray) -> Masks:
    b, m = values.shape[:2]
    return Masks(
        values=torch.from_numpy(values),
        weight=torch.ones(b, m),
        place=torch.zeros(b, m, dtype=torch.int64),
        complete=torch.ones(b, dtype=torch.bool),
    )


def test_a_token_shows_anatomy_where_any_pixel_of_any_mask_does_and_ignored_ones_are_none() -> None:
    side = 16 * MASK_PIXELS
    values = np.zeros((3, 2, side, side), np.uint8)
    values[0, 1, 5 * MASK_PIXELS + 3, 2 * MASK_PIXELS] = 4
    values[1] = IGNORED
    found = anatomy_in(clips_with(values), grid=GRID)
    assert found is not None
    assert [np.argwhere(tokens).tolist() for tokens in found] == [[[5, 2]], [], []]
    meter = GuidedMeter()
    assert meter.share is None
    meter.add(clips_with(values), grid=GRID)
    assert meter.share == 1 / 3


@pytest.fixture(scope="module")
def small(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return trainer(phantom, tmp_path_factory.mktemp("small") / "run", *FAST, name=P02)


def test_masks_travel_because_a_kind_reads_them_and_for_no_other_reason(small: Trainer, phantom: Path) -> None:
    assert small.train_set.masks is not None
    assert small.val_set.masks is not None
    p01 = find("p01_masked_prediction").experiment
    assert not p01.uses_masks
    assert {d.field.rsplit(".", 2)[0] for d in find(P02).experiment.difference(p01)} <= {"objective", "objective.masks"}
    assert replace(p01, objective=find(P02).experiment.objective).uses_masks


def test_a_batch_of_the_run_hides_what_its_own_masks_show(small: Trainer) -> None:
    """After augmentation: masks are mirrored with their frames, and so are the places of blocks."""
    small.progress = Progress()
    batch = next(small.batches(small.request.experiment.train, epoch=0, start=0))
    (own,) = (kind for kind in small.request.experiment.objective.masks if kind.reads_masks)
    wide = replace(own, on_anatomy=1.0)
    met: dict[str, list[float]] = {"own": [], "mirrored": []}
    for clip in range(len(batch)):
        one = batch.of(torch.tensor([clip]))  # of a clip alone nothing is cut off
        (anatomy,) = anatomy_in(one.masks, grid=SMALL) or [np.zeros(SMALL[1:], bool)]
        for place in range(10):
            targets = (
                hidden_in_training(one, kinds=(wide,), grid=SMALL, where=(0, 0, 0, place)).hidden[own.name].targets
            )
            hidden = np.isin(np.arange(64), targets[0].numpy()).reshape(SMALL[1:])
            met["own"].append(float(hidden[anatomy].mean()))
            met["mirrored"].append(float(hidden[:, ::-1][anatomy].mean()))
    assert np.mean(met["own"]) > 0.95
    assert np.mean(met["mirrored"]) < np.mean(met["own"]) - 0.03


def test_half_the_blocks_lie_on_anatomy_and_the_others_anywhere() -> None:
    """Far from the anatomy, 4 blocks of 8 hide what 4 free ones do; on it, more than 8 free ones."""
    anatomy = corner(slice(2, 4), slice(2, 4))
    shares = {
        name: _hidden_share(kind, anatomy)
        for name, kind in {
            "half": GUIDED,
            "free": SHORT_RANGE,
            "four": replace(SHORT_RANGE, blocks=4),
        }.items()
    }
    near, far = anatomy, corner(slice(9, 16), slice(9, 16))
    assert shares["half"][near].min() > 0.95 > shares["free"][near].mean()
    assert abs(shares["half"][far].mean() - shares["four"][far].mean()) < 0.03


def _hidden_share(kind: MultiBlock, anatomy: np.ndarray) -> np.ndarray:
    """How often each token of a frame is hidden."""
    masks = []
    for number in range(600):
        rng = np.random.default_rng([4, number])
        size = kind.size(GRID, aspect=float(rng.uniform(*kind.aspect)))
        masks.append(kind.hides(GRID, size=size, rng=rng, anatomy=anatomy)[0])
    shares: np.ndarray = np.mean(masks, axis=0)
    return shares


def test_validation_hides_the_same_however_its_clips_are_cut(small: Trainer) -> None:
    kinds, val = small.request.experiment.objective.masks, small.val_set

    def hidden(size: int) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for first in range(0, len(val), size):
            batch = _clips(small, first, min(first + size, len(val)))
            for part in hidden_in_validation(batch, kinds=kinds, grid=SMALL, val=val):
                rows = part.hidden["anatomy"].targets.tolist()
                found |= dict(zip(part.index.tolist(), rows, strict=True))
        return found

    assert hidden(3) == hidden(7) == hidden(len(val))


def _clips(run: Trainer, first: int, end: int) -> Batch:
    from calot.data.dataset import EpochIndices

    return run.val_set[EpochIndices(epoch=0, indices=tuple(range(first, end)))]


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").open()))


@pytest.fixture(scope="module")
def pretrained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(requested(phantom, tmp_path_factory.mktemp("guided") / "run", P02, changes=FAST))


def test_the_shares_of_guided_clips_are_those_of_clips_whose_masks_show_anatomy(
    pretrained: Path, small: Trainer
) -> None:
    found = {}
    for split, clips in (("train", small.train_set), ("val", small.val_set)):
        assert clips.masks is not None
        each = clips.masks.read(np.arange(len(clips))).values.numpy()
        found[split] = np.mean([any(1 <= value <= 4 for value in np.unique(clip)) for clip in each])
    for row in rows_of(pretrained):
        assert float(row["train_guided"]) == pytest.approx(found["train"])
        assert float(row["val_guided"]) == pytest.approx(found["val"])
    assert 0 < found["val"] < 1


def test_a_stop_within_an_epoch_changes_no_byte(phantom: Path, pretrained: Path, tmp_path: Path) -> None:
    request = requested(phantom, tmp_path / "run", P02, changes=FAST)
    with pytest.raises(Stopped):
        trained(request, stopper=StopAfter(2))
    trained(replace(request, resume=True))
    for name in ("metrics.csv", *(f"checkpoints/{kind}/model.safetensors" for kind in ("best", "last"))):
        one, other = (hashlib.sha256((f / name).read_bytes()).hexdigest() for f in (pretrained, tmp_path / "run"))
        assert one == other, name


def test_frames_without_any_mask_train_as_unguided_ones(tmp_path: Path) -> None:
    bare = without_labels(frames_folder(tmp_path / "bare"))
    folder = trained(requested(bare, tmp_path / "run", P02, changes=FAST))
    assert {(row["train_guided"], row["val_guided"]) for row in rows_of(folder)} == {("0.0", "0.0")}
