"""A data folder opened for one experiment: its manifest, the clips of a split, and the frames behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from calot.data.clips import ClipTable, build_clips
from calot.data.frame_change import frame_change
from calot.data.frames import unreadable_frames, without_frames
from calot.data.manifest import Manifest
from calot.data.masks import ClipMasks, open_masks
from calot.data.readers import DataFolder, open_folder
from calot.data.store import FrameStore, open_store, require_equal_sizes
from calot.data.understood import Understood, windows_of
from calot.experiment import Experiment
from calot.progress import Ui
from calot.run.kept import Kept
from calot.run.machine import usable_cores
from calot.types import MASK_PIXELS
from calot.wall import spent_on


@dataclass(frozen=True)
class OpenData:
    """Splits are opened when they are asked for: a run that trains and validates never reads a test frame.

    What was opened is kept by the settings it was opened with, for this experiment and for those `of_experiment` gives.
    """

    folder: DataFolder
    manifest: Manifest  # the folder's, without frames that were dropped
    experiment: Experiment
    ui: Ui
    check: Callable[[], None] | None = None  # called as a store is built; may raise; a build continues where it was
    unreadable: tuple[str, ...] = ()
    _stores: dict[str, FrameStore] = field(default_factory=dict, repr=False)
    _masks: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    _changes: dict[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)
    _kept: Kept = field(default_factory=Kept, repr=False)

    @classmethod
    def of(cls, root: Path, *, experiment: Experiment, ui: Ui, check: Callable[[], None] | None = None) -> OpenData:
        """Read the folder's tables. Raises CalotError when it is not a data set."""
        cache = experiment.compute.cache_folder
        folder = open_folder(root.resolve(), synthetic_masks=experiment.masks.folder)
        manifest, unreadable = folder.manifest, []
        if experiment.frames.drop_unreadable:
            with ui.task("reading every frame") as advance:
                unreadable = unreadable_frames(
                    folder.root, manifest, frames=folder.frames, advance=advance, check=check, cache=cache
                )
            if unreadable:
                ui.say(f"dropped, as declared: {len(unreadable)} unreadable frames, first {unreadable[0]}")
                manifest = without_frames(manifest, unreadable)
        return cls(
            folder=folder, manifest=manifest, experiment=experiment, ui=ui, check=check, unreadable=tuple(unreadable)
        )

    def of_experiment(self, experiment: Experiment) -> Self:
        """The same folder for another experiment, none of whose splits is open yet; its tables are not read again.

        Which frames were dropped as unreadable, and the folder of synthetic masks, stay this experiment's.
        """
        return replace(self, experiment=experiment, _stores={}, _masks={})

    @property
    def root(self) -> Path:
        return self.folder.root

    def clips(self, split: str, *, training: bool) -> ClipTable:
        """The clips of a split under the experiment's rules; black labelled frames are left out if declared."""
        table = self._every_clip(split, training=training)
        if not self.experiment.frames.drop_black:
            return table
        return self.few(table, np.flatnonzero(~self.is_black(split)[table.row]))

    def few(self, table: ClipTable, indices: NDArray[np.int64]) -> ClipTable:
        """Some clips of a table; the same ones of the same table are one table, whose masks are then opened once."""
        return self._kept.once(("few", table, indices.tobytes()), lambda: table.select(indices).read_only())

    def is_black(self, split: str) -> NDArray[np.bool_]:
        """Which rows of a split are black."""
        black = np.zeros(len(self.manifest.split(split)), dtype=np.bool_)
        black[list(self.store(split).black)] = True
        return black

    def dropped(self) -> dict[str, Any]:
        """What the frame rule did to each split opened so far, for data.json: nothing is dropped silently."""
        rule = self.experiment.frames
        counts: dict[str, Any] = {}
        for split in sorted(self._stores):
            labelled = self.is_black(split)[self._every_clip(split, training=False).row]
            counts[split] = {"frames": int(self.is_black(split).sum()), "labelled": int(labelled.sum())}
        return {
            "unreadable": {
                "dropped": rule.drop_unreadable,
                "count": len(self.unreadable),
                "first": self.unreadable[:20],
            },
            "black": {"dropped": rule.drop_black, "splits": counts},
        }

    def understood(self) -> Understood:
        """How the folder was understood, for a line on the screen and for data.json."""
        return Understood.of(self.folder)

    def windows(self) -> dict[str, Any]:
        """What the clips of each split opened so far show, for data.json; those of train as they are trained on."""
        return {split: windows_of(self._every_clip(split, training=split == "train")) for split in sorted(self._stores)}

    def _every_clip(self, split: str, *, training: bool) -> ClipTable:
        experiment = self.experiment
        how: dict[str, Any] = {
            "split": split,
            "protocol": experiment.protocol,
            "rule": experiment.clip,
            "label_rule": experiment.label,
            "training": training and experiment.objective.reads_labels,  # its targets come with it
        }

        def build() -> ClipTable:
            change = self.change(split) if experiment.clip.reads_change else None
            return build_clips(self.manifest, **how, change=change).read_only()

        return self._kept.once(("clips", *how.values()), build)

    def change(self, split: str) -> NDArray[np.float64]:
        """How much each frame of a split differs from the one before it; found once, on first use."""
        if split not in self._changes:
            with self.ui.task(f"frame change {split}") as advance:
                self._changes[split] = frame_change(
                    self.root,
                    self.manifest.split(split),
                    frames=self.folder.frames,
                    advance=advance,
                    check=self.check,
                    cache=self.experiment.compute.cache_folder,
                )
        return self._changes[split]

    def masks(self, table: ClipTable) -> ClipMasks | None:
        """The true masks of a table's clips, where the experiment uses any."""
        if not self.experiment.uses_masks:
            return None
        nearest_only, codes = self.experiment.masks.window == "nearest", self.folder.reader.mask_codes
        found = self._opened_masks(table, nearest_only=nearest_only, codes=codes)
        self._masks[table.split] = found.summary()
        return found

    def nearest_masks(self, table: ClipTable, *, codes: Mapping[int, int] | None = None) -> ClipMasks:
        """The mask nearest to each clip's labelled frame, whatever the experiment uses, for looking at.

        `codes` are class ids on disk -> classes; by default the training classes.
        """
        return self._opened_masks(table, nearest_only=True, codes=codes or self.folder.reader.mask_codes)

    def _opened_masks(self, table: ClipTable, *, nearest_only: bool, codes: Mapping[int, int]) -> ClipMasks:
        experiment = self.experiment
        how: dict[str, Any] = {
            "geometry": experiment.geometry,
            "size": experiment.backbone.grid[1] * MASK_PIXELS,
            "labelled_place": experiment.labelled_place,
            "nearest_only": nearest_only,
            "cache": experiment.compute.cache_folder,
        }

        def opened() -> ClipMasks:
            return open_masks(self.root, table, self.manifest.split(table.split), codes=codes, **how)

        return self._kept.once(("masks", table, *how.values(), *sorted(codes.items())), opened)

    def mask_sources(self) -> dict[str, Any] | None:
        """Where masks came from, for data.json, of each split whose masks were opened; None where none are used."""
        if not self.experiment.uses_masks:
            return None
        return {"synthetic": self.experiment.masks.synthetic, "splits": dict(sorted(self._masks.items()))}

    def store(self, split: str) -> FrameStore:
        """The split's frames, decoded once; built on first use."""
        if split not in self._stores:
            how, mixed = self._how(), self.experiment.frames.mixed_sizes
            self._stores[split] = self._kept.once(
                ("store", split, *how.values(), mixed), lambda: self._built(split, how=how, mixed_sizes=mixed)
            )
            if not self.experiment.frames.mixed_sizes:
                require_equal_sizes(self._stores.values(), root=self.root)
        return self._stores[split]

    def _how(self) -> dict[str, Any]:
        """The settings that decide which store is a split's, and where it lies."""
        experiment = self.experiment
        return {
            "geometry": experiment.geometry,
            "size": experiment.backbone.size,
            "cache": experiment.compute.cache_folder,
        }

    @spent_on("frame store")
    def _built(self, split: str, *, how: dict[str, Any], mixed_sizes: bool) -> FrameStore:
        with self.ui.task(f"frame store {split}") as advance:

            def heard(done: int, total: int) -> None:
                advance(done, total)
                if self.check is not None:
                    self.check()

            return open_store(
                self.root,
                self.manifest.split(split),
                **how,
                frames=self.folder.frames,
                workers=usable_cores(),
                progress=heard,
                mixed_sizes=mixed_sizes,
            )

    def pixels(self) -> dict[str, str]:
        """A digest of the frames as the model sees them, of each split opened so far."""
        return {split: store.digest for split, store in sorted(self._stores.items())}
