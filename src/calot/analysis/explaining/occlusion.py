"""What covering blocks of a clip does to its logits, beside integrated gradients, random order and random weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from calot.analysis.attention import DARK_LEVEL, clips_over_videos
from calot.analysis.explaining.part import ExplainPart, Subject
from calot.analysis.occlusion import ClipEffects, Occluder, Occlusion, block_sums, require_captum
from calot.criteria import CRITERIA, MASK_CLASSES
from calot.data.dataset import ClipDataset, EpochIndices
from calot.errors import CalotError
from calot.models.attention_maps import dark_tokens
from calot.models.classifier import Classifier
from calot.out_of_memory import while_scoring
from calot.statistics.attention import BORDER
from calot.statistics.clip_means import mean_over_clips
from calot.statistics.findings import Findings
from calot.statistics.occlusion import (
    ANATOMY,
    CUE,
    METHODS,
    RANDOM_ORDER,
    curve_area,
    effect_shares,
    rank_correlation,
    summarise_effects,
    unchanged_maps,
)
from calot.types import Batch, is_anatomy

Sets = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class OcclusionPart(ExplainPart):
    """`settings` say how clips are cut and covered; `pictures` of the clips are kept for the page."""

    name: str = "occlusion"
    settings: Occlusion = Occlusion()
    pictures: int = 4

    def measure(self, subject: Subject) -> Findings:
        try:
            require_captum()
        except CalotError as error:
            return Findings(facts={"absent": f"{error}."})
        chosen = _chosen(subject)
        dataset, read = subject.dataset(chosen, masks=True), _Read()
        own = self._occluder(subject, subject.model)
        untrained = self._occluder(subject, subject.untrained())
        with subject.ui.task("occlusion and gradients") as advance:
            for place, batch in _one_by_one(dataset, device=subject.accelerator.device):
                clip = own.normalised(batch)[0]
                found = own.effects(clip, seed=int(chosen[place]))
                others, _ = untrained.maps(clip)
                sets = self._sets(subject, dataset, batch, place=place)
                read.add(found, others=others, sets=sets, video=str(dataset.table.videos[place]), clip=place)
                advance(place + 1, len(dataset))
        names = [subject.clip_name(i) for i in chosen.tolist()]
        return self._findings(subject, dataset, read, names=names)

    def _occluder(self, subject: Subject, model: Classifier) -> Occluder:
        at_a_time = while_scoring(subject.ui.say)
        return Occluder(model=model, accelerator=subject.accelerator, settings=self.settings, at_a_time=at_a_time)

    def _sets(self, subject: Subject, dataset: ClipDataset, batch: Batch, *, place: int) -> Sets:
        """What may lie in a block, as the share of each block's pixels."""
        spec = subject.model.backbone.spec
        frames, side = self.settings.block(batch.video[0])
        assert batch.masks is not None
        values = batch.masks.values[0, 0]
        layers = {name: values == k for k, name in enumerate(MASK_CLASSES) if k} | {ANATOMY: is_anatomy(values)}
        dark = dark_tokens(batch.video, grid=spec.grid, level=DARK_LEVEL)[0].reshape(spec.grid[1:])
        shares = {n: _block_shares(_enlarged(m.float(), size=spec.size), side=side)[0] for n, m in layers.items()}
        if not bool(batch.masks.complete[0]):
            shares = {name: np.full_like(one, np.nan) for name, one in shares.items()}
        shares |= {BORDER: _block_shares(_enlarged(dark.float(), size=spec.size), side=side)[0]}
        if subject.cue.absent is None:
            places = torch.from_numpy(subject.cue.of_clip(dataset.table, place)).float()
            shares[CUE] = _block_shares(places, side=side, frames=frames) if bool(places.any()) else np.full(1, np.nan)
        return shares

    def _findings(self, subject: Subject, dataset: ClipDataset, read: _Read, *, names: Sequence[str]) -> Findings:
        clips = pl.DataFrame(read.rows, infer_schema_length=None)
        clips = clips.with_columns(clip=pl.Series([names[i] for i in clips["place"].to_list()])).drop("place")
        clips = clips.fill_nan(None)
        summary = summarise_effects(clips)
        masks = dataset.masks
        assert masks is not None
        kept = clips_over_videos(dataset.table, masked=masks.which[:, 0] >= 0, count=self.pictures)
        maps = {method: np.stack([one.maps[method] for one in read.effects]) for method in METHODS}
        pieces = next(iter(maps.values())).shape[2]
        middle = [int((n + 0.5) * dataset.table.frames.shape[1] / pieces) for n in range(pieces)]
        frames = dataset.store.read(dataset.table.frames[kept][:, middle]).transpose(0, 1, 3, 4, 2)
        side = subject.model.backbone.spec.size
        block = self.settings.block(torch.empty(dataset.table.frames.shape[1], 3, side, side))
        facts: dict[str, Any] = {
            "settings": asdict(self.settings),
            "block_frames": block[0],
            "block_pixels": block[1],
            "clips": list(names),
            "videos": len(set(dataset.table.videos.tolist())),
            "clips_with_mask": int((masks.which[:, 0] >= 0).sum()),
            "clips_with_human_mask": int(masks.real.sum()),
            "unchanged": unchanged_maps(summary),
            "pictured": [names[i] for i in kept.tolist()],
            "largest": {m: [float(np.abs(v[:, k]).max()) for k in range(v.shape[1])] for m, v in maps.items()},
            "unexplained": float(np.mean([one.unexplained for one in read.effects])),
        }
        arrays: dict[str, NDArray[Any]] = {
            "frames": frames,
            **{method.replace(" ", "_"): held[kept] for method, held in maps.items()},
        }
        curves = _curve_rows(read.effects, videos=dataset.table.videos.tolist())
        return Findings(facts=facts, tables={"clips": clips, "summary": summary, "curves": curves}, arrays=arrays)


class _Read:
    """What was measured so far: a row per clip, method and criterion, and each clip's maps."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.effects: list[ClipEffects] = []

    def add(
        self, found: ClipEffects, *, others: Mapping[str, NDArray[np.float32]], sets: Sets, video: str, clip: int
    ) -> None:
        self.effects.append(found)
        random = found.curves[RANDOM_ORDER]
        for method in METHODS:
            for k, criterion in enumerate(CRITERIA):
                deletion, insertion = found.curves[method][:, k]
                self.rows.append(
                    {"video": video, "place": clip, "method": method, "criterion": criterion}
                    | {"logit": float(found.logits[k]), "sum": float(found.maps[method][k].sum())}
                    | {"deletion": curve_area(deletion), "insertion": curve_area(insertion)}
                    | {"deletion_random": curve_area(random[0, k]), "insertion_random": curve_area(random[1, k])}
                    | {"correlation": rank_correlation(found.maps[method][k], others[method][k])}
                    | effect_shares(found.maps[method][k], sets=sets)
                )


def _chosen(subject: Subject) -> NDArray[np.int64]:
    """Clips over videos, those with a mask first, and those that a person named."""
    some = clips_over_videos(subject.table, masked=subject.masked, count=subject.clips)
    return np.unique(np.concatenate([some, np.array(subject.asked, dtype=np.int64)]))


def _one_by_one(dataset: ClipDataset, *, device: torch.device) -> Iterator[tuple[int, Batch]]:
    for place in range(len(dataset)):
        yield place, dataset[EpochIndices(epoch=0, indices=(place,))].to(device)


def _enlarged(values: Float[Tensor, "y x"], *, size: int) -> Float[Tensor, "1 h w"]:
    return F.interpolate(values[None, None], size=(size, size), mode="nearest")[0]


def _block_shares(values: Float[Tensor, "t h w"], *, side: int, frames: int = 1) -> NDArray[np.float64]:
    """The mean over each block, `(s, y, x)`."""
    sums = (block_sums(each, frames=frames, side=side) for each in (values, torch.ones_like(values)))
    above, below = (each.double().cpu().numpy() for each in sums)
    return np.asarray(above / below)


def _curve_rows(effects: Sequence[ClipEffects], *, videos: Sequence[str]) -> pl.DataFrame:
    """The mean curve of every order, with its interval over videos."""
    rows: list[dict[str, Any]] = []
    for order in (*METHODS, RANDOM_ORDER):
        held = np.stack([one.curves[order] for one in effects])
        steps = held.shape[-1] - 1
        for kind, name in enumerate(("deletion", "insertion")):
            for k, criterion in enumerate(CRITERIA):
                for step in range(steps + 1):
                    mean = mean_over_clips(held[:, kind, k, step], videos=videos)
                    own = {"order": order, "curve": name, "criterion": criterion, "share": step / steps}
                    rows.append(own | mean.row())
    return pl.DataFrame(rows, schema_overrides={"reason": pl.String}, infer_schema_length=None)


PART = OcclusionPart()
