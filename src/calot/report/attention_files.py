"""What `calot attention` writes beside its page: tables of clips and of means, and frames with averaged maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.errors import CalotError
from calot.reading import read_record
from calot.writing import whole_file, write_json

FACTS = "attention.json"
_AGAIN = "run `calot attention` again"


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionPictures:
    """A few clips: a frame of each temporal bin, uint8 `(clips, t, h, w, 3)`, and by variant the map averaged over
    heads and queries `(clips, layers, t, rows, columns)`."""

    names: Sequence[str]
    frames: NDArray[np.uint8]
    maps: dict[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionFiles:
    """All that the page is made of. `heads`, `received`, `changes` and `weights` are as `calot.analysis` makes them,
    `summary` as `calot.statistics.attention` does."""

    facts: dict[str, Any]
    heads: pl.DataFrame
    received: pl.DataFrame
    changes: pl.DataFrame | None
    weights: pl.DataFrame | None
    summary: pl.DataFrame
    pictures: AttentionPictures

    def write(self, folder: Path) -> None:
        """Every table as Parquet, those without lists as CSV too."""
        tables = {"heads": self.heads, "summary": self.summary, "changes": self.changes, "weights": self.weights}
        for name, table in (tables | {"received": self.received}).items():
            for suffix in (".parquet", ".csv"):
                (folder / f"{name}{suffix}").unlink(missing_ok=True)  # of an earlier call with --against
            if table is None:
                continue
            with whole_file(folder / f"{name}.parquet") as part:
                table.write_parquet(part)
            if name in tables:
                with whole_file(folder / f"{name}.csv") as part:
                    table.write_csv(part)
        raw = BytesIO()
        maps: dict[str, Any] = {f"map_{name}": value for name, value in self.pictures.maps.items()}
        np.savez_compressed(raw, names=np.array(self.pictures.names), frames=self.pictures.frames, **maps)
        with whole_file(folder / "pictures.npz") as part:
            part.write_bytes(raw.getvalue())
        write_json(folder / FACTS, self.facts)

    @staticmethod
    def read(folder: Path) -> AttentionFiles:
        """What an earlier call wrote. Raises CalotError for a folder that is none of `calot attention`."""
        facts = read_record(folder / FACTS, remedy=_AGAIN)
        if facts.get("format") != 1:
            raise CalotError(f"{folder / FACTS}: not what this calot reads (format {facts.get('format')}); {_AGAIN}")
        try:
            tables = {
                name: pl.read_parquet(folder / f"{name}.parquet") if (folder / f"{name}.parquet").is_file() else None
                for name in ("heads", "received", "changes", "weights", "summary")
            }
            with np.load(folder / "pictures.npz", allow_pickle=False) as held:
                maps = {name.removeprefix("map_"): held[name] for name in held.files if name.startswith("map_")}
                pictures = AttentionPictures(names=held["names"].tolist(), frames=held["frames"], maps=maps)
        except (OSError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
            raise CalotError(f"{folder}: not readable ({type(error).__name__}); {_AGAIN}") from error
        if tables["heads"] is None or tables["summary"] is None or tables["received"] is None:
            raise CalotError(f"{folder}: a table is missing; {_AGAIN}")
        return AttentionFiles(
            facts=facts,
            heads=tables["heads"],
            received=tables["received"],
            changes=tables["changes"],
            weights=tables["weights"],
            summary=tables["summary"],
            pictures=pictures,
        )

    def mean(self, statistic: str, *, variant: str, layer: int, less: str | None = None) -> dict[str, Any] | None:
        """The row of one mean over heads; None where there is none."""
        rows = self.means(statistic, variant=variant, less=less)
        return next((row for row in rows if row["layer"] == layer), None)

    def means(self, statistic: str, *, variant: str, less: str | None = None) -> list[dict[str, Any]]:
        """Means over heads, layer by layer."""
        wanted = (pl.col("statistic") == statistic) & (pl.col("variant") == variant) & pl.col("head").is_null()
        of = pl.col("less").is_null() if less is None else pl.col("less") == less
        return self.summary.filter(wanted & of).sort("layer").to_dicts()

    @property
    def layers(self) -> list[int]:
        """The layers that were read."""
        return sorted(self.heads["layer"].unique().to_list())

    def by_layer(self) -> list[dict[str, Any]]:
        """Every mean over heads, for JSON."""
        rows = self.summary.filter(pl.col("head").is_null()).drop("head").to_dicts()
        return [{k: v for k, v in row.items() if v is not None or k == "value"} for row in rows]
