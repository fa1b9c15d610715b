"""Readers: each knows one kind of folder by looking at it, and gives its manifest and where its pixels are.

One more kind of folder is one more file below `calot.data` with a subclass of `Reader` in it (or, in another package,
one named under the entry points `calot.readers`): `data stats`, `verify`, `store`, `doctor`, `train` and `predict`
then take such folders.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from calot.data.manifest import Manifest
from calot.data.maskfolder import ENDOSCAPES_CODES, with_synthetic
from calot.data.sources import FrameSource, ImageFiles
from calot.errors import CalotError

if TYPE_CHECKING:
    from calot.data.verify.finding import CheckedFolder

_HERE = Path(__file__).parent


class Reader(ABC):
    """Reads one kind of folder. It has no state: what it says about a folder comes from the folder alone."""

    #: What a folder of this kind contains, for a person whose folder no reader recognises.
    looks_for: ClassVar[str]
    #: Class ids of masks on disk -> training classes; Endoscapes' own, unless a reader says otherwise.
    mask_codes: ClassVar[Mapping[int, int]] = ENDOSCAPES_CODES
    #: What a label of this layout means, for results that stand beside another data set's.
    labels_are: ClassVar[str] = "majority of raters (mean >= 0.5)"
    #: Whether pictures of several sizes are this layout's own: then `verify` notes them.
    several_sizes: ClassVar[bool] = False

    @abstractmethod
    def recognises(self, root: Path) -> bool:
        """Whether a folder is of this kind, by names of files alone."""

    @abstractmethod
    def manifest(self, root: Path) -> Manifest:
        """Frames, labels, raters and masks, and how frames are numbered. Raises CalotError for anything impossible."""

    def frames(self, root: Path) -> FrameSource:
        """Where pixels are; image files unless a reader says otherwise."""
        return ImageFiles(root)

    def confidences(self, root: Path) -> dict[str, tuple[float, ...]]:
        """How sure each rater was of each video, 0 to 1 in the raters' order; empty where nobody asked them."""
        return {}

    def verify(self, root: Path, *, workers: int = 0) -> CheckedFolder:
        """Everything that is wrong with a folder, in one pass; `workers` are threads that decode, 0 for all cores."""
        from calot.data.verify.plain import verify_plain

        return verify_plain(root, reader=self, workers=workers)

    def findings(self, root: Path) -> Iterator[str]:
        """What is wrong with a folder whose manifest can still be read, one sentence each."""
        yield from ()


@dataclass(frozen=True)
class DataFolder:
    """A folder as its reader understood it."""

    root: Path
    reader: Reader
    manifest: Manifest

    @property
    def frames(self) -> FrameSource:
        return self.reader.frames(self.root)


def open_folder(root: Path, *, synthetic_masks: Path | None = None) -> DataFolder:
    """Find the reader of a folder and read its manifest; pixels need not be there yet.

    `synthetic_masks` is a folder (absolute, or below `root`) of masks beside those of people, which win where both
    exist.
    """
    reader = reader_of(root)
    manifest = reader.manifest(root)
    if synthetic_masks is not None:
        manifest = with_synthetic(manifest, root=root, folder=synthetic_masks)
    return DataFolder(root=root, reader=reader, manifest=manifest)


def reader_of(root: Path) -> Reader:
    """The one reader that recognises a folder. Raises CalotError where none does, or more than one."""
    if not root.is_dir():
        raise CalotError(f"{root}: no such folder. Give the folder of a data set.")
    known = readers()
    claims = [reader for reader in known if reader.recognises(root)]
    if len(claims) == 1:
        return claims[0]
    if claims:
        kinds = "; ".join(f"{type(r).__name__}: {r.looks_for}" for r in claims)
        raise CalotError(f"{root}: could be read in {len(claims)} ways ({kinds}). Keep the files of one of them.")
    inside = [
        folder for folder in sorted(root.iterdir()) if folder.is_dir() and any(r.recognises(folder) for r in known)
    ]
    hint = f" Did you mean {inside[0]}?" if inside else ""
    kinds = "; ".join(r.looks_for for r in known)
    raise CalotError(
        f"{root}: not a data set that calot reads. It looks for: {kinds}.{hint} For a folder of your own: "
        f"calot data adopt {root} --out DIR"
    )


@cache
def readers() -> tuple[Reader, ...]:
    """Every reader there is: those below `calot.data`, and those of other packages."""
    for entry in entry_points(group="calot.readers"):
        entry.load()
    for file in sorted(_HERE.rglob("*.py")):
        if "(Reader):" in file.read_text(encoding="utf-8"):  # importing every module here would import torch
            importlib.import_module(".".join(["calot.data", *file.relative_to(_HERE).with_suffix("").parts]))
    return tuple(kind() for kind in sorted(Reader.__subclasses__(), key=lambda kind: kind.__qualname__))
