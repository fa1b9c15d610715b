"""`calot predict` over an archive: a run, several data sets, one table of predictions for each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from calot.archive.engines import Engine
from calot.archive.mapping import Archive, Mapped, alone_in, map_operations, sweep
from calot.archive.operations import Operation
from calot.archive.scoring import ArchiveRoot, OpenRoot, RunScorer, alone
from calot.errors import CalotError
from calot.experiment import Experiment
from calot.progress import Ui
from calot.reading import sha256_of
from calot.run import experiment_file
from calot.run.apart import require_unpublished
from calot.run.device import make_accelerator
from calot.run.environment import code_hash
from calot.run.signals import Stopper
from calot.statistics.predictions import Predictions, load_predictions

_WEIGHTS = ("checkpoints", "best", "model.safetensors")


@dataclass(frozen=True, kw_only=True)
class ArchiveRequest:
    """What to score: a run, data sets, one split of each; and where to."""

    run: Path
    roots: Sequence[Path]
    split: str
    out: Path
    trust: bool = False


@dataclass(frozen=True, kw_only=True)
class ArchiveResult:
    """What a start of an archive did, and the table of each data set whose operations are all finished."""

    archive: Archive
    mapped: Mapped
    tables: dict[str, Path]

    def to_json(self) -> dict[str, Any]:
        """For `--json`: counts, tables, and each failed operation with its reason."""
        return {
            **self.archive.identity,
            "out": str(self.archive.folder),
            "operations": len(self.archive.operations),
            "found": len(self.mapped.found),
            "scored": len(self.mapped.scored),
            "damaged": len(self.mapped.damaged),
            "failed": [
                {"root": one.operation.root, "video": one.operation.video, "why": one.why} for one in self.mapped.failed
            ],
            "tables": {name: str(path) for name, path in self.tables.items()},
        }


def score_archive(request: ArchiveRequest, *, engine: Engine, ui: Ui, stopper: Stopper) -> ArchiveResult:
    """Score every operation of every data set, or continue; then one table for each data set, `OUT/<name>.parquet`.

    A data set with a failed operation gets no table: it would lack operations in silence.
    Raises CalotError for bad input, and Stopped when a signal ended it.
    """
    archive = open_archive(request, ui=ui)
    total = len(archive.operations)

    def on_progress(finished: int) -> None:
        stopper.saying = (
            f"{request.out}: stopped with {finished:,} of {total:,} operations finished. Run the same command again to "
            "continue."
        )

    on_progress(0)
    mapped = map_operations(archive, engine=engine, ui=ui, check=stopper.check, on_progress=on_progress)
    with alone_in(archive):
        tables = _write_tables(archive, mapped=mapped, mixed_sizes=_mixed_sizes(request.run))
        if not mapped.failed:
            sweep(archive)
    return ArchiveResult(archive=archive, mapped=mapped, tables=tables)


def _write_tables(archive: Archive, *, mapped: Mapped, mixed_sizes: bool) -> dict[str, Path]:
    """The table of each data set that is complete; one of an earlier start is removed where it no longer is."""
    tables, incomplete = {}, {attempt.operation.root for attempt in mapped.failed}
    for name in dict.fromkeys(operation.root for operation in archive.operations):
        path = archive.folder / f"{name}.parquet"
        if name in incomplete:
            path.unlink(missing_ok=True)
        else:
            tables[name] = joined(archive, root=name, mixed_sizes=mixed_sizes).write(path)
    return tables


def open_archive(request: ArchiveRequest, *, ui: Ui) -> Archive:
    """Read the run and the tables of the data sets, no pixels; the operations, in their fixed order."""
    if request.trust:
        experiment_file.trust_own_code(request.run)
    experiment, seed = experiment_file.read_experiment(request.run)
    experiment = alone(experiment)
    fingerprint = experiment_file.read_fingerprint(request.run)
    opened = _open_roots(request, experiment=experiment, ui=ui)
    hashes = {name: root.data.manifest.hash for name, root in opened.items()}
    scorer = RunScorer(
        run=request.run.resolve(),
        split=request.split,
        folder=request.out.resolve(),
        roots=tuple(
            ArchiveRoot(
                name=name, path=root.data.root, manifest_hash=hashes[name], stored=_has_store(root, name=name, ui=ui)
            )
            for name, root in opened.items()
        ),
        fingerprint=fingerprint,
        drops_black=experiment.frames.drop_black,
        trust=request.trust,
    ).seeing(opened)
    return Archive(
        folder=request.out,
        operations=[Operation(name, video) for name, root in opened.items() for video in root.spans],
        scorer=scorer,
        identity={
            "run": fingerprint,
            "seed": seed,
            "weights": _weights(request.run),
            "split": request.split,
            "device": _device(experiment),
            "calot": code_hash(),
            "data": hashes,
        },
    )


def _open_roots(request: ArchiveRequest, *, experiment: Experiment, ui: Ui) -> dict[str, OpenRoot]:
    opened = {}
    for name, path in named_roots(request.roots).items():
        root = OpenRoot.of(path, experiment=experiment, split=request.split, ui=ui)
        ui.say(f"{name}: {root.data.understood()}")
        require_unpublished(request.run, root.data, split=request.split)
        without = len(set(root.rows.videos)) - len(root.spans)
        if without:
            ui.say(f'{name}: {without:,} videos have no frame that the protocol "{root.table.protocol}" scores')
        opened[name] = root
    return opened


def named_roots(roots: Sequence[Path]) -> Mapping[str, Path]:
    """A name for each data set's folder: its own, with a digest of its path where two are called the same.

    Sorted by name, so that the order on the command line changes nothing. Raises CalotError for a folder that is named
    twice.
    """
    resolved = []
    for root in roots:
        path = root.resolve()
        if path in resolved:
            raise CalotError(f"--data {root}: this folder is given twice; give it once")
        resolved.append(path)
    names = [path.name or "data" for path in resolved]
    alike = [name.casefold() for name in names]
    told = [
        f"{name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}" if alike.count(name.casefold()) > 1 else name
        for name, path in zip(names, resolved, strict=True)
    ]
    return dict(sorted(zip(told, resolved, strict=True)))


def joined(archive: Archive, *, root: str, mixed_sizes: bool) -> Predictions:
    """One data set's operations as one table, in the order of every table of predictions.

    Raises CalotError where a result is damaged, and where operations' images differ in size and the run does not
    declare that they may.
    """
    parts, sizes = [], {}
    for operation in archive.operations:
        if operation.root == root:
            place = archive.place(operation)
            sizes[operation.video] = place.read_record()["sizes"]
            parts.append(load_predictions(place.table))
    if not mixed_sizes:
        _require_one_size(sizes, root=root)
    return Predictions(
        frame=pl.concat([part.frame for part in parts]),
        fingerprint=parts[0].fingerprint,
        manifest_hash=parts[0].manifest_hash,
        frames_per_second=parts[0].frames_per_second,
        source=root,
    )


def _require_one_size(sizes: Mapping[str, Sequence[str]], *, root: str) -> None:
    """As a frame store of the whole split does: each size is resized differently."""
    every = [size for found in sizes.values() for size in found]
    usual = max(sorted(set(every)), key=every.count)
    odd = [f"{video} ({', '.join(found)})" for video, found in sizes.items() if set(found) != {usual}]
    if odd:
        raise CalotError(
            f"{root}: the images of {len(odd)} of {len(sizes)} operations have another size than the others' {usual} "
            f"(height x width): {', '.join(odd[:20])}. Put the right ones there, or score with a run that declares "
            "that sizes differ (frames.mixed_sizes=True)."
        )


def _has_store(root: OpenRoot, *, name: str, ui: Ui) -> bool:
    try:
        return root.whole_store() is not None
    except CalotError as error:  # of one operation perhaps, which then fails by itself
        ui.say(f"{name}: its frame store is not used, frames are decoded operation by operation ({error})")
        return False


def _mixed_sizes(run: Path) -> bool:
    return experiment_file.read_experiment(run)[0].frames.mixed_sizes


def _weights(run: Path) -> str:
    path = run.joinpath(*_WEIGHTS)
    if not path.is_file():
        raise CalotError(f"{path}: there is none, so {run} has no best epoch to score with. Train it to its end.")
    return sha256_of(path)


def _device(experiment: Experiment) -> str:
    accelerator = make_accelerator(experiment.compute)
    precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
    return f"{accelerator.device.type} {precision}"
