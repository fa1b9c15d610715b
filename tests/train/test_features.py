"""The feature cache's files: what was computed comes back, a kill costs one shard, a flipped byte is refused."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from calot.errors import CalotError
from calot.train import features
from calot.train.features import FeatureBuild, FeatureCache, FeatureShape, Kind, open_features

FACTS = {"weights": "these"}


def shaped(kind: Kind = "fp32") -> FeatureShape:
    return FeatureShape(clips=10, views=2, grid=(2, 3, 4), width=8, kind=kind, shard=4)


def tokens(view: int, clip: int) -> Tensor:
    drawn = torch.randn(24, 8, generator=torch.Generator().manual_seed(100 * view + clip))
    return drawn * torch.logspace(-3, 2, 8)  # channels of unlike size


class Computing:
    """Gives each clip's tokens, two clips at a time; `dies` after so many batches."""

    def __init__(self, *, dies: int = 10**9) -> None:
        self.asked: list[tuple[int, int]] = []
        self.left = dies

    def __call__(self, view: int, clips: range) -> Iterator[Tensor]:
        for start in range(clips.start, clips.stop, 2):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            pair = range(start, min(start + 2, clips.stop))
            self.asked += [(view, clip) for clip in pair]
            yield torch.stack([tokens(view, clip) for clip in pair])


def built(home: Path, *, kind: Kind = "fp32", compute: Computing | None = None) -> FeatureCache:
    shape = shaped(kind)
    FeatureBuild(home=home, shape=shape, facts=FACTS, compute=compute or Computing()).run(advance=lambda a, b: None)
    return open_features(home, facts=FACTS, shape=shape)


@pytest.mark.parametrize("kind", ["fp32", "fp16", "int8"])
def test_any_clips_in_any_views_come_back_within_the_kinds_tolerance(tmp_path: Path, kind: Kind) -> None:
    cache = built(tmp_path / "f", kind=kind)
    clips, views = np.array([9, 0, 3, 3, 9]), np.array([1, 0, 1, 0, 0])
    found = cache.read(clips, views=views)
    wanted = torch.stack([tokens(v, c) for v, c in zip(views.tolist(), clips.tolist(), strict=True)])
    assert (found.grid, found.values.dtype) == ((2, 3, 4), torch.float32)
    by_clip = (found.values - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
    assert float(by_clip.max()) <= (0.0 if kind == "fp32" else cache.tolerance)
    assert float((found.values - wanted)[..., 0].norm() / wanted[..., 0].norm()) < 0.02, "the smallest channel too"
    assert torch.equal(cache.read(clips).values[1], found.values[1])


def test_it_is_read_alike_from_a_device(tmp_path: Path) -> None:
    cache = built(tmp_path / "f", kind="int8")
    clips = np.arange(10)[::-1].copy()
    held = replace(cache, device=torch.device("cpu"))
    assert torch.equal(held.read(clips, views=clips % 2).values, cache.read(clips, views=clips % 2).values)


@pytest.mark.parametrize(("clip", "view"), [(10, 0), (-1, 0), (0, 2)])
def test_a_clip_or_view_that_is_not_there_is_refused(tmp_path: Path, clip: int, view: int) -> None:
    with pytest.raises(IndexError):
        built(tmp_path / "f").read(np.array([clip]), views=np.array([view]))


def test_a_build_that_was_killed_computes_only_the_missing_shards(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        built(tmp_path / "f", compute=Computing(dies=3))  # two batches are the first shard
    again = Computing()
    cache = built(tmp_path / "f", compute=again)
    assert (0, 3) not in again.asked
    assert again.asked[0] == (0, 4)
    assert torch.equal(cache.read(np.array([0])).values[0], tokens(0, 0))


def test_a_shard_that_was_damaged_while_unfinished_is_computed_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        built(tmp_path / "f", compute=Computing(dies=5))
    path = tmp_path / "f.part" / features.VALUES
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    again = Computing()
    built(tmp_path / "f", compute=again)
    assert again.asked[0] == (0, 0)
    assert (0, 4) not in again.asked


@pytest.mark.parametrize("kind", ["fp32", "int8"])
@pytest.mark.parametrize("place", [0.0, 0.37, 0.999])
def test_one_flipped_byte_is_refused(tmp_path: Path, kind: Kind, place: float) -> None:
    built(tmp_path / "f", kind=kind)
    for name in (features.VALUES, features.SCALES) if kind == "int8" else (features.VALUES,):
        path = tmp_path / "f" / name
        data = bytearray(path.read_bytes())
        data[int(place * len(data))] ^= 64
        path.write_bytes(data)
        with pytest.raises(CalotError, match="damaged"):
            open_features(tmp_path / "f", facts=FACTS, shape=shaped(kind))
        data[int(place * len(data))] ^= 64
        path.write_bytes(data)


def test_a_folder_of_other_features_or_a_cut_file_is_refused(tmp_path: Path) -> None:
    built(tmp_path / "f")
    with pytest.raises(CalotError, match="something else"):
        open_features(tmp_path / "f", facts={"weights": "those"}, shape=shaped())
    with pytest.raises(CalotError, match="something else"):
        open_features(tmp_path / "f", facts=FACTS, shape=shaped("fp16"))
    path = tmp_path / "f" / features.VALUES
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CalotError, match="bytes are not"):
        open_features(tmp_path / "f", facts=FACTS, shape=shaped())
    (tmp_path / "f" / features.RECORD).write_text("{}")
    with pytest.raises(CalotError, match="not a whole feature cache"):
        open_features(tmp_path / "f", facts=FACTS, shape=shaped())


def test_tokens_that_are_not_finite_stop_the_build_and_name_the_clips(tmp_path: Path) -> None:
    class Broken(Computing):
        def __call__(self, view: int, clips: range) -> Iterator[Tensor]:
            for found in super().__call__(view, clips):
                yield torch.where(torch.arange(8) == 7, torch.inf, found) if clips.start == 4 else found

    with pytest.raises(CalotError, match=r"non-finite tokens among clips 4\.\.7, view 0"):
        built(tmp_path / "f", compute=Broken())


def test_too_little_room_is_said_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    asked = Computing()
    with pytest.raises(CalotError, match=r"compute\.features=off"):
        built(tmp_path / "f", compute=asked)
    assert asked.asked == []
