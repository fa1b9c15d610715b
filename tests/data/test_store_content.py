"""A frame store is believed no further than its bytes and its sources' bytes, and holds images of one size."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from endoscapes_folder import Folder
from PIL import Image

from calot.data import store as store_module
from calot.data import store_build
from calot.data.digests import file_digest
from calot.data.geometry import Squash
from calot.data.readers import open_folder
from calot.data.sources import ImageFiles
from calot.data.store import FrameStore, open_store, require_equal_sizes, verify_store
from calot.errors import CalotError


@pytest.fixture
def root(folder: Callable[[], Folder]) -> Path:
    return folder().write_images()


def opened(root: Path, *, split: str = "train", **more: Any) -> FrameStore:
    """As another process would open it: nothing was looked at yet."""
    store_module._checked.clear()
    return open_store(root, open_folder(root).manifest.split(split), geometry=Squash(), size=16, **more)


def flip(path: Path, *, at: int) -> None:
    """Change one bit and leave size and time as they were."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("at", [0, 5000, 24 * 3 * 16 * 16 - 1])
def test_a_damaged_byte_is_refused_on_opening(root: Path, at: int) -> None:
    flip(opened(root).path / "frames.raw", at=at)
    with pytest.raises(CalotError, match=r"rows \d+\.\.\d+ were damaged. Delete .* and build again"):
        opened(root)


def test_an_image_changed_under_the_same_size_and_time_is_named(root: Path) -> None:
    opened(root)
    path = root / "train" / "2_2050.jpg"
    flip(path, at=path.stat().st_size - 20)
    with pytest.raises(CalotError, match=r"2_2050\.jpg: its bytes changed, under the same size and time"):
        opened(root)


@pytest.mark.parametrize("field", ["black", "sizes", "chunks", "sources", "shape", "split"])
def test_an_edited_record_is_refused(root: Path, field: str) -> None:
    path = opened(root).path / "store.json"
    text = path.read_text()
    place = text.index(f'"{field}"') + len(field) + 4
    digit = next(i for i in range(place, len(text)) if text[i].isalnum()) if field != "black" else place
    new = text[:digit] + ("7" if text[digit] != "7" else "8") + text[digit + 1 :]
    path.write_text(new if field != "black" else text.replace('"black": []', '"black": [3]'))
    with pytest.raises(CalotError, match=r"not a whole store .*Delete the folder and build again"):
        opened(root)


def test_the_store_of_other_frames_under_this_name_is_refused(root: Path) -> None:
    train, val = opened(root), opened(root, split="val")
    shutil.rmtree(train.path)
    shutil.copytree(val.path, train.path)
    with pytest.raises(CalotError, match="a store of other frames is here"):
        opened(root)


def test_only_a_part_is_read_on_opening_and_all_on_asking(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One chunk and one image of 24 each time: within a few openings either is caught, and by `verify` at once."""
    monkeypatch.setattr(store_build, "CHUNK", 1)
    monkeypatch.setattr(store_module, "CHECKED_BYTES", 1)
    monkeypatch.setattr(store_module, "CHECKED_FILES", 0)
    store = opened(root)
    flip(store.path / "frames.raw", at=23 * 3 * 16 * 16)
    monkeypatch.setattr(np.random, "default_rng", _seeds())
    opened(root)  # the first chunk that chance chooses here is a whole one
    with pytest.raises(CalotError, match=r"rows 23\.\.23 were damaged"):
        [opened(root) for _ in range(200)]
    with pytest.raises(CalotError, match=r"rows 23\.\.23"):
        verify_store(store, manifest_rows=open_folder(root).manifest.split("train"), frames=ImageFiles(root))


def _seeds() -> Callable[[], np.random.Generator]:
    """The chance of one opening after another, the same in each run of this test."""
    generators = (np.random.Generator(np.random.PCG64(seed)) for seed in range(10_000))
    return lambda: next(generators)


def test_verify_reads_every_image_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(root)
    path = root / "train" / "10_10100.jpg"
    flip(path, at=path.stat().st_size - 20)
    with pytest.raises(CalotError, match=r"10_10100\.jpg: its bytes changed"):
        verify_store(store, manifest_rows=open_folder(root).manifest.split("train"), frames=ImageFiles(root))


def test_a_large_file_is_known_by_blocks_from_all_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "video.mp4"
    with path.open("wb") as file:
        file.truncate(65 << 20)
    first = file_digest(path)
    assert file_digest(path) == first
    for at in (0, (65 << 20) - 1):
        flip(path, at=at)
        assert file_digest(path) != first
        flip(path, at=at)


SIZES = {"one pixel": (1, 1), "portrait": (24, 40), "landscape": (80, 48), "one row more": (40, 25)}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_image_of_another_size_than_the_sets_is_refused_by_name(root: Path, split: str, name: str) -> None:
    images = sorted((root / split).glob("*.jpg"))[:2]
    for image in images:
        Image.open(image).resize(SIZES[name]).save(image)
    width, height = SIZES[name]
    said = rf"2 of \d+ images of {split} have another size than the set's 24 x 40 "
    named = rf".*{split}/\w+\.jpg \({height} x {width}\).*frames\.mixed_sizes=True"
    with pytest.raises(CalotError, match=said + named):
        opened(root, split=split)


def test_mixed_sizes_that_are_declared_are_read_and_not_afterwards_without_the_declaration(root: Path) -> None:
    image = root / "train" / "2_2050.jpg"
    Image.open(image).resize((60, 20)).save(image)
    store = opened(root, mixed_sizes=True)
    assert store.sizes.count((24, 40)) == 23
    assert store.sizes[2] == (20, 60)
    with pytest.raises(CalotError, match=r"2_2050\.jpg \(20 x 60\)"):
        opened(root)


def test_splits_of_another_size_each_are_refused(root: Path) -> None:
    for image in (root / "val").glob("*.jpg"):
        Image.open(image).resize((60, 20)).save(image)
    stores = [opened(root, split=split) for split in ("train", "val")]
    with pytest.raises(CalotError, match=r"train 24 x 40, val 20 x 60.*frames.mixed_sizes=True"):
        require_equal_sizes(stores, root=root)
    require_equal_sizes(stores[:1], root=root)
