"""The JSON files of a run's folder as types: read as what they should be, or refused by file and field.

docs/run_folder.md says what each holds. A field may be missing (an older calot, an unfinished run) and others may be
there; one that is there has its type.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calot.errors import CalotError
from calot.reading import read_record

AGAIN = "restore it from a copy, or train again"
_ANY: Any = None  # a field that may be missing; never read from here


class _File(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())


class DifferenceEntry(_File):
    """One field that an experiment changes."""

    field: str


class ExperimentFile(_File):
    """experiment.json: what was trained."""

    name: str
    format: int = _ANY
    baseline: str | None = _ANY
    scale: str = _ANY
    seed: int = _ANY
    fingerprint: str = _ANY
    difference: list[DifferenceEntry] = _ANY
    experiment: dict[str, Any] = _ANY
    header: str | None = _ANY
    combination: dict[str, Any] | None = _ANY


class EnvironmentFile(_File):
    """environment.json: what it was trained with."""

    command: str | None = _ANY
    started: str = _ANY
    calot: str = _ANY
    code: str = _ANY
    packages: dict[str, str] = _ANY


class AgreementOfRaters(_File):
    """How far the raters of a split agree; what no program reads back is left open."""

    leave_one_rater_out_map: float | None = _ANY


class SplitCounts(_File):
    """What a split holds."""

    frames: int = _ANY
    keyframes: int = _ANY
    videos: int = _ANY
    scored: int = _ANY
    positives: dict[str, float | None] = _ANY
    negative_per_positive: dict[str, float | None] = _ANY
    all_negative: float | None = _ANY
    all_positive: float | None = _ANY
    rater_agreement: AgreementOfRaters | None = _ANY


class MaskCounts(_File):
    """Where the masks of a split came from."""

    clips: int = _ANY
    masks: dict[str, int] = _ANY
    coverage: dict[str, float] = _ANY
    digest: str = _ANY


class MasksOfData(_File):
    """The masks that a run used."""

    synthetic: str | None = _ANY
    splits: dict[str, MaskCounts] = _ANY


class DataFile(_File):
    """data.json: what it was trained on."""

    root: str = _ANY
    dataset: str = _ANY
    synthetic: bool = _ANY
    protocol: str = _ANY
    causal: bool = _ANY
    window: str = _ANY
    label_rule: str = _ANY
    manifest_hash: str = _ANY
    videos: dict[str, list[str]] = _ANY
    pixels: dict[str, str] = _ANY
    masks: MasksOfData | None = _ANY
    splits: dict[str, SplitCounts] = _ANY


class Parameters(_File):
    """Parameters by group."""

    total: int = _ANY
    trainable: int = _ANY
    groups: dict[str, int] = _ANY
    trainable_groups: dict[str, int] = _ANY


class ModelFile(_File):
    """model.json: what was built."""

    weights: str | None = _ANY
    weights_are: str | None = _ANY
    weights_files: dict[str, str] | None = _ANY
    weights_key: str | None = _ANY
    backbone: str = _ANY
    parameters: Parameters = _ANY


class ImportFile(_File):
    """import.json: where a run that was not trained here came from."""

    file: str = _ANY
    sha256: str = _ANY
    training: str = _ANY
    experiment: str = _ANY


class HiddenStrip(_File):
    """Of a kind of mask, the shares of a clip's tokens that are predicted, seen, and neither."""

    kind: str
    predicted: float
    seen: float
    unused: float


class HiddenClipFile(_File):
    """figures/masks/masks.json: the clip of a pretraining that is shown under its masks."""

    video: str
    frame: int
    strips: list[HiddenStrip]


class AttentionOfVideo(_File):
    """Over the clips of one video whose mask shows anatomy: the mean attention on it, and the area it covers."""

    video: str
    clips: int = Field(ge=1)
    mass: float = Field(ge=0, le=1)
    area: float = Field(ge=0, le=1)


class AttentionFile(_File):
    """attention/<split>.json: the chosen epoch's attention on the anatomy, by video."""

    format: int
    run: dict[str, Any]
    split: str
    stage: int
    epoch: int
    videos: list[AttentionOfVideo]


class TrivialEntry(_File):
    """One trivial baseline; `undefined` gives a reason for each criterion that it could not be fitted on."""

    name: str = Field(pattern=r"^[a-z_]+$")  # of its file, too
    title: str
    settings: str
    undefined: dict[str, str]


class TrivialFile(_File):
    """baselines/<split>.json: the trivial baselines that were scored on the run's clips."""

    format: int
    split: str
    protocol: str
    manifest_hash: str
    clips: int
    videos: int
    undefined: str | None
    baselines: list[TrivialEntry]


def read_file(path: Path, kind: type[_File], *, remedy: str = AGAIN) -> dict[str, Any]:
    """One file, held to its type. Raises CalotError naming file, field and remedy."""
    value = read_record(path, remedy=remedy)
    try:
        kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise CalotError(f"{path}: {where}: {first['msg'].lower()}; {remedy}") from None
    return value
