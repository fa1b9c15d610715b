"""A small data set for the tests of the data line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from endoscapes_folder import ALL, NO, TWO_OF_THREE_SEE_C2, Folder


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], Folder]:
    """Two training videos (2 and 10), one of validation (121) and one of test (162), 12 frames each."""

    def make() -> Folder:
        made = Folder(root=tmp_path / "endoscapes")
        for number, split in ((10, "train"), (2, "train"), (121, "val"), (162, "test")):
            start = 1000 * number
            frames = list(range(start, start + 300, 25))
            votes = {start + 50: NO, start + 175: TWO_OF_THREE_SEE_C2, start + 275: ALL}
            made.video(number, split=split, frames=frames, votes=votes)
        return made

    return make
