"""True masks: classes on disk become training classes, and a picture that is no mask is never read as one."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from whole_folder import HEIGHT, WIDTH, write_mask, write_whole

from calot.data.clip_rules import ClipRule
from calot.data.clips import CentreLabel, Keyframes, build_clips
from calot.data.endoscapes.reader import read_endoscapes
from calot.data.geometry import Squash
from calot.data.masks import ClipMasks, open_masks, read_mask, verify_masks
from calot.errors import CalotError
from calot.types import IGNORED


def read(path: Path) -> np.ndarray:
    return read_mask(path, geometry=Squash(), size=HEIGHT, frame_size=(HEIGHT, WIDTH))


def full(*, value: int, dtype: type = np.uint8, height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    return Image.fromarray(np.full((height, width), value, dtype=dtype))


def test_classes_on_disk_become_training_classes(tmp_path: Path) -> None:
    for found, wanted in ((0, 0), (1, 1), (4, 4), (5, 0), (6, 0), (7, IGNORED), (255, IGNORED)):
        full(value=found).save(tmp_path / "mask.png")
        assert (read(tmp_path / "mask.png") == wanted).all()


@pytest.mark.parametrize("write", [lambda m: m, lambda m: m.convert("RGB"), lambda m: m.convert("RGBA")])
def test_grey_and_equal_channels_read_the_same(tmp_path: Path, write: Callable[[Image.Image], Image.Image]) -> None:
    write(full(value=3)).save(tmp_path / "mask.png")
    assert (read(tmp_path / "mask.png") == 3).all()


def test_sixteen_bits_hold_the_same_classes(tmp_path: Path) -> None:
    full(value=3, dtype=np.uint16).save(tmp_path / "mask.png")
    assert (read(tmp_path / "mask.png") == 3).all()


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (full(value=1).convert("P"), "PNG", "a PNG of mode P, whose numbers need not be class ids"),
        (full(value=255).convert("1"), "PNG", "a PNG of mode 1, whose numbers"),
        (full(value=1).convert("LA"), "PNG", "a PNG of mode LA, whose numbers"),
        (full(value=1), "JPEG", "a JPEG of mode L, whose numbers"),
        (full(value=0, dtype=np.float32), "TIFF", "a TIFF of mode F, whose numbers"),
        (full(value=9), "PNG", r"class ids \[9\] are unknown"),
        (full(value=1000, dtype=np.uint16), "PNG", r"class ids \[1000\] are unknown"),
        (full(value=1, width=WIDTH + 1), "PNG", "the mask is 24 x 41, its frame 24 x 40"),
        (Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 1)), "PNG", "its channels differ"),
    ],
)
def test_a_picture_that_is_no_mask_is_refused(tmp_path: Path, image: Image.Image, kind: str, message: str) -> None:
    image.save(tmp_path / "mask.png", format=kind)
    with pytest.raises(CalotError, match=rf"{re.escape(str(tmp_path / 'mask.png'))}: .*{message}"):
        read(tmp_path / "mask.png")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(CalotError, match=r"mask\.png: not a readable mask"):
        read(tmp_path / "mask.png")


def opened(root: Path) -> ClipMasks:
    manifest = read_endoscapes(root)
    table = build_clips(
        manifest, split="train", protocol=Keyframes(), rule=ClipRule(length=4), label_rule=CentreLabel(), training=True
    )
    return open_masks(root, table, manifest.split("train"), geometry=Squash(), size=HEIGHT, labelled_place=3)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"no picture")])
def test_a_mask_whose_frame_cannot_be_read_names_the_frame(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    root = write_whole(tmp_path / "whole")
    damage(root / "train" / "2_2025.jpg")
    with pytest.raises(CalotError, match=r"2_2025\.jpg: .*its mask semseg/2_2025\.png needs its size"):
        opened(root)


def test_masks_read_once_are_not_keyed_by_file_name(tmp_path: Path) -> None:
    """Other classes under the same name: another file of read masks."""
    root = write_whole(tmp_path / "whole")
    first = opened(root)
    write_mask(root / "semseg" / "2_2025.png", values=[2] * WIDTH)
    second = opened(root)
    assert second.path != first.path
    whole = np.arange(len(first.which))
    assert not (first.read(whole).values == second.read(whole).values).all()


@pytest.mark.parametrize("left", [0, 10, 200])
def test_a_cut_file_of_read_masks_is_named(tmp_path: Path, left: int) -> None:
    root = write_whole(tmp_path / "whole")
    path = opened(root).path
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(CalotError, match=rf"{path.name}: damaged .*Delete .*: the masks are then read again"):
        opened(root)


def _flip(path: Path, *, at: int) -> None:
    """Change one bit and leave size and time as they were."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_flipped_byte_in_kept_masks_or_in_a_mask_of_the_same_size_and_time_is_named(tmp_path: Path) -> None:
    root = write_whole(tmp_path / "whole")
    path = opened(root).path
    _flip(path, at=path.stat().st_size - 1)
    with pytest.raises(CalotError, match="its masks are not those that were read"):
        opened(root)
    path.unlink()
    opened(root)
    mask = sorted((root / "semseg").glob("2_*.png"))[0]
    _flip(mask, at=mask.stat().st_size - 20)
    with pytest.raises(CalotError, match=rf"{mask.name}: its bytes changed, under the same size and time"):
        opened(root)
    with pytest.raises(CalotError, match=rf"{mask.name}: its bytes changed"):
        verify_masks(root)
