"""How much memory reading attention takes at full size: 2,048 tokens and 16 heads, beside the model's own pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_MEASURE = """
import json, resource, sys
from pathlib import Path
import torch
from accelerate import Accelerator
from endoscapes_folder import ALL, Folder
from calot.analysis.attention import AttentionPass, read_attention
from calot.data.clip_rules import ClipRule
from calot.data.clips import AllFrames, CentreLabel, build_clips
from calot.data.dataset import ClipDataset
from calot.data.geometry import Squash
from calot.data.readers import open_folder
from calot.data.store import open_store
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.classifier import Classifier
from calot.models.heads import LinearHead
from calot.models.pooling import MeanPooling

torch.set_num_threads(1)
frames = list(range(121000, 121000 + 25 * 16, 25))
root = Folder(root=Path(sys.argv[1])).video(121, split="val", frames=frames, votes={frames[0]: ALL}).write_images()
manifest = open_folder(root).manifest
table = build_clips(
    manifest, split="val", protocol=AllFrames(), rule=ClipRule(length=16), label_rule=CentreLabel(), training=False
)
table = table.select(torch.tensor([8]).numpy())
dataset = ClipDataset(table, open_store(root, manifest.split("val"), geometry=Squash(), size=256))
spec = VJEPA2(weights=None, layers=int(sys.argv[2]), width=1024, heads=16)
model = Classifier(backbone=spec.build(), pooling=MeanPooling(), heads=[LinearHead()]).eval()
one = AttentionPass(model=model, dataset=dataset, accelerator=Accelerator(cpu=True), variant="run")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

with torch.inference_mode():
    for batch in one.clip_batches():
        model.encode(batch)
before = peak()
found = read_attention(one)
print(json.dumps({"tokens": list(found.maps.shape), "before": before, "more": peak() - before}))
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts KiB on Linux alone")
@pytest.mark.parametrize(("layers", "limit"), [(2, 250e6), (24, 500e6)])
def test_reading_attention_at_full_size_takes_less_memory_than_two_whole_maps(
    tmp_path: Path, layers: int, limit: float
) -> None:
    """Whole maps of one layer would take 16 x 2,048 x 2,048 x 4 bytes, 268 MB; nothing of a layer is kept but sums."""
    command = [sys.executable, "-c", _MEASURE, str(tmp_path / "data"), str(layers)]
    seen = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}  # the tests' helpers, too
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=seen)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["tokens"] == [1, layers, 8, 16, 16]
    assert found["more"] < limit
