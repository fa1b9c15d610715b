"""A whole operation in: recordings become scores, calls, faults and stills, or an earlier start is continued."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.config.json_form import to_json
from calot.data.dataset import ClipDataset
from calot.data.digests import file_digest, read_checked, with_digest
from calot.deploy.operation import operation_clips
from calot.deploy.outcome import Assessed, write_assessment
from calot.deploy.recording import stated_seconds
from calot.deploy.sampling import OperationReader, SampledOperation
from calot.errors import CalotError
from calot.evaluation.predict import score
from calot.experiment import Experiment
from calot.identity import video_id
from calot.locking import locked
from calot.out_of_memory import while_scoring
from calot.pipeline import load_run
from calot.progress import Ui
from calot.provenance.combined_run import ensemble_of
from calot.reading import read_json, require_file, sha256_of
from calot.run import experiment_file
from calot.run.device import make_accelerator, placed
from calot.run.environment import code_hash
from calot.run.signals import Stopper
from calot.statistics.assessment import FACTS, SCORES, STILLS, Assessment
from calot.statistics.frozen import FrozenOnVal, freeze
from calot.statistics.prediction_sets import LEVEL
from calot.statistics.predictions import load_predictions
from calot.writing import clear_disk_errors, write_text

#: The folder, inside DIR, of what is not finished yet.
_WORK, _PLAN = "work", "plan.json"
#: Clips scored between two saves, about.
_SAVED = 512


@dataclass(frozen=True, kw_only=True)
class AssessRequest:
    """What to assess: runs of one experiment, the recordings of one operation in order, and where to.

    `held` is how many seconds all three criteria must hold, `every` how many seconds lie between two scored ones,
    `coverage` that of the prediction sets frozen on val; `abstains` off decides by thresholds alone.
    """

    runs: Sequence[Path]
    recordings: Sequence[Path]
    out: Path
    name: str | None = None
    held: float = 5.0
    every: int = 1
    seamless: bool = False
    abstains: bool = True
    coverage: float = LEVEL
    trust: bool = False

    def require_sane(self) -> None:
        """Raises CalotError for what cannot be meant."""
        for path in self.recordings:
            require_file(path, remedy="Give the recordings of one operation, in order.")
        resolved = [path.resolve() for path in self.recordings]
        for path in self.recordings:
            if resolved.count(path.resolve()) > 1:
                raise CalotError(f"{path}: given twice. Give each recording of the operation once, in order.")
        if not 0 <= self.held < float("inf"):
            raise CalotError(f"--held {self.held:g}: give a number of seconds, 0 or more.")
        if self.name is not None:
            try:
                video_id(self.name)
            except ValueError as error:
                raise CalotError(f"--name {error}. Give a name without a person's data.") from None


def assess_operation(request: AssessRequest, *, ui: Ui, stopper: Stopper) -> Assessment:
    """Assess an operation, or continue; a finished one is read back. Raises CalotError for bad input."""
    request.require_sane()
    experiment = _experiment_of(request)
    frozen = _frozen(request, ui=ui)
    plan = _plan(request, experiment=experiment, ui=ui)
    with clear_disk_errors(request.out):
        request.out.mkdir(parents=True, exist_ok=True)
    work = request.out / _WORK
    if (request.out / FACTS).exists():
        outcome = _finished(request.out, plan=plan, ui=ui)
        shutil.rmtree(work, ignore_errors=True)
        return outcome
    _require_place(request.out)
    with ExitStack() as claim:
        work.mkdir(exist_ok=True)
        claim.enter_context(locked(work / "lock", refusal=f"{request.out}: another process is at work on it. Wait."))
        _require_plan(work / _PLAN, plan=plan)
        stopper.saying = f"{request.out}: stopped. Run the same command again to continue."
        how: dict[str, Any] = {"experiment": experiment, "frozen": frozen, "plan": plan}
        outcome = _assessed(request, **how, ui=ui, stopper=stopper)
        write_assessment(outcome, out=request.out, recordings=request.recordings)
    shutil.rmtree(work, ignore_errors=True)
    return outcome


def _assessed(
    request: AssessRequest,
    *,
    experiment: Experiment,
    frozen: FrozenOnVal | None,
    plan: dict[str, Any],
    ui: Ui,
    stopper: Stopper,
) -> Assessment:
    """Read, score and decide; everything that takes long is kept in the work folder as it goes."""
    work = request.out / _WORK
    reader = OperationReader(
        recordings=request.recordings,
        work=work,
        geometry=experiment.geometry,
        size=experiment.backbone.size,
        seamless=request.seamless,
        changes=experiment.clip.reads_change,
        check=stopper.check,
    )
    with ui.task("reading, seconds of video") as advance:
        operation = reader.read(advance)
    name = str(plan["name"])
    how: dict[str, Any] = {"experiment": experiment, "seamless": request.seamless, "every": request.every}
    dataset = operation_clips(operation, work=work, name=name, **how)
    logits = [
        _scored(run, dataset=dataset, folder=work / f"logits_{place}", ui=ui, stopper=stopper)
        for place, run in enumerate(request.runs)
    ]
    return Assessed(
        plan=plan,
        operation=_scored_seconds(operation, dataset=dataset),
        logits=tuple(logits),
        frozen=frozen,
        experiment=experiment,
        held=request.held,
        every=request.every,
        abstains=request.abstains,
    ).assessment()


def _scored_seconds(operation: SampledOperation, *, dataset: ClipDataset) -> SampledOperation:
    """The operation with the seconds alone that were scored."""
    return SampledOperation(
        frames=tuple(operation.frames[row] for row in dataset.table.row.tolist()), files=operation.files
    )


def _scored(run: Path, *, dataset: ClipDataset, folder: Path, ui: Ui, stopper: Stopper) -> NDArray[np.float32]:
    """A run's logits of every clip, `(n, k)`, some hundred clips at a time, each kept as soon as it is there.

    The clips of a batch are always the same, so that a kill changes nothing in the last bit.
    """
    experiment, loaded, _ = load_run(run)
    accelerator = make_accelerator(experiment.compute)
    model = placed(loaded, accelerator=accelerator)
    batch = experiment.compute.evaluation_batch
    step, count, parts = max(1, _SAVED // batch) * batch, len(dataset), []
    folder.mkdir(exist_ok=True)
    with ui.task("scoring, clips") as advance:
        for start in range(0, count, step):
            indices = np.arange(start, min(start + step, count))
            part = folder / f"{start}.json"
            if not part.exists():

                def on_batch(done: int, start: int = start) -> None:
                    stopper.check()

                scored = score(
                    model,
                    dataset=dataset,
                    accelerator=accelerator,
                    batch_size=batch,
                    indices=indices,
                    on_batch=on_batch,
                    at_a_time=while_scoring(ui.say),
                )
                write_text(part, with_digest(scored.logits.astype(np.float64).tolist()))
            parts.append(np.array(read_checked(part), dtype=np.float32).reshape(len(indices), -1))
            advance(int(indices[-1]) + 1, count)
    return np.concatenate(parts)


def _experiment_of(request: AssessRequest) -> Experiment:
    """The experiment of all runs. Raises CalotError where they are not seeds of one, or one is given twice."""
    for run in request.runs if request.trust else ():
        experiment_file.trust_own_code(run)
    read = [experiment_file.read_experiment(run) for run in request.runs]
    first = read[0][0]
    for run, (other, _) in zip(request.runs, read, strict=True):
        if other.fingerprint() != first.fingerprint():
            raise CalotError(
                f"--with {run}: a run of another experiment than {request.runs[0]}. Give seeds of one experiment: "
                "their spread is shown as the model's uncertainty."
            )
    seeds = [seed for _, seed in read]
    if len(set(seeds)) < len(seeds):
        raise CalotError(f"--with: seeds {', '.join(map(str, seeds))}: a seed is given twice. Give each run once.")
    return first


def _plan(request: AssessRequest, *, experiment: Experiment, ui: Ui) -> dict[str, Any]:
    """What decides every byte of the outcome; no name, path or date of a recording is in it."""
    with ui.task("checking files") as advance:
        recordings = []
        for place, path in enumerate(request.recordings):
            stated_seconds(path)  # refuses what is not a video, before anything is written
            recordings.append(file_digest(path))
            advance(place + 1, len(request.recordings))
    runs = []
    for run in request.runs:
        weights = run / "checkpoints" / "best" / "model.safetensors"
        if not weights.is_file():
            raise CalotError(
                f"{weights}: there is none, so {run} has no best epoch to score with. Train it to its end."
            )
        _, seed = experiment_file.read_experiment(run)
        runs.append({"fingerprint": experiment_file.read_fingerprint(run), "seed": seed, "weights": sha256_of(weights)})
    unnamed = hashlib.sha256("".join(recordings).encode()).hexdigest()[:8]
    return {
        "name": f"operation-{unnamed}" if request.name is None else video_id(request.name),
        "runs": runs,
        "recordings": recordings,
        "experiment": experiment.name,
        "protocol": experiment.protocol.name,
        "window": experiment.protocol.window,
        "clip": to_json(experiment.clip),
        "held_seconds": request.held,
        "every_seconds": request.every,
        "seamless": request.seamless,
        "abstains": request.abstains,
        "coverage": request.coverage,
        "code": code_hash(),
    }


def _finished(out: Path, *, plan: dict[str, Any], ui: Ui) -> Assessment:
    """What a finished start wrote. Raises CalotError where it was of something else, or its files are damaged."""
    facts = read_json(out / FACTS)
    theirs = facts.get("plan") if isinstance(facts, dict) else None
    if not isinstance(theirs, dict) or theirs | {"code": plan["code"]} != plan:  # by any version of calot
        raise CalotError(f"{out}: holds another assessment ({_changed(theirs, plan=plan)}). Give another --out.")
    ui.say(f"{out}: this operation is assessed already")
    return Assessment.read(out)


def _changed(theirs: Any, *, plan: dict[str, Any]) -> str:
    """Which settings of an assessment differ."""
    if not isinstance(theirs, dict):
        return "one that cannot be read"
    return "other " + ", ".join(name for name in plan if theirs.get(name) != plan[name])


def _require_plan(path: Path, *, plan: dict[str, Any]) -> None:
    """Write down what is done, or hold an earlier start to it."""
    if path.exists():
        try:
            theirs = read_checked(path)
        except (OSError, ValueError) as error:
            raise CalotError(f"{path}: cannot be read ({error}). Delete {path.parent} and start again.") from error
        if theirs != plan:
            raise CalotError(
                f"{path.parent.parent}: an unfinished assessment with {_changed(theirs, plan=plan)}. Give "
                f"another --out, or delete {path.parent}."
            )
    write_text(path, with_digest(plan))


def _require_place(out: Path) -> None:
    """Raises CalotError where a folder holds anything that an assessment did not leave."""
    other = sorted(p.name for p in out.iterdir() if p.name not in (_WORK, SCORES, STILLS) and p.name[0] != ".")
    if other:
        raise CalotError(f"--out {out}: the folder holds something else ({other[0]}). Give a new one.")


def _frozen(request: AssessRequest, *, ui: Ui) -> FrozenOnVal | None:
    """Thresholds, temperatures and limits of the runs' own val predictions, or None with the reason said."""
    tables = [run / "predictions" / "val.parquet" for run in request.runs]
    absent = [path for path in tables if not path.is_file()]
    if absent:
        ui.say(f"{absent[0]}: there is none, so nothing can be decided: logits alone. Make it with calot evaluate.")
        return None
    if len(tables) > 1:
        _, val = ensemble_of(request.runs, split="val", mean="logits")
    else:
        val = load_predictions(tables[0])
    val = val.with_labels()
    if not val.labelled:
        ui.say(f"{tables[0]}: holds no labels, so nothing can be decided: logits alone")
        return None
    return freeze(val, level=request.coverage)
