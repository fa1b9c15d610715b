"""Does attention supervision move attention? `e11_attention_supervision_l1` against the same with lambda 0, seed by
seed, on one phantom: the share of the last layer's attention that falls on the true anatomy of validation clips, after
the last epoch (the best one may lie before supervision begins). The encoder has random weights: its attention is even.

    python tests/helpers/supervising.py --seeds 5
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from run_requests import requested, trained
from scipy import stats

from calot.data.dataset import ClipDataset
from calot.evaluation.attention import AnatomyAttention
from calot.evaluation.predict import score
from calot.phantom import PhantomSpec, generate
from calot.pipeline import load_run
from calot.progress import Ui
from calot.run.data import OpenData
from calot.train import checkpoint

NAME = "e11_attention_supervision_l1"
SEVERAL_VAL = PhantomSpec(
    videos=14, seed=3, mean_frames=40.0, min_frames=30, max_frames=50, split_shares=(0.5, 0.4, 0.1)
)


@dataclass(frozen=True)
class Effect:
    """A difference by seed and video, and its 95 % interval over both."""

    by_seed_and_video: NDArray[np.float64]

    @property
    def mean(self) -> float:
        return float(self.by_seed_and_video.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """t interval with both variances added, seeds' and videos', and the degrees of freedom of the fewer."""
        d = self.by_seed_and_video
        variance = d.mean(axis=1).var(ddof=1) / d.shape[0] + d.mean(axis=0).var(ddof=1) / d.shape[1]
        half = stats.t.ppf(0.975, min(d.shape) - 1) * np.sqrt(variance)
        return self.mean - float(half), self.mean + float(half)


def mass_by_video(run: Path, *, data: Path) -> NDArray[np.float64]:
    """The mean attention mass on the anatomy of each validation video with a mask, in the videos' order."""
    experiment, model, _ = load_run(run)
    last_epoch = checkpoint.load(run / "checkpoints" / "previous")  # a stage ends with its best put back, as `last`
    assert last_epoch.progress["epoch"] == experiment.train.epochs
    checkpoint.load_into(model, last_epoch.tensors, where=run)
    opened = OpenData.of(data, experiment=experiment, ui=Ui())
    table = opened.clips("val", training=False)
    dataset = ClipDataset(table, opened.store("val"), masks=opened.masks(table))
    seen = AnatomyAttention()
    score(model, dataset=dataset, accelerator=Accelerator(cpu=True), batch_size=32, observers=(seen,))
    videos = np.array([table.videos[c.index] for c in seen.clips])
    mass = np.array([c.mass for c in seen.clips])
    return np.array([mass[videos == v].mean() for v in sorted(set(videos.tolist()))])


def effect(phantom: Path, out: Path, *, seeds: Sequence[int], epochs: int) -> Effect:
    """Train both for every seed, in `out/<lambda>_s<seed>`, and measure."""
    rows, changes = [], (f"train.epochs={epochs}", f"train.patience={epochs}", "backbone.weights=None")
    for seed in seeds:
        mass = {}
        for weight in ("1.0", "0.0"):
            folder = out / f"{weight}_s{seed}"
            asked = requested(
                phantom, folder, NAME, changes=(f"loss.terms.attention.weight={weight}", *changes), seed=seed
            )
            mass[weight] = mass_by_video(trained(replace(asked, resume=folder.exists())), data=phantom)
        rows.append(mass["1.0"] - mass["0.0"])
    return Effect(np.array(rows))


def main() -> None:
    """Measure it and print the difference seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where runs stay and go on from; by default a folder that goes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = given.out or Path(scratch)
        phantom = out / "phantom"
        if not phantom.exists():
            generate(phantom, SEVERAL_VAL, workers=2)
        found = effect(phantom, out, seeds=range(given.seeds), epochs=given.epochs)
    for seed, row in enumerate(found.by_seed_and_video):
        each = np.round(100 * row, 3).tolist()
        print(f"seed {seed}: attention on anatomy {100 * row.mean():+.3f} points, by video {each}")
    low, high = found.interval
    print(f"lambda 1 - lambda 0: {100 * found.mean:+.3f} points, 95 % interval {100 * low:+.3f} to {100 * high:+.3f}")


if __name__ == "__main__":
    main()
