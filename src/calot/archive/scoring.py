"""A run's model over the operations of data sets: what an archive maps.

Each operation's frames are read from the split's frame store where `calot data store` or a run has built it, else they
are decoded into a store of the operation's own, which is removed once it is scored. Building the whole split's store
first would need its disk space at once and would fail all operations for one bad image.

An operation's clips are batched by themselves and scored with one CPU thread, wherever that happens: another batch or
another number of threads may change a logit's last bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import nn

from calot.archive.operations import DamagedResult, Operation, OperationPlace, OperationResult, Score, Scorer
from calot.data.clips import ClipTable
from calot.data.dataset import ClipDataset
from calot.data.digests import file_digest
from calot.data.manifest import Manifest
from calot.data.store import FrameStore, find_store, open_store
from calot.data.store_build import files_of
from calot.errors import CalotError
from calot.evaluation.predict import predictions_table, score
from calot.experiment import Experiment
from calot.pipeline import load_run
from calot.progress import Silent, Ui
from calot.run import experiment_file
from calot.run.data import OpenData
from calot.run.device import make_accelerator, placed
from calot.statistics.predictions import load_predictions


@dataclass(frozen=True, kw_only=True)
class ArchiveRoot:
    """A data set of an archive: the archive's own name of it, its folder, its manifest's hash, and whether the split's
    frame store is there."""

    name: str
    path: Path
    manifest_hash: str
    stored: bool


@dataclass(frozen=True, eq=False)
class OpenRoot:
    """A data set's split, read for scoring; every clip of it, by operation."""

    data: OpenData
    split: str

    @classmethod
    def of(cls, path: Path, *, experiment: Experiment, split: str, ui: Ui) -> OpenRoot:
        """Raises CalotError where the folder is not a data set, or has no clip in this split."""
        whole = replace(
            experiment, frames=replace(experiment.frames, drop_black=False)
        )  # dropped operation by operation
        return cls(OpenData.of(path, experiment=whole, ui=ui), split)

    @cached_property
    def rows(self) -> Manifest:
        return self.data.manifest.split(self.split)

    @cached_property
    def table(self) -> ClipTable:
        return self.data.clips(self.split, training=False)

    @cached_property
    def spans(self) -> dict[str, range]:
        """Rows of each video that has clips: a manifest is sorted by video."""
        videos = np.asarray(self.rows.videos)
        starts = [0, *(np.flatnonzero(videos[1:] != videos[:-1]) + 1).tolist(), len(videos)]
        every = {str(videos[a]): range(a, b) for a, b in pairwise(starts)}
        return {video: every[video] for video in every if video in self.clips}

    @cached_property
    def clips(self) -> dict[str, int]:
        """How many clips each video has."""
        videos, counts = np.unique(self.table.videos, return_counts=True)
        return dict(zip(videos.tolist(), counts.tolist(), strict=True))

    def part(self, video: str) -> Manifest:
        """One video's rows."""
        span = self.spans[video]
        return self.rows.with_table(self.rows.table.slice(span.start, len(span)))

    def whole_store(self) -> FrameStore | None:
        """The split's frame store, if it is there."""
        experiment = self.data.experiment
        return find_store(
            self.data.root,
            self.rows,
            geometry=experiment.geometry,
            size=experiment.backbone.size,
            frames=self.data.folder.frames,
            cache=experiment.compute.cache_folder,
        )

    def files(self, video: str) -> list[Path]:
        """The files that a video's frames come from."""
        return files_of(self.part(video).table["image"].to_list(), frames=self.data.folder.frames)


@dataclass(frozen=True, kw_only=True)
class RunScorer(Scorer):
    """Scores with a run's best epoch. `folder` is the archive's, `run` the run's; both absolute."""

    run: Path
    split: str
    folder: Path
    roots: tuple[ArchiveRoot, ...]
    fingerprint: str
    drops_black: bool = False
    trust: bool = False
    _seen: dict[str, OpenRoot] = field(default_factory=dict, repr=False, compare=False)

    def seeing(self, roots: Mapping[str, OpenRoot]) -> RunScorer:
        """The same with data sets that this process has read; a worker reads its own."""
        return replace(self, _seen=dict(roots))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_seen": {}}

    def open(self) -> Score:
        if self.trust:
            experiment_file.trust_own_code(self.run)
        experiment, model, seed = load_run(self.run)
        experiment = alone(experiment)
        accelerator = make_accelerator(experiment.compute)
        roots = {}
        for root in self.roots:
            opened = self._seen.get(root.name) or OpenRoot.of(
                root.path, experiment=experiment, split=self.split, ui=Silent()
            )
            if opened.data.manifest.hash != root.manifest_hash:
                raise CalotError(
                    f"{root.path}: its tables were changed while it was scored. Run the same command again."
                )
            roots[root.name] = opened
        return _OpenRun(
            scorer=self,
            experiment=experiment,
            model=placed(model, accelerator=accelerator),
            accelerator=accelerator,
            seed=seed,
            roots=roots,
        )

    def require(self, operation: Operation, *, table: Path, record: Mapping[str, Any]) -> None:
        root, opened = self.root(operation), self._seen[operation.root]
        try:
            found = load_predictions(table)
        except CalotError as error:
            raise DamagedResult(str(error)) from error
        rows, clips = found.frame.height, opened.clips[operation.video]
        of_this = (self.fingerprint, root.manifest_hash, {operation.video})
        if (found.fingerprint, found.manifest_hash, set(found.videos.tolist())) != of_this:
            raise DamagedResult(f"{table}: holds another run's, data set's or operation's predictions")
        if rows != record.get("rows") or rows > clips or (rows < clips and not self.drops_black):
            raise DamagedResult(f"{table}: {rows} rows, {clips} expected")
        self._require_files(operation, opened=opened, stated=record.get("files"))

    def root(self, operation: Operation) -> ArchiveRoot:
        """The data set that an operation belongs to."""
        return next(root for root in self.roots if root.name == operation.root)

    def _require_files(self, operation: Operation, *, opened: OpenRoot, stated: Any) -> None:
        """Hold the images to those that were scored: by size and time, and where these differ by content."""
        if not isinstance(stated, dict):
            raise DamagedResult(f"{operation}: its record does not state its images")
        files, remedy = opened.files(operation.video), "Put the old ones back, or give another --out."
        try:
            if stated.get("stat") == _stated(files) or stated.get("content") == _joined(map(file_digest, files)):
                return
        except OSError as error:
            raise CalotError(f"{error.filename}: cannot be read ({error.strerror}), and was scored. {remedy}") from None
        raise CalotError(
            f"{opened.data.root}: the images of video {operation.video} changed since it was scored. {remedy}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _OpenRun:
    """A run's model on its device, and the data sets that it scores."""

    scorer: RunScorer
    experiment: Experiment
    model: nn.Module
    accelerator: Accelerator
    seed: int
    roots: dict[str, OpenRoot]
    _stores: dict[str, FrameStore] = field(default_factory=dict)

    def __call__(self, operation: Operation) -> OperationResult:
        own = OperationPlace(self.scorer.folder, operation).frames
        try:
            return self._scored(operation, own=own)
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def _scored(self, operation: Operation, *, own: Path) -> OperationResult:
        root, video = self.roots[operation.root], operation.video
        span, files = root.spans[video], root.files(video)
        table = root.table.select(np.flatnonzero(root.table.videos == video))
        stated = _stated(files)
        store = self._store(operation)
        if store is None:
            store, offset = self._decoded(root, video=video, cache=own), span.start
            table = replace(table, frames=table.frames - np.int32(offset), row=table.row - np.int32(offset))
            sizes, sources = store.sizes, dict(zip(files, store.sources, strict=True))
        else:
            sizes = store.sizes[span.start : span.stop]
            every = files_of(root.rows.table["image"].to_list(), frames=root.data.folder.frames)
            sources = dict(zip(every, store.sources, strict=True))
        if self.experiment.frames.drop_black:
            table = table.select(np.flatnonzero(~np.isin(table.row, store.black)))
        if not len(table):
            raise CalotError(f"{root.data.root}: every labelled frame of video {video} is black: nothing to score")
        return OperationResult(
            table=predictions_table(
                self._logits(ClipDataset(table, store)),
                table=table,
                seed=self.seed,
                fingerprint=self.scorer.fingerprint,
                manifest_hash=root.data.manifest.hash,
            ),
            rows=len(table),
            facts={
                "sizes": sorted({f"{height} x {width}" for height, width in sizes}),
                "files": {"stat": stated, "content": _joined(sources[file] for file in files)},
            },
        )

    def _store(self, operation: Operation) -> FrameStore | None:
        """The split's store, opened once, where the archive's start found one."""
        name = operation.root
        if self.scorer.root(operation).stored and name not in self._stores:
            found = self.roots[name].whole_store()
            if found is not None:
                self._stores[name] = found
        return self._stores.get(name)

    def _decoded(self, root: OpenRoot, *, video: str, cache: Path) -> FrameStore:
        return open_store(
            root.data.root,
            root.part(video),
            geometry=self.experiment.geometry,
            size=self.experiment.backbone.size,
            frames=root.data.folder.frames,
            cache=cache,
            mixed_sizes=self.experiment.frames.mixed_sizes,
        )

    def _logits(self, dataset: ClipDataset) -> np.ndarray:
        return score(
            self.model,
            dataset=dataset,
            accelerator=self.accelerator,
            batch_size=self.experiment.compute.evaluation_batch,
        ).logits


def alone(experiment: Experiment) -> Experiment:
    """The experiment as one of several workers runs it: one CPU thread, no threads that read ahead."""
    return replace(experiment, compute=replace(experiment.compute, threads=1, workers=0))


def _stated(files: list[Path]) -> str:
    """A digest of files' names, sizes and times. Raises CalotError naming the first that is missing."""
    stated = []
    for file in files:
        try:
            stat = os.stat(file)
        except FileNotFoundError:
            raise CalotError(f"{file}: is missing. Unpack the archive again, or copy it again.") from None
        stated.append((file.name, stat.st_size, stat.st_mtime_ns))
    return hashlib.sha256(json.dumps(stated).encode()).hexdigest()


def _joined(digests: Any) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
