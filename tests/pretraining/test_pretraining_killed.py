"""Is a pretraining that is killed at any moment continued to the same bytes, teacher and weights included?"""

import hashlib
import os
import shutil
from pathlib import Path

import killing
import pytest

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="SIGKILL and fork")]

QUICK = ("protocol=keyframes", "train.epochs=3", "train.batch=8", "train.warmup=0.5", *killing.COMPUTE)


class Pretraining(killing.Killer):
    """The same kills of `calot pretrain`."""

    def words(self, folder: Path, *, workers: int) -> list[str]:
        rest = [
            f"compute.workers={workers}",
            "--scale",
            "tiny",
            "--seed",
            "0",
            "--no-receipt",
            "--out",
            str(folder),
            "--resume",
        ]
        return ["pretrain", str(self.data), *QUICK, *rest]

    def digests(self, folder: Path) -> dict[str, str]:
        kept = [p for place in ("best", "last") for p in sorted((folder / "checkpoints" / place).iterdir())]
        paths = [folder / "metrics.csv", *kept, *(folder / "weights").glob("[cm]*")]
        return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def test_ten_kills_of_a_pretraining_change_no_byte(phantom: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(phantom, tmp_path / "data", ignore=shutil.ignore_patterns(".calot")))
    killer = Pretraining(data=data, home=tmp_path, seed=5)
    killer.unkilled()
    assert {"weights/config.json", "weights/model.safetensors"} <= killer.expected.keys()
    while killer.kills < 10:
        killer.chain(workers=killer.chains % 2, kills=min(5, 10 - killer.kills))
    assert any(name.startswith("training") for name in killer.fell), killer.fell
