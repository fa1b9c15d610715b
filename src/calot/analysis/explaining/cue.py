"""Whether a run uses a suspected cue, whose places are known: attention on it, covering it, ranks against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from calot.analysis.capture import capture
from calot.analysis.explaining.part import ExplainPart, Subject, spread_over_videos
from calot.analysis.occlusion import Occluder, Occlusion
from calot.criteria import CRITERIA
from calot.data.clips import ClipTable
from calot.data.dataset import ClipDataset, EpochIndices
from calot.out_of_memory import while_scoring
from calot.statistics.cue import cue_means, cue_sentences, follows_cue
from calot.statistics.findings import Findings
from calot.statistics.probing import probe_features

#: The tap point of a pooling by attention.
_MAP = "pooling.attention_map"
#: Scores that differ by less are of the same frames.
_SAME = 1e-3
HERE, OWN_DATA = "with these frames", "as it was evaluated"


@dataclass(frozen=True, kw_only=True)
class Cue(ExplainPart):
    """At most `most` clips are scored; on at most `covered` that show the cue it is covered."""

    name: str = "cue"
    most: int = 2000
    covered: int = 200
    settings: Occlusion = Occlusion()

    def measure(self, subject: Subject) -> Findings:
        known = np.flatnonzero((subject.table.majority >= 0).all(axis=1))
        absent = subject.cue.absent
        if absent is None and not len(known):
            absent = f"No clip of {subject.split} has labels."
        if absent is not None:
            return Findings(facts={"absent": absent})
        chosen = spread_over_videos(subject.table, among=known, count=self.most)
        table = subject.table.select(chosen)
        logits, masses, areas = self._passed(subject, chosen)
        shown = subject.cue.shown(table)
        effects = self._covered(subject, table, shown=shown)
        labels, columns = table.majority == 1, _columns(subject, chosen, shown=shown, logits=logits)
        columns |= {"area": areas, "mass": masses} | effects
        clips = pl.DataFrame(columns).fill_nan(None)
        means = {n: m.row() for n, m in cue_means(clips.filter(pl.col("shown") & (pl.col("area") > 0))).items()}
        followed = [
            follows_cue(
                labels[:, k], logits[:, k].astype(np.float64), cue=shown, videos=table.videos, criterion=c
            ).to_dict()
            for k, c in enumerate(CRITERIA)
        ]
        facts: dict[str, Any] = {
            "clips": len(table),
            "videos": len(set(table.videos.tolist())),
            "showing": int(shown.sum()),
            "attention": _MAP in dict(subject.model.named_modules()),
            "pooling": type(subject.model.pooled_by).__name__,
            "means": means,
            "followed": followed,
            "sentences": cue_sentences(means),
            "drop": _drop(subject, chosen, logits=logits),
        }
        return Findings(facts=facts, tables={"clips": clips})

    def _passed(
        self, subject: Subject, chosen: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """Logits of these frames, and of each clip the share of pooling's attention and of all tokens on the cue."""
        dataset, grid = subject.dataset(chosen), subject.model.backbone.spec.grid
        points = [_MAP] if _MAP in dict(subject.model.named_modules()) else []
        logits, masses, areas = [], [], []
        with capture(subject.model, points=points) as seen:
            for outputs, batch in subject.passes(dataset, label="the cue"):
                logits.append(outputs.logits.float().cpu().numpy())
                for place, index in enumerate(batch.index.tolist()):
                    share = token_shares(torch.from_numpy(subject.cue.of_clip(dataset.table, index)), grid=grid)
                    areas.append(float(share.mean()))
                    mass = np.nan
                    if points:
                        weights = seen[_MAP][-1][place].double().mean(dim=0).cpu()
                        mass = float((weights * share).sum() / weights.sum())
                    masses.append(mass)
                for held in seen.values():
                    held.clear()
        return np.concatenate(logits), np.array(masses), np.array(areas)

    def _covered(self, subject: Subject, table: ClipTable, *, shown: NDArray[np.bool_]) -> dict[str, Any]:
        """By criterion, the logit less that with the cue covered, and the mean size of it for the same pixels moved
        half a frame away to the side, down, and both; NaN where nothing was covered."""
        found = np.full((2, len(table), len(CRITERIA)), np.nan)
        occluder = Occluder(
            model=subject.model.eval(),
            accelerator=subject.accelerator,
            settings=self.settings,
            at_a_time=while_scoring(subject.ui.say),
        )
        some = np.flatnonzero(shown)
        some = spread_over_videos(table, among=some, count=self.covered) if len(some) else some
        dataset = ClipDataset(table, subject.store())
        with torch.inference_mode(), subject.ui.task("covering the cue") as advance:
            for done, index in enumerate(some.tolist(), start=1):
                batch = dataset[EpochIndices(epoch=0, indices=(index,))].to(subject.accelerator.device)
                clip = occluder.normalised(batch)[0]
                place = torch.from_numpy(subject.cue.of_clip(table, index)).to(clip.device)[:, None]
                if bool(place.any()):
                    half = clip.shape[-1] // 2
                    moved = [place.roll(by, dims=(2, 3)) for by in ((0, half), (half, 0), (half, half))]
                    covered, shapes = occluder.covered(clip), torch.stack([place & False, place, *moved])
                    logits = occluder.logits(torch.where(shapes, covered, clip)).double().cpu().numpy()
                    change = logits[0] - logits[1:]
                    found[0, index], found[1, index] = change[0], np.abs(change[1:]).mean(axis=0)
                advance(done, len(some))
        kinds = ("effect", "elsewhere")
        return {f"{kinds[i]}_{c}": found[i, :, k] for i in range(2) for k, c in enumerate(CRITERIA)}


def token_shares(place: Tensor, *, grid: tuple[int, int, int]) -> Tensor:
    """Of each token `(n,)`, the share of its pixels and frames that are of a place `(t, h, w)`."""
    return F.adaptive_avg_pool3d(place[None, None].double(), grid).flatten()


def _columns(
    subject: Subject, chosen: NDArray[np.int64], *, shown: NDArray[np.bool_], logits: NDArray[np.float32]
) -> dict[str, Any]:
    table = subject.table.select(chosen)
    columns: dict[str, Any] = {
        "clip": [subject.clip_name(i) for i in chosen.tolist()],
        "video": table.videos.tolist(),
        "frame": table.frame_numbers,
        "shown": shown,
    }
    for k, criterion in enumerate(CRITERIA):
        columns |= {f"label_{criterion}": table.majority[:, k], f"logit_{criterion}": logits[:, k].astype(np.float64)}
    return columns


def _drop(subject: Subject, chosen: NDArray[np.int64], *, logits: NDArray[np.float32]) -> dict[str, Any] | None:
    """AP on these frames less that of the run's own predictions of the same clips, where they saw other frames."""
    if subject.stored is None:
        return None
    own, table = subject.logits[chosen], subject.table.select(chosen)
    if float(np.abs(own - logits).max()) < _SAME:
        return None
    found = probe_features(
        {},
        labels=table.majority,
        videos=table.videos,
        given={HERE: logits.astype(np.float64), OWN_DATA: own.astype(np.float64)},
        pairs=[(HERE, OWN_DATA)],
    )
    return {"scores": [s.row() for s in found.scores], "differences": [d.row() for d in found.differences]}


PART = Cue()
