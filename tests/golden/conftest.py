from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def golden_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom that golden values are held on, made once."""
    import steps

    return steps.make_phantom(tmp_path_factory.mktemp("golden") / "phantom")
