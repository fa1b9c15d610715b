"""How the scored frames of a split look: mean luma and variance of its Laplacian, computed once, kept beside the data.

Only Pillow decodes here, at a reduced size, so that scoring a table needs nothing of training. No label is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from calot.data.sources import AT
from calot.errors import CalotError
from calot.progress import Ui
from calot.reading import LARGEST_PICTURE, open_plain
from calot.statistics.appearance import COLUMNS, NO_DATA, Appearance, appearance_file, appearance_of, read_appearance
from calot.statistics.predictions import Predictions
from calot.writing import whole_file

#: Width in pixels at which a frame is looked at: blur of the camera stays, noise of single pixels goes.
WIDTH = 214
MOST_PIXELS = 40_000_000


def luma_figures(luma: NDArray[np.uint8]) -> tuple[float, float]:
    """Brightness (mean luma, 0 to 255) and sharpness (variance of the 4-neighbour Laplacian) of one picture, (h, w)."""
    grey = luma.astype(np.float64)
    inner = grey[1:-1, 1:-1]
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4.0 * inner
    return float(grey.mean()), float(edges.var())


def look_at(path: Path) -> tuple[float, float]:
    """The figures of one image file. Raises CalotError where it is not a whole picture of a sane size."""
    try:
        with open_plain(path, largest=LARGEST_PICTURE) as file, Image.open(file, formats=["JPEG", "PNG"]) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise ValueError(f"{width} x {height} pixels")
            image.draft("L", (WIDTH, 1))
            size = (WIDTH, max(3, round(height * WIDTH / width)))
            return luma_figures(np.asarray(image.convert("L").resize(size, Image.Resampling.BOX)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CalotError(f"{path}: not a whole picture ({error}); unpack the data set again") from error


def seen_frames(predictions: Predictions, *, root: Path | None, ui: Ui) -> Appearance:
    """The figures of a table's frames: those kept, and what is missing computed from the images at `root` and kept.

    Whatever stands in the way (no data set, another manifest, videos instead of images, an unreadable file) is the
    reason of an unknown appearance, never an error: the scores do not depend on it.
    """
    if root is None:
        return Appearance(reason=NO_DATA)
    path = appearance_file(root, manifest_hash=predictions.manifest_hash, split=predictions.split)
    kept = read_appearance(path)
    found = appearance_of(predictions, kept=kept)
    if found.reason is None:
        return found
    try:
        made = _computed(predictions, root=root, ui=ui)
    except (CalotError, ImportError) as error:  # what its reader needs may not be installed
        return Appearance(reason=str(error))
    table = made if kept is None else pl.concat([made, kept]).unique(["video", "frame"], keep="first")
    try:
        with whole_file(path) as part:
            table.sort("video", "frame").write_parquet(part)
    except (OSError, CalotError) as error:
        ui.say(f"brightness and sharpness of the frames are not kept for the next time: {error}")
    return appearance_of(predictions, kept=made)


def _computed(predictions: Predictions, *, root: Path, ui: Ui) -> pl.DataFrame:
    from calot.data.readers import open_folder

    folder = open_folder(root)
    manifest = folder.manifest
    if manifest.hash != predictions.manifest_hash:
        raise CalotError(f"the data set at {root} is not the one of this table (another frame manifest)")
    table = predictions.by_seed()[0]
    rows = pl.DataFrame({"video": table.videos.tolist(), "frame": table.frames})
    images = manifest.split(predictions.split).table.select("video", "frame", "image")
    images = rows.join(images, on=["video", "frame"], how="left", maintain_order="left")
    names: list[str | None] = images["image"].to_list()
    if any(name is None or AT in name for name in names):
        raise CalotError("its frames lie in videos, or are not among the data set's images")
    paths = [folder.frames.file(name) for name in names if name is not None]
    figures = list(_looked(paths, ui=ui, split=predictions.split))
    return rows.with_columns(
        pl.Series("brightness", [one[0] for one in figures], dtype=pl.Float64),
        pl.Series("sharpness", [one[1] for one in figures], dtype=pl.Float64),
    ).cast(pl.Schema(COLUMNS))


def _looked(paths: Sequence[Path], *, ui: Ui, split: str) -> Iterator[tuple[float, float]]:
    with ui.task(f"brightness and sharpness, {split}") as advance, ThreadPoolExecutor() as pool:
        for number, figures in enumerate(pool.map(look_at, paths), start=1):
            advance(number, len(paths))
            yield figures
