"""Fixtures that tests of several rooms share: small phantoms, made once a session."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of seconds' work: 9 operations of 30 to 60 frames."""
    from calot.phantom import PhantomSpec, generate

    out = tmp_path_factory.mktemp("data") / "phantom"
    generate(out, PhantomSpec(videos=9, seed=3, mean_frames=45.0, min_frames=30, max_frames=60), workers=2)
    return out


@pytest.fixture(scope="session")
def several_val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of which 6 of 14 operations are for validation."""
    from supervising import SEVERAL_VAL

    from calot.phantom import generate

    out = tmp_path_factory.mktemp("data") / "several_val"
    generate(out, SEVERAL_VAL, workers=2)
    return out
