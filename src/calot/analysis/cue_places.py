"""Where each frame of a clip shows a suspected cue: binary pictures beside the data, as the network sees them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calot.data.clips import ClipTable
from calot.data.geometry import Geometry
from calot.data.maskfile import read_class_ids
from calot.errors import CalotError

#: Below the data's root: `<video>_<frame>.png`, non-zero where the cue is; a frame without one does not show it.
CUE_FOLDER = "cue"


@dataclass(frozen=True, kw_only=True)
class CuePlaces:
    """The folder `<root>/cue`, seen through a run's geometry at the size of its input."""

    root: Path
    geometry: Geometry
    size: int

    @property
    def folder(self) -> Path:
        return self.root / CUE_FOLDER

    @property
    def absent(self) -> str | None:
        """Why there is nothing to look at; None where there is something."""
        if self.folder.is_dir() and any(self.folder.glob("*.png")):
            return None
        return (
            f"The data has no folder {CUE_FOLDER}/ of <video>_<frame>.png that says where a suspected cue is "
            "(docs/explain.md says how, and how the phantom draws one)."
        )

    def of_clip(self, table: ClipTable, index: int) -> NDArray[np.bool_]:
        """Which pixels of each frame show it, `(t, h, w)`. Raises CalotError for a file that is not a mask."""
        video = table.videos[index]
        return np.stack([self._frame(f"{video}_{number}") for number in table.clip_frame_numbers[index].tolist()])

    def shown(self, table: ClipTable) -> NDArray[np.bool_]:
        """Which clips show it on their labelled frame, `(n,)`."""
        stems = [f"{v}_{f}.png" for v, f in zip(table.videos.tolist(), table.frame_numbers.tolist(), strict=True)]
        return np.array([(self.folder / stem).is_file() for stem in stems], dtype=np.bool_)

    def _frame(self, stem: str) -> NDArray[np.bool_]:
        path = self.folder / f"{stem}.png"
        if not path.is_file():
            return np.zeros((self.size, self.size), dtype=np.bool_)
        ids = read_class_ids(path)
        if not np.isin(ids, (0, 1, 255)).all():
            some = ", ".join(map(str, sorted(set(ids.ravel().tolist()))[:5]))
            raise CalotError(f"{path}: a cue's place is written as 0 and 255 (or 1); it has {some}. Write it again.")
        return np.asarray(self.geometry.resize_mask((ids > 0).astype(np.uint8), size=self.size) > 0)
