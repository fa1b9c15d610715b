"""A folder without findings is one that the other commands accept: what training would refuse is a finding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from endoscapes_folder import ALL, NO, Folder
from PIL import Image

from calot.data.clip_rules import ClipRule
from calot.data.clips import CentreLabel, Keyframes, build_clips
from calot.data.readers import open_folder
from calot.data.verify import verify
from calot.errors import CalotError


def made(root: Path, *, val: bool = True, train: bool = True, positive: bool = True, frames: int = 12) -> Path:
    folder = Folder(root=root)
    for number, split in ((1, "train"), (2, "val"), (3, "test")):
        if (split == "val" and not val) or (split == "train" and not train):
            continue
        numbers = list(range(0, frames * 25, 25))
        folder.video(number, split=split, frames=numbers, votes={numbers[-1]: ALL if positive or number != 2 else NO})
    return folder.write_images()


def refusal(root: Path) -> str | None:
    """What training says of the folder's tables."""
    try:
        manifest = open_folder(root).manifest
        for split in ("train", "val"):
            table = build_clips(
                manifest,
                split=split,
                protocol=Keyframes(),
                rule=ClipRule(),
                label_rule=CentreLabel(),
                training=split == "train",
            )
        table.require_positives()
    except CalotError as error:
        return str(error)
    return None


FOLDERS: dict[str, Callable[[Path], Path]] = {
    "no positive in val": lambda r: made(r, positive=False),
    "no val": lambda r: made(r, val=False),
    "no train": lambda r: made(r, train=False),
    "stills": lambda r: made(r, frames=1),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_what_training_refuses_is_a_finding(tmp_path: Path, name: str) -> None:
    root = FOLDERS[name](tmp_path / "d")
    said = refusal(root)
    assert said is not None
    assert not verify(root).passed


def test_what_training_accepts_is_none(tmp_path: Path) -> None:
    root = made(tmp_path / "d")
    assert refusal(root) is None
    assert [f for f in verify(root).findings if f.check == "training"] == []


def test_images_that_ask_to_be_turned_are_noted(tmp_path: Path) -> None:
    root = made(tmp_path / "d")
    image = root / "val" / "2_25.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.open(image).copy().save(image, exif=exif)
    plain = root / "val" / "2_50.jpg"
    exif[274] = 1
    Image.open(plain).copy().save(plain, exif=exif)
    (note,) = [n for n in verify(root).notes if n.check == "orientation"]
    assert note.message.startswith("1 images ask in their EXIF to be turned, first val/2_25.jpg")
