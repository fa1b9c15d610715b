"""A run of two seeds on the small phantom, and one of its val operations as a lossless recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import calot
from filelock import FileLock
from recordings import LOSSLESS, blended, pictures_of, record
from theatres import RATE, Theatre

TRAIN = ("--scale", "tiny", "--seeds", "1,2", "--no-receipt", "train.epochs=1")


@pytest.fixture(scope="session")
def theatre(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Theatre:
    """Trained once for all workers of a run of the suite, as phantoms are made."""
    home = phantom.parent / "theatre"
    with FileLock(phantom.parent / "theatre.lock"):
        if not (home / "made").exists():
            home.mkdir(exist_ok=True)
            done = calot("train", "e02_frozen_probe", *TRAIN, "--data", phantom, "--out", home / "run", cwd=home)
            assert done.returncode == 0, done.stderr
            video = (phantom / "val_vids.txt").read_text().split()[0].split(".")[0]
            record(home / "op.mp4", blended(pictures_of(phantom, video)[1], rate=RATE), **LOSSLESS)
            (home / "made").write_text(video)
    video = (home / "made").read_text()
    numbers, pictures = pictures_of(phantom, video)
    assert np.all(np.diff(numbers) == 25), "a phantom operation without gaps"
    seeds = (home / "run" / "e02_frozen_probe" / "s1", home / "run" / "e02_frozen_probe" / "s2")
    return Theatre(seeds, video, tuple(numbers), tuple(pictures), home / "op.mp4")
