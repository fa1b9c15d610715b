"""A data folder of which only a few clips are decoded: the real pipeline runs on it, and leaves nothing behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from calot.data.clips import ClipTable
from calot.data.store import FrameStore, find_store, open_store
from calot.experiment import Experiment
from calot.progress import Ui
from calot.run.data import OpenData


@dataclass(frozen=True)
class SampledStore(FrameStore):
    """A split's store of which only the rows in `kept` (sorted) were decoded, into `inner`."""

    inner: FrameStore
    kept: NDArray[np.int64]

    def read(self, rows: NDArray[Any], *, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        return self.inner.read(np.searchsorted(self.kept, np.asarray(rows)), out=out)


@dataclass(frozen=True)
class SampledData(OpenData):
    """As many clips as one effective batch, and one evaluation batch of each split, decoded into `scratch`."""

    scratch: Path = Path()
    seconds: dict[str, float] = field(default_factory=dict)  # split -> decoding time per frame

    def whole(self, split: str, *, training: bool) -> ClipTable:
        """Every clip of a split, as the run would see it."""
        return super().clips(split, training=training)

    def is_black(self, split: str) -> NDArray[np.bool_]:
        """Known only where the split's own store was built; a sample does not show it."""
        found = self._found(split)
        black = np.zeros(len(self.manifest.split(split)), dtype=np.bool_)
        if found is not None:
            black[list(found.black)] = True
        return black

    def clips(self, split: str, *, training: bool) -> ClipTable:
        compute = self.experiment.compute
        table = self.whole(split, training=training)
        batches = [stage.batch for stage in self.experiment.stages] if split == "train" else []
        return self.few(table, _spread(table, count=max([*batches, compute.evaluation_batch])))

    def store(self, split: str) -> FrameStore:
        """The split's own store where it was built; else one that holds the sample's frames alone."""
        if split not in self._stores:
            self._stores[split] = self._found(split) or self._decode(split)
        return self._stores[split]

    def _found(self, split: str) -> FrameStore | None:
        how = self._how()
        return self._kept.once(
            ("found", split, *how.values()),
            lambda: find_store(self.root, self.manifest.split(split), **how, frames=self.folder.frames),
        )

    def _decode(self, split: str) -> FrameStore:
        kept = np.unique(self.clips(split, training=False).frames).astype(np.int64)
        how, mixed = self._how() | {"cache": self.scratch}, self.experiment.frames.mixed_sizes
        return self._kept.once(
            ("decoded", split, *how.values(), mixed, kept.tobytes()),
            lambda: self._decoded(split, kept, how=how, mixed_sizes=mixed),
        )

    def _decoded(self, split: str, kept: NDArray[np.int64], *, how: dict[str, Any], mixed_sizes: bool) -> SampledStore:
        rows = self.manifest.split(split)
        part = rows.with_table(rows.table[kept])
        start = time.perf_counter()
        with self.ui.task(f"decoding {len(kept)} frames of {split}") as advance:
            inner = open_store(
                self.root,
                part,
                **how,
                frames=self.folder.frames,
                progress=advance,
                mixed_sizes=mixed_sizes,
            )
        self.seconds[split] = (time.perf_counter() - start) / len(kept)
        shape = (len(rows), *inner.shape[1:])
        own = {f.name: getattr(inner, f.name) for f in fields(FrameStore)}
        return SampledStore(**own | {"shape": shape}, inner=inner, kept=kept)


Sampled = TypeVar("Sampled", bound=SampledData)


@contextmanager
def sampled_data(root: Path, *, experiment: Experiment, ui: Ui, kind: type[Sampled]) -> Iterator[Sampled]:
    """Open a data folder for a few clips only; what was decoded is removed on leaving."""
    with TemporaryDirectory(prefix="calot-", ignore_cleanup_errors=True) as scratch:
        data = kind.of(root, experiment=experiment, ui=ui)
        assert isinstance(data, kind)
        yield replace(data, scratch=Path(scratch))


def _spread(table: ClipTable, *, count: int) -> NDArray[np.int64]:
    """Clips from all over a split, alternating positive and negative, so that any sampler and score is defined."""
    positive = (table.majority > 0).any(axis=1)
    rng = np.random.default_rng(0)
    two = [rng.permutation(np.flatnonzero(wanted)) for wanted in (positive, ~positive)]
    turns = np.concatenate([np.arange(len(part)) * 2 + i for i, part in enumerate(two)])
    return np.sort(np.concatenate(two)[np.argsort(turns, kind="stable")][:count])
