"""A run's experiment.json: what was asked for, what that resolves to, and how to rebuild it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from calot.config.json_form import from_json, to_json
from calot.config.overrides import Override, value_at
from calot.errors import CalotError
from calot.experiment import Experiment
from calot.provenance.run_files import ExperimentFile, read_file
from calot.run import own_code

if TYPE_CHECKING:
    from calot.run.request import Request

NAME = "experiment.json"

#: Format 1 is calot 0.1.0's: no changes as typed, a fingerprint that held the places of classes.
FORMAT = 2

AGAIN = "train again with --overwrite"
_NOT_A_RUN = "it is not a run's folder, or the run never started"


def experiment_record(request: Request) -> dict[str, Any]:
    """What a run's experiment.json says; the user's own code is written beside it."""
    experiment, source = request.experiment, request.found.source
    difference = [] if request.baseline is None else experiment.difference(request.baseline)
    return {
        "format": FORMAT,
        "name": experiment.name,
        "baseline": experiment.baseline,
        "scale": request.scale,
        "seed": request.seed,
        "fingerprint": experiment.fingerprint(),
        "overrides": [_override(o, experiment) for o in request.overrides],
        "difference": [d.to_json() for d in difference],
        "experiment": to_json(experiment),
        "source": None if source is None else own_code.keep(source, request.folder),
        "header": request.found.header,
    }


def _override(override: Override, experiment: Experiment) -> dict[str, Any]:
    """A change as typed, and what its field holds in the run."""
    field, value = override.field, to_json(value_at(experiment, override.path))
    return {"typed": override.typed, "field": field, "value": value, "scaled": override.scales}


def read_experiment(folder: Path) -> tuple[Experiment, int]:
    """A run's resolved experiment and seed, rebuilt from calot's own components and the run's own copy of the user's.

    Raises CalotError for a file that is damaged, edited, or of a later version, and for code that is not trusted.
    """
    path = folder / NAME
    data = _record(folder)
    seed, stated = data.get("seed"), data.get("experiment")
    if data.get("combination") is not None:
        raise CalotError(
            f"{folder}: {data.get('name')}: a mean of other runs' predictions, without a model of its own. Score its "
            "members, then make it again."
        )
    if stated is None:
        raise CalotError(f"{path}: holds no experiment; {AGAIN}")
    if seed is None or not 0 <= seed < 2**31:
        raise CalotError(f"{path}: seed {seed!r} is not a whole number from 0; {AGAIN}")
    if data.get("format", 1) < FORMAT and "segmentation" in stated:
        raise CalotError(
            f"{path}: a run of calot 0.1, whose loss and heads had fixed places. Its report, metrics and comparisons "
            f"are read; its model is not: {AGAIN}, or score it with the calot that trained it."
        )
    source = own_code.read_back(folder, data.get("source")) if has_own_components(stated) else None
    try:
        experiment: Experiment = from_json(stated, Experiment, source=source)
    except CalotError as error:
        reason = str(error).rstrip(".")
        raise CalotError(f"{path}: {reason}. The file is damaged or of another version; {AGAIN}.") from error
    recorded = data.get("fingerprint")
    if data.get("format", 1) > 1 and experiment.fingerprint() != recorded:
        raise CalotError(
            f"{path}: was edited: its experiment's fingerprint is {experiment.fingerprint()[:12]}, not the recorded "
            f"{str(recorded)[:12]}. Put the run's own file back; {AGAIN}."
        )
    return experiment, seed


def read_fingerprint(folder: Path) -> str:
    """The fingerprint that a run's files carry, as computed by the calot that trained it."""
    return str(_record(folder).get("fingerprint"))


def trust_own_code(folder: Path) -> None:
    """Trust the user code stored in a run, because the person at the command line said so."""
    own_code.trust(folder, _record(folder).get("source"))


def code_that_changed(folder: Path, request: Request) -> str | None:
    """If a request's components come from other code than the run's did: how to continue with the run's own."""
    stated, source = _record(folder).get("source"), request.found.source
    if source is None or not isinstance(stated, dict) or stated == own_code.record(source):
        return None
    own = folder / own_code.FOLDER / str(stated.get("main"))
    return f"{source.main} changed since; the run's own copy is {own}: give that in its place"


def _record(folder: Path) -> dict[str, Any]:
    path = folder / NAME
    data = read_file(path, ExperimentFile, remedy=AGAIN if path.exists() else _NOT_A_RUN)
    written = data.get("format", 1)
    if not 1 <= written <= FORMAT:
        raise CalotError(f"{path}: format {written}, and this calot reads up to {FORMAT}: use the calot that wrote it")
    return data


def has_own_components(stated: Any) -> bool:
    """Whether an experiment's JSON names a component that a user's file defines."""
    if isinstance(stated, list):
        return any(has_own_components(v) for v in stated)
    if not isinstance(stated, dict):
        return False
    return ".py:" in str(stated.get("_type")) or any(has_own_components(v) for v in stated.values())
