"""The frame store holds exactly the frames the manifest names, or none at all."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from endoscapes_folder import Folder
from PIL import Image

from calot.data import pictures, store_build
from calot.data.decode import decode_jpeg, decode_jpeg_bytes
from calot.data.endoscapes.reader import read_endoscapes
from calot.data.geometry import CentreCrop, Geometry, Squash
from calot.data.store import FrameStore, open_store
from calot.errors import CalotError


@pytest.fixture
def root(folder: Callable[[], Folder]) -> Path:
    return folder().write_images()


SQUASH = Squash()


def opened(root: Path, *, split: str = "train", size: int = 16, geometry: Geometry = SQUASH, **more: Any) -> FrameStore:
    return open_store(root, read_endoscapes(root).split(split), geometry=geometry, size=size, **more)


def pixels_of(root: Path, *, split: str, size: int) -> np.ndarray:
    """The naive way: every JPEG with Pillow, in the manifest's order."""
    frames = []
    for image in read_endoscapes(root).split(split).table["image"]:
        picture = Image.open(root / image).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        frames.append(np.asarray(picture).transpose(2, 0, 1))
    return np.stack(frames)


@pytest.mark.parametrize("workers", [1, 3])
def test_stored_pixels_are_pillows_bit_for_bit_in_the_manifests_order(root: Path, workers: int) -> None:
    store = opened(root, workers=workers)
    assert store.shape == (24, 3, 16, 16)
    assert (store.read(np.arange(24)) == pixels_of(root, split="train", size=16)).all()
    store.verify()


def test_rows_of_any_shape_are_read(root: Path) -> None:
    store = opened(root)
    rows = np.array([[3, 3, 0], [23, 1, 2]], dtype=np.int32)
    video = store.read(rows)
    assert video.shape == (2, 3, 3, 16, 16)
    assert (video[1, 0] == store.read(np.array(23))).all()
    buffer = np.empty_like(video)
    store.read(rows, out=buffer)
    assert (buffer == video).all()
    for outside in (-1, 24):
        with pytest.raises(IndexError, match=r"there are 0\.\.23"):
            store.read(np.array([0, outside]))


def test_a_missing_frame_is_never_silently_used(root: Path) -> None:
    for frame in (10025, 10050):
        (root / "train" / f"10_{frame}.jpg").unlink()
    with pytest.raises(CalotError, match=r"2 of 24 frames are missing: train/10_10025\.jpg, train/10_10050\.jpg"):
        opened(root)
    assert not (root / ".calot").exists()


def test_a_truncated_frame_is_never_silently_used_and_all_of_them_are_named(root: Path) -> None:
    for frame in (2000, 2100):
        path = root / "train" / f"2_{frame}.jpg"
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CalotError, match=r"2 of 24 frames cannot be decoded: train/2_2000\.jpg, train/2_2100\.jpg"):
        opened(root)
    assert list((root / ".calot" / "store").iterdir()) == []
    with pytest.raises(CalotError, match=r"2_2000\.jpg: not a whole JPEG"):
        decode_jpeg(root / "train" / "2_2000.jpg")


def test_at_most_twenty_frames_are_named(root: Path) -> None:
    shutil.rmtree(root / "train")
    with pytest.raises(CalotError, match=r"24 of 24 frames are missing: .* and 4 more"):
        opened(root)


def test_a_twenty_byte_file_in_place_of_a_link_is_no_frame(root: Path) -> None:
    (root / "val" / "121_121000.jpg").write_bytes(b"../all/121_121000.jp")
    with pytest.raises(CalotError, match=r"cannot be decoded: val/121_121000\.jpg"):
        opened(root, split="val")


def test_0_based_and_1_based_frame_numbers_are_told_apart_from_a_missing_frame(root: Path) -> None:
    for path in sorted((root / "train").iterdir()):
        video, frame = path.stem.split("_")
        path.rename(path.with_name(f"{video}_{int(frame) + 1}.jpg"))
    with pytest.raises(CalotError, match=r"There is 2_2001\.jpg: are frames numbered another way"):
        opened(root)


def test_a_black_frame_is_kept_and_reported(root: Path) -> None:
    Image.new("RGB", (40, 24)).save(root / "train" / "2_2050.jpg")
    assert opened(root).black == (2,)


def test_a_second_opening_reads_the_same_store_and_no_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(root)
    monkeypatch.setattr(pictures, "decode_picture_bytes", lambda data, path: pytest.fail("decoded again"))
    assert opened(root) == first


def test_whatever_changes_the_pixels_changes_the_fingerprint(root: Path) -> None:
    first = opened(root).fingerprint
    assert opened(root, size=8).fingerprint != first
    assert opened(root, geometry=CentreCrop(crop=24)).fingerprint != first
    assert opened(root, split="val").fingerprint != first
    Image.new("RGB", (40, 24)).save(root / "train" / "2_2050.jpg")
    assert opened(root).fingerprint != first


def test_pitfall_a_feature_cache_keyed_by_file_name(root: Path, tmp_path: Path) -> None:
    """Two data sets of the same file names and one cache: each is read with its own pixels; so is a changed picture."""
    other, cache = tmp_path / "other", tmp_path / "cache"
    shutil.copytree(root, other)
    for path in (other / "train").iterdir():
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    for _ in range(2):
        one, two = (opened(home, cache=cache) for home in (root, other))
        assert one.path != two.path
        for store, home in ((one, root), (two, other)):
            assert (store.read(np.arange(24)) == pixels_of(home, split="train", size=16)).all()
    Image.new("RGB", (40, 24), (250, 10, 10)).save(root / "train" / "2_2050.jpg")
    assert (opened(root, cache=cache).read(np.arange(24)) == pixels_of(root, split="train", size=16)).all()


def test_a_crop_that_does_not_fit_names_the_file(root: Path) -> None:
    with pytest.raises(CalotError, match=r"2_2000\.jpg: CentreCrop\.crop=480 does not fit"):
        opened(root, geometry=CentreCrop())


def test_a_killed_build_resumes_where_it_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_build, "CHUNK", 5)

    def kill_at_half(done: int, total: int) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(root, progress=kill_at_half)
    decoded: list[Path] = []

    def watched(data: bytes, *, path: Path) -> np.ndarray:
        decoded.append(path)
        return decode_jpeg_bytes(data, path=path)

    monkeypatch.setattr(pictures, "decode_picture_bytes", watched)
    store = opened(root)
    assert len(decoded) == 14
    assert (store.read(np.arange(24)) == pixels_of(root, split="train", size=16)).all()
    store.verify()


def test_a_resumed_build_writes_damaged_chunks_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_build, "CHUNK", 5)

    def kill_near_the_end(done: int, total: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(root, progress=kill_near_the_end)
    (part,) = (root / ".calot" / "store").iterdir()
    with (part / "frames.raw").open("r+b") as file:
        file.write(b"\0" * 100)
    with (part / "journal.jsonl").open("a") as journal:
        journal.write('{"number": 4, "sha')
    assert (opened(root).read(np.arange(24)) == pixels_of(root, split="train", size=16)).all()


def test_two_builders_at_once_end_with_one_whole_store(root: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: opened(root), range(4)))
    assert len(set(stores)) == 1
    stores[0].verify()
    assert list((root / ".calot" / "store").iterdir()) == [stores[0].path]


def test_a_flipped_byte_is_found(root: Path) -> None:
    store = opened(root)
    with (store.path / "frames.raw").open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(CalotError, match=r"rows 0\.\.23 were damaged"):
        opened(root).verify()


@pytest.mark.parametrize("damage", ["record", "pixels"])
def test_a_damaged_store_is_refused_with_what_to_delete(root: Path, damage: str) -> None:
    store = opened(root)
    if damage == "record":
        (store.path / "store.json").write_text(json.dumps({"shape": [1]}))
    else:
        (store.path / "frames.raw").write_bytes(b"short")
    with pytest.raises(CalotError, match=r"Delete .* and build again"):
        opened(root)


def test_too_little_disk_is_said_before_anything_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_build.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(CalotError, match=r"24 frames needs 0\.00 GB, 0\.00 GB are free"):
        opened(root)


def test_a_folder_that_cannot_be_written_says_to_give_another(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CalotError, match="give a cache elsewhere"):
        opened(root, cache=tmp_path / "file" / "cache")


def test_two_splits_in_one_store_are_refused(root: Path) -> None:
    with pytest.raises(CalotError, match=r"Use manifest\.split"):
        open_store(root, read_endoscapes(root), geometry=Squash(), size=16)


def test_a_pickled_store_carries_no_pixels_and_reads_the_same(root: Path) -> None:
    store = opened(root)
    before = store.read(np.arange(3))
    data = pickle.dumps(store)
    assert len(data) < 2000
    assert (pickle.loads(data).read(np.arange(3)) == before).all()


def test_progress_counts_to_the_last_frame(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    opened(root, progress=lambda done, total: seen.append((done, total)))
    assert (seen[0], seen[-1]) == ((0, 24), (24, 24))


def test_the_store_needs_no_torch() -> None:
    code = "import sys, calot.data.store; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
