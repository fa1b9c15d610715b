from pathlib import Path

import pytest

from calot.data.phantom import PhantomSpec, generate


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of seconds' work: 9 operations of 30 to 60 frames."""
    out = tmp_path_factory.mktemp("data") / "phantom"
    generate(out, PhantomSpec(videos=9, seed=3, mean_frames=45.0, min_frames=30, max_frames=60), workers=2)
    return out
