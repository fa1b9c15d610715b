"""A full disk, on real small file systems: a clear message, the last good state intact, and a way on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _mounts() -> bool:
    if sys.platform != "linux":
        return False
    try:
        return subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not _mounts(), reason="needs Linux and user namespaces, to mount a small file system")

_BEGIN = """
import os, pathlib, sys
from calot.errors import CalotError
small = pathlib.Path(os.environ["SMALL"])
def grow(size):
    assert os.system(f"mount -o remount,size={size} {small}") == 0
def refused(work):
    try:
        work()
    except CalotError as error:
        print("refused:", error)
        return
    raise SystemExit("nothing was refused")
"""


def _on_small_disk(small: Path, *, size: str, code: str) -> str:
    """Run Python with `small` a file system of `size`; returns what it printed."""
    small.mkdir()
    script = f'mount -t tmpfs -o size={size} none "$SMALL" && exec "$PYTHON" -c "$CODE"'
    environment = {**os.environ, "SMALL": str(small), "PYTHON": sys.executable, "CODE": _BEGIN + code}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "helpers")])
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_a_checkpoint_that_finds_no_room_leaves_the_one_before(tmp_path: Path) -> None:
    code = """
import torch
from calot.train.checkpoint import Checkpoints
kept = Checkpoints(small / "checkpoints", every_s=1.0, say=print)
def save(epoch):
    kept.save_last(tensors={"w": torch.full((200_000,), float(epoch))}, optimiser=None,
                   progress={"stage": 0, "epoch": epoch, "best_epoch": -1})
save(1)
save(2)
refused(lambda: save(3))
assert kept.resume().progress["epoch"] == 2
assert sorted(p.name for p in (small / "checkpoints").iterdir()) == ["last", "previous"]
grow("4m")
save(3)
assert (kept.resume().tensors["w"] == 3).all()
"""
    said = _on_small_disk(tmp_path / "small", size="2m", code=code)
    assert "last.new: the disk is full (No space left on device); what was there is intact. Free space" in said


def test_a_frame_store_that_runs_out_of_room_goes_on_where_it_was(tmp_path: Path) -> None:
    """There was room at the start; another program takes it while the store is built."""
    code = """
import numpy as np
from endoscapes_folder import NO, Folder
from calot.data.endoscapes.reader import read_endoscapes
from calot.data.geometry import Squash
from calot.data.store import open_store
numbers = list(range(0, 300 * 25, 25))
root = Folder(small.parent / "data").video(1, split="train", frames=numbers, votes={0: NO}).write_images()
seen = []
def build(progress):
    seen.clear()
    rows = read_endoscapes(root).split("train")
    return open_store(root, rows, geometry=Squash(), size=64, cache=small / "cache", progress=progress)
def take_the_rest(done, total):
    if done >= 128:
        try:
            (small / "other").write_bytes(bytes(5_000_000))
        except OSError:
            pass
refused(lambda: build(take_the_rest))
(small / "other").unlink()
store = build(lambda done, total: seen.append(done))
assert seen[0] == 128, seen
store.verify()
"""
    said = _on_small_disk(tmp_path / "small", size="5m", code=code)
    assert "No space left on device" in said
    assert "Free disk space or give a cache elsewhere" in said
    assert "then run the same command again: what is built is kept" in said


@pytest.mark.long
def test_metrics_predictions_and_report_keep_the_old_file(tmp_path: Path) -> None:
    code = """
import polars as pl, numpy as np
from calot.criteria import CRITERIA
from calot.run.folder import write_metrics
from calot.report.pictures import write_clip_sheet
from calot.statistics.predictions import Predictions
from calot.writing import write_text
n = 20_000
rng = np.random.default_rng(0)
columns = {"dataset": "d", "split": "val", "protocol": "keyframes", "video": [str(i // 100) for i in range(n)]}
columns |= {"frame": np.arange(n), "seed": 0}
for c in CRITERIA:
    columns |= {f"logit_{c}": rng.normal(size=n).astype("float32"), f"label_{c}": rng.integers(0, 2, n).astype("int8"),
                f"soft_{c}": rng.random(n).astype("float32")}
table = Predictions(frame=pl.DataFrame(columns), fingerprint="f", manifest_hash="m")
noise = [rng.integers(0, 255, (480, 480, 3), dtype=np.uint8) for _ in range(8)]
works = {
    "report.html": lambda: write_text(small / "report.html", "x" * 200_000),
    "metrics.csv": lambda: write_metrics(small / "metrics.csv", [{"stage": 1, "epoch": e} for e in range(20_000)]),
    "val.parquet": lambda: table.write(small / "val.parquet"),
    "clip.jpg": lambda: write_clip_sheet(noise, small / "clip.jpg"),
}
for name in works:
    (small / name).write_text("old")
for name, work in works.items():
    refused(work)
    assert (small / name).read_text() == "old"
assert sorted(p.name for p in small.iterdir()) == sorted(works)
grow("8m")
for name, work in works.items():
    work()
    assert (small / name).stat().st_size > 5_000
"""
    said = _on_small_disk(tmp_path / "small", size="20k", code=code)
    for name in ("report.html", "metrics.csv", "val.parquet", "clip.jpg"):
        assert f"{name}: the disk is full" in said


def test_the_ledger_takes_a_line_whole_or_not_at_all(tmp_path: Path) -> None:
    code = """
from calot.provenance import ledger
def fill():
    for number in range(10_000):
        ledger.append(small, ledger.make_entry("predicted", run="r" * 300, number=number))
refused(fill)
kept = ledger.read(small)
assert len(kept) > 10
assert [entry.facts["number"] for entry in kept] == list(range(len(kept)))
grow("8m")
ledger.append(small, ledger.make_entry("predicted", run="r", number=-1))
assert len(ledger.read(small)) == len(kept) + 1
"""
    said = _on_small_disk(tmp_path / "small", size="20k", code=code)
    assert "ledger.jsonl: the disk is full (No space left on device); what was there is intact" in said


@pytest.mark.long
def test_a_phantom_that_finds_no_room_continues_where_it_was_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    code = """
from calot.phantom import PhantomSpec, generate
spec = PhantomSpec(videos=6, seed=4, mean_frames=24.0, min_frames=24, max_frames=24)
def tree(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
from calot.writing import clear_disk_errors
def draw():
    with clear_disk_errors(small):
        generate(small / "phantom", spec)
refused(draw)
refused(lambda: generate(small / "phantom", PhantomSpec(videos=6, seed=5, mean_frames=24.0, min_frames=24)))
grow("60m")
kept = {p.name: p.stat().st_mtime_ns for p in (small / "phantom" / ".unfinished").glob("*.json")}
assert len(kept) > 2, kept
draw()
generate(small.parent / "at once", spec)
assert tree(small / "phantom") == tree(small.parent / "at once")
refused(draw)
"""
    said = _on_small_disk(tmp_path / "small", size="5m", code=code)
    assert "the disk is full" in said
    assert "holds another phantom, left unfinished" in said
    assert "holds a finished phantom" in said
