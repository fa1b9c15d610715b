"""The JSON files of a run's folder as types: read as what they should be, or refused by file and field.

docs/run_folder.md says what each holds. A field may be missing (an older calot, an unfinished run) and others may be
there; one that is there has its type.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Required, TypedDict

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from calot.errors import CalotError
from calot.reading import read_record

_OPEN = ConfigDict(extra="allow", strict=True)
AGAIN = "Restore it from a copy, or train again"


@with_config(_OPEN)
class DifferenceEntry(TypedDict, total=False):
    """One field that an experiment changes."""

    field: Required[str]
    baseline: Any
    value: Any


@with_config(_OPEN)
class ExperimentFile(TypedDict, total=False):
    """experiment.json: what was trained."""

    format: int
    name: Required[str]
    baseline: str | None
    scale: str
    seed: int
    fingerprint: str
    difference: list[DifferenceEntry]
    experiment: dict[str, Any]
    header: str | None


@with_config(_OPEN)
class EnvironmentFile(TypedDict, total=False):
    """environment.json: what it was trained with."""

    command: str | None
    started: str
    calot: str
    code: str
    packages: dict[str, str]


@with_config(_OPEN)
class SplitCounts(TypedDict, total=False):
    """What a split holds."""

    frames: int
    keyframes: int
    videos: int
    scored: int
    positives: dict[str, int]
    negative_per_positive: dict[str, float | None]
    all_negative: float
    all_positive: float


@with_config(_OPEN)
class MaskCounts(TypedDict, total=False):
    """Where the masks of a split came from."""

    clips: int
    masks: dict[str, int]
    coverage: dict[str, float]
    digest: str


@with_config(_OPEN)
class MasksOfData(TypedDict, total=False):
    """The masks that a run used."""

    synthetic: str | None
    splits: dict[str, MaskCounts]


@with_config(_OPEN)
class DataFile(TypedDict, total=False):
    """data.json: what it was trained on."""

    root: str
    dataset: str
    synthetic: bool
    protocol: str
    causal: bool
    window: str
    label_rule: str
    manifest_hash: str
    pixels: dict[str, str]
    masks: MasksOfData | None
    splits: dict[str, SplitCounts]


@with_config(_OPEN)
class Parameters(TypedDict, total=False):
    """Parameters by group."""

    total: int
    trainable: int
    groups: dict[str, int]
    trainable_groups: dict[str, int]


@with_config(_OPEN)
class ModelFile(TypedDict, total=False):
    """model.json: what was built."""

    weights: str | None
    backbone: str
    parameters: Parameters


@with_config(_OPEN)
class ImportFile(TypedDict, total=False):
    """import.json: where a run that was not trained here came from."""

    file: str
    sha256: str
    training: str
    experiment: str


def read_file(path: Path, kind: Any, *, remedy: str = AGAIN) -> dict[str, Any]:
    """One file as its type. Raises CalotError naming file, field and remedy."""
    value = read_record(path, remedy=remedy)
    try:
        checked: dict[str, Any] = _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise CalotError(f"{path}: {where}: {first['msg'].lower()}; {remedy}") from None
    return checked


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
