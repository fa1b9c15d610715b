"""`calot doctor`: what this machine has, what a run lacks, and what would run here. Works without torch too."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import calot
from calot.errors import CalotError, first_line
from calot.run.machine import NOTE, OK, PROBLEM, Check, gb, machine_checks

if TYPE_CHECKING:
    from calot.data.readers import DataFolder

#: Installed by other projects, not needed here; a broken one can still break transformers.
_UNNEEDED = ("torchvision", "timm", "torchcodec")
_TRAIN = "pip install 'calot[train]'"
_PROBE_TIMEOUT_S = 180
#: ViT-L in the experiments' own settings: the side of a stored frame.
_FULL_SIZE, _TINY_SIZE = 256, 64

_LINE_PROBE = """
import json
from calot.experiments import find
from calot.run.build import parameter_counts
experiment = find("e02_frozen_probe").experiment
print(json.dumps({"weights": experiment.backbone.weights, "parameters": parameter_counts(experiment)["total"]}))
"""


@dataclass(frozen=True)
class Diagnosis:
    """All that was checked. `ok`: the pipeline could run here, at least at tiny scale, on the named data."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return not any(check.state == PROBLEM for check in self.checks)

    @property
    def findings(self) -> dict[str, list[str]]:
        """Remedy -> the names it fixes."""
        found: dict[str, list[str]] = {}
        for check in self.checks:
            if check.state == PROBLEM:
                found.setdefault(check.remedy, []).append(check.name)
        return found

    def to_dict(self) -> dict[str, Any]:
        findings = [{"names": names, "remedy": remedy} for remedy, names in self.findings.items()]
        return {"ok": self.ok, "findings": findings, "checks": [asdict(check) for check in self.checks]}


def diagnose(
    *, data: Path | None = None, weights: str | None = None, results: Path = Path("results"), online: bool = False
) -> Diagnosis:
    """Check everything a run needs. Opens no connection unless `online`."""
    checks = [*_versions(), *bytecode_checks(), *_packages(), *_unneeded()]
    line, probed = _line()
    checks += [line, *machine_checks(results, data=data)]
    checks += [weights_check(weights, default=probed.get("weights")), *([_hub()] if online else [])]
    checks += data_checks(data) if data is not None else []
    return Diagnosis((*checks, *_scales(checks, parameters=probed.get("parameters"))))


def _versions() -> Iterator[Check]:
    yield Check(group="versions", name="calot", found=calot.__version__)
    yield Check(group="versions", name="python", found=f"{platform.python_version()} on {platform.platform()}")


def bytecode_checks() -> Iterator[Check]:
    """Where Python may not keep what it compiles, each command that trains compiles torch and transformers first."""
    torch = importlib.util.find_spec("torch") if sys.dont_write_bytecode else None
    if torch is None or torch.origin is None or torch.cached is None or Path(torch.cached).exists():
        return
    packages = Path(torch.origin).parents[1]
    yield Check(
        group="versions",
        name="bytecode",
        found="not kept (PYTHONDONTWRITEBYTECODE or python -B), so that each command compiles its libraries first",
        state=NOTE,
        remedy=f"unset PYTHONDONTWRITEBYTECODE, or once: {sys.executable} -m compileall -q {packages}",
    )


def _packages() -> Iterator[Check]:
    """What calot's own metadata asks for, against what is installed."""
    try:
        wanted = metadata.requires("calot") or []
    except metadata.PackageNotFoundError:
        yield Check(group="packages", name="calot", found="runs from its sources, not installed", state=NOTE)
        return
    from packaging.requirements import Requirement

    for requirement in map(Requirement, wanted):
        train = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        if train and not requirement.marker.evaluate({"extra": "train"}):  # type: ignore[union-attr]
            continue
        remedy = _TRAIN if train else "pip install calot"
        version = _installed(requirement.name)
        need = f"need {requirement.specifier}"
        common: dict[str, Any] = {"group": "packages", "name": requirement.name, "remedy": remedy}
        facts = {"version": version, "needs": str(requirement.specifier), "extra": "train" if train else None}
        if version is None:
            yield Check(**common, found=f"missing; {need}", state=PROBLEM, facts=facts)
        elif not requirement.specifier.contains(version, prereleases=True):
            yield Check(**common, found=f"{version}; {need}", state=PROBLEM, facts=facts)
        else:
            yield Check(group="packages", name=requirement.name, found=version, facts=facts)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _unneeded() -> Iterator[Check]:
    """Packages calot never imports; transformers does when they are there, and a broken one breaks it."""
    for name in _UNNEEDED:
        version = _installed(name)
        if version is None:
            continue
        error = _fails(f"import {name}")
        common: dict[str, Any] = {"group": "packages", "name": name, "facts": {"version": version, "error": error}}
        if error is None:
            yield Check(**common, found=f"{version}; calot does not need it")
        else:
            remedy = f"pip uninstall {name}   (calot does not need it)"
            state = PROBLEM if name == "torchvision" else NOTE
            yield Check(**common, found=f"{version} is broken: {error}", state=state, remedy=remedy)


def _fails(code: str) -> str | None:
    """Run Python in a separate process, since a broken binary may end it; returns the error's last line."""
    return _probe(code)[1]


def _probe(code: str) -> tuple[str, str | None]:
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer within {_PROBE_TIMEOUT_S} s"
    if done.returncode == 0:
        return done.stdout, None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return "", lines[-1].strip() if lines else f"the process ended with {done.returncode}"


def _line() -> tuple[Check, dict[str, Any]]:
    """Import all that a run imports and build its model without memory."""
    if _installed("torch") is None:
        return Check(group="line", name="model", found="needs torch", state=PROBLEM, remedy=_TRAIN), {}
    out, error = _probe(_LINE_PROBE)
    if error is not None:
        remedy = "fix the packages above first; `calot experiments show e02_frozen_probe --params --debug` shows where"
        found = f"cannot be built: {error}"
        return Check(group="line", name="model", found=found, state=PROBLEM, remedy=remedy), {}
    probed: dict[str, Any] = json.loads(out.splitlines()[-1])
    found = f"V-JEPA 2 ViT-L with its head: {probed['parameters']:,} parameters"
    return Check(group="line", name="model", found=found, facts=probed), probed


def weights_check(asked: str | None, *, default: str | None) -> Check:
    """Published weights on this machine, found without the network. Only weights asked for by name are a problem."""
    name = asked or default
    if name is None:
        return Check(group="weights", name="weights", found="not checked: needs the training packages", state=NOTE)
    try:
        from calot.models.checkpoints import local_weights

        found = local_weights(name)
        said = f"{name}: {found or 'not on this machine'}"
    except CalotError as error:
        found, said = None, str(error)
    except Exception as error:
        found, said = None, f"{name}: not checked ({first_line(error)})"
    facts = {"name": name, "found": None if found is None else str(found)}
    if found is not None:
        return Check(group="weights", name="weights", found=said, facts=facts)
    remedy = "download them where there is a network, then backbone.weights=FOLDER"
    state = PROBLEM if asked else NOTE
    return Check(group="weights", name="weights", found=said, state=state, remedy=remedy, facts=facts)


def _hub() -> Check:
    try:
        from huggingface_hub import HfApi, constants

        from calot.models.backbones import DEFAULT

        if constants.HF_HUB_OFFLINE:
            return Check(group="weights", name="hub", found="not tried: HF_HUB_OFFLINE is set", state=NOTE)
        HfApi().model_info(str(DEFAULT.weights), timeout=5.0)
    except Exception as error:  # the hub's client raises several unrelated families of errors
        found = f"unreachable ({first_line(error)[:120]})"
        return Check(group="weights", name="hub", found=found, state=NOTE, remedy="use a local backbone.weights=FOLDER")
    return Check(group="weights", name="hub", found="answers")


def data_checks(root: Path) -> list[Check]:
    """The folder's tables read, and its pictures counted against them."""
    from calot.data.readers import open_folder
    from calot.data.understood import Understood

    try:
        folder = open_folder(root)
    except CalotError as error:
        remedy = "give --data the folder of a data set"
        return [Check(group="data", name="tables", found=str(error), state=PROBLEM, remedy=remedy)]
    manifest, understood = folder.manifest, Understood.of(folder)
    table = manifest.table
    splits = {s: manifest.split(s) for s in manifest.splits}
    counts = {
        s: {"videos": m.table["video"].n_unique(), "frames": len(m), "keyframes": int(m.keyframes.sum())}
        for s, m in splits.items()
    }
    said = "; ".join(
        f"{s} {c['videos']} videos, {c['frames']:,} frames, {c['keyframes']:,} keyframes" for s, c in counts.items()
    )
    kind = "phantom (scores mean nothing clinically)" if manifest.dataset == "phantom" else manifest.dataset
    facts: dict[str, Any] = {
        "root": str(root),
        "dataset": manifest.dataset,
        "splits": counts,
        "manifest_hash": manifest.hash,
    }
    checks = [
        Check(group="data", name="tables", found=f"{kind}: {said}", facts=facts),
        Check(group="data", name="read as", found=str(understood), facts=understood.to_dict()),
    ]
    missing = _missing(folder)
    facts = {"frames": len(table), "missing": len(missing)}
    if missing:
        found = f"{len(missing):,} of {len(table):,} are missing, first {missing[0]}"
        remedy = "put them there: unpack the archive again, or copy them again"
        checks.append(Check(group="data", name="pictures", found=found, state=PROBLEM, remedy=remedy, facts=facts))
    else:
        checks.append(Check(group="data", name="pictures", found=f"all {len(table):,} are there", facts=facts))
    masks = int(table["mask"].is_not_null().sum())
    masked = f"{masks:,} frames have one" if masks else "none"
    return [*checks, Check(group="data", name="masks", found=masked, facts={"masks": masks})]


def _missing(folder: DataFolder) -> list[str]:
    """Frames whose file is not there, by the names in their folders alone."""
    files = {image: folder.frames.file(image) for image in folder.manifest.table["image"].to_list()}
    places = {file.parent for file in files.values()}
    there = {place / entry.name for place in places if place.is_dir() for entry in os.scandir(place)}
    return [image for image, file in files.items() if file not in there]


def _scales(checks: list[Check], *, parameters: int | None) -> Iterator[Check]:
    """What would run here: the pipeline needs its packages, full size also its weights."""
    by_name = {check.name: check for check in checks}
    line = all(c.state != PROBLEM for c in checks if c.group in ("packages", "line"))
    command = "calot train E --data ROOT"
    if not line:
        yield Check(group="runs here", name="metrics, compare", found="`calot metrics`, `calot compare`: yes")
        yield Check(group="runs here", name="training", found="no: see above", state=NOTE, facts={"runs": False})
        return
    store = _store_bytes(by_name.get("pictures"))
    tiny = f"yes, minutes on this CPU: {command} --scale tiny" + (f"; store {gb(store[0])}" if store else "")
    yield Check(group="runs here", name="tiny", found=tiny, facts={"runs": True})
    have = by_name["weights"].facts.get("found") is not None
    gpu = any(c.name.startswith("gpu ") for c in checks)
    assert parameters is not None
    said = ["yes" if have else "needs weights"] + ([] if gpu else ["slow without a GPU"])
    said += [f"weights {gb(4 * parameters)} in fp32, full fine-tuning {gb(16 * parameters)} with gradients and Adam"]
    said += [f"store {gb(store[1])}"] if store else []
    said += [f"measure the rest: {command} --dry-run"]
    facts = {"runs": have, "weight_bytes": 4 * parameters, "fine_tuning_bytes": 16 * parameters}
    yield Check(group="runs here", name="full", found="; ".join(said), state=OK if have else NOTE, facts=facts)


def _store_bytes(pictures: Check | None) -> tuple[int, int] | None:
    if pictures is None:
        return None
    frames = int(pictures.facts["frames"])
    return frames * 3 * _TINY_SIZE**2, frames * 3 * _FULL_SIZE**2
