"""Fixtures that tests of several rooms share: small phantoms, made once for all workers of a run of the suite."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, spec: object) -> Path:
    """A phantom beside the workers' own folders: the first worker that asks for it makes it, the others wait."""
    from calot.phantom import generate

    shared = factory.getbasetemp() if "PYTEST_XDIST_WORKER" not in os.environ else factory.getbasetemp().parent
    out = shared / name
    with FileLock(shared / f"{name}.lock"):
        if not (shared / f"{name}.made").exists():
            generate(out, spec, workers=2)
            (shared / f"{name}.made").touch()
    return out


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of seconds' work: 9 operations of 30 to 60 frames."""
    from calot.phantom import PhantomSpec

    spec = PhantomSpec(videos=9, seed=3, mean_frames=45.0, min_frames=30, max_frames=60)
    return made_once(tmp_path_factory, "phantom", spec)


@pytest.fixture(scope="session")
def bare_phantom(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in a folder of this worker's own, with nothing decoded yet."""
    out = tmp_path_factory.mktemp("bare") / "phantom"
    return Path(shutil.copytree(phantom, out, ignore=shutil.ignore_patterns(".calot")))


@pytest.fixture(scope="session")
def several_val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of which 6 of 14 operations are for validation."""
    from supervising import SEVERAL_VAL

    return made_once(tmp_path_factory, "several_val", SEVERAL_VAL)
