"""A phantom on disk, in the layout of the Endoscapes archive."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.data.digests import held_to_digest, with_digest
from calot.errors import CalotError
from calot.phantom import coco
from calot.phantom.dynamics import spells
from calot.phantom.ignored import with_ignored
from calot.phantom.labels import PREVALENCE, VideoLabels, calibrated_plans, label_video, stream
from calot.phantom.plan import VideoPlan
from calot.phantom.render import Renderer, drawn_exposure
from calot.phantom.spec import CUE, NOTICE, SPLITS, TRUTH, VERSION, PhantomSpec, PhantomSummary
from calot.phantom.staging import draw_staging, special_counts
from calot.progress import Advance
from calot.reading import read_json
from calot.writing import write_json, write_text

COLUMNS = (
    *("vid", "frame", "avg_cvs", "C1", "C2", "C3", "is_ds_keyframe"),
    *("cvs_annotator_1", "cvs_annotator_2", "cvs_annotator_3", "mask_path", "label_path"),
)
UNFINISHED = ".unfinished"
#: The drawn structures of each criterion, which `PhantomSpec.invisible` hides.
DRAWN = dict(zip(CRITERIA, (("duct", "artery"), ("triangle",), ("plate",)), strict=True))


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What one video leaves for the files that span videos."""

    plan: VideoPlan
    rows: list[str]
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    masks: int


def generate(out: Path, spec: PhantomSpec, *, workers: int = 1, progress: Advance | None = None) -> PhantomSummary:
    """Write the phantom of `spec` into the empty or new folder `out`; equal bytes for any number of processes.

    `phantom.json` is written last: a folder without it was left unfinished, and the same call continues there, since
    each finished video leaves a note in `.unfinished/`. `progress` is called with frames done and in total.
    """
    started = time.perf_counter()
    _claim(out, spec=spec)
    plans = calibrated_plans(spec)
    total, done = sum(plan.frames for plan in plans), 0
    written: list[_Written] = []
    for video in _each(plans, out=out, spec=spec, workers=workers):
        written.append(video)
        done += video.plan.frames
        if progress is not None:
            progress(done, total)
    summary = PhantomSummary(
        videos=len(plans),
        frames=total,
        keyframes=sum(len(plan.keyframes) for plan in plans),
        masks=sum(video.masks for video in written),
        split_videos={split: sum(plan.split == split for plan in plans) for split in SPLITS},
        seconds=round(time.perf_counter() - started, 2),
        special=special_counts(plans, spec=spec),
    )
    _write_tables(out, spec=spec, written=written, summary=summary)
    shutil.rmtree(out / UNFINISHED)
    return summary


def _claim(out: Path, *, spec: PhantomSpec) -> None:
    """Take a new or empty folder, or one in which the same phantom was left unfinished."""
    try:
        same = read_json(out / UNFINISHED / "spec.json") == _described(spec)
    except (OSError, ValueError):
        same = None
    if same is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        state = "holds a finished phantom" if (out / "phantom.json").is_file() else "holds files of something else"
        raise CalotError(f"phantom folder {out} {state}; name a new folder, or remove this one first")
    if same is False:
        raise CalotError(
            f"phantom folder {out} holds another phantom, left unfinished: give the settings it was begun with, name a "
            "new folder, or remove this one first"
        )
    write_json(out / UNFINISHED / "spec.json", _described(spec))
    for folder in (
        *SPLITS,
        "semseg",
        *((TRUTH,) if spec.window_masks else ()),
        *((CUE,) if spec.shortcut_places else ()),
    ):
        (out / folder).mkdir(parents=True, exist_ok=True)


def _described(spec: PhantomSpec) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(json.dumps({"version": VERSION, "spec": spec.to_dict()}))
    return described


def _each(plans: Sequence[VideoPlan], *, out: Path, spec: PhantomSpec, workers: int) -> Iterator[_Written]:
    """Every video in order, drawn here or by spawned processes."""
    draw = partial(_drawn_once, out=out, spec=spec)
    if workers <= 1 or len(plans) == 1:
        yield from map(draw, plans)
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(plans)), mp_context=spawn, initializer=_ignore_ctrl_c)
    try:
        yield from pool.map(draw, plans)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ignore_ctrl_c() -> None:
    """A terminal sends it to these processes too; it is the parent that ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _drawn_once(plan: VideoPlan, *, out: Path, spec: PhantomSpec) -> _Written:
    """A video drawn now, or by an earlier call that was ended before it had drawn all."""
    note = out / UNFINISHED / f"{plan.video}.json"
    try:
        kept = held_to_digest(read_json(note))
    except (OSError, ValueError):
        written = draw_video(plan, out=out, spec=spec)
        kept = {name: value for name, value in vars(written).items() if name != "plan"}
        write_text(note, with_digest(kept))
    return _Written(plan=plan, **kept)


def marker_frames(labels: VideoLabels, *, spec: PhantomSpec) -> NDArray[np.bool_]:
    """On which frames the shortcut's marker lies: by keyframe interval in train, at random spells elsewhere, unless it
    is to agree there, too."""
    plan = labels.plan
    if spec.shortcut is None:
        return np.zeros(plan.frames, dtype=bool)
    rng = stream(spec, video=plan.video, purpose=3)
    k = CRITERIA.index(spec.shortcut)
    agreement = spec.shortcut_agreement if plan.split == "train" else spec.shortcut_elsewhere
    if agreement is not None:
        wrong = rng.uniform(size=len(plan.keyframes)) >= agreement
        shown = (labels.majority[:, k] == 1) ^ wrong
    else:
        series = spells(rng.standard_normal(len(plan.keyframes)), seconds=3.0)
        shown = series > np.quantile(series, 1.0 - max(PREVALENCE[plan.split][k], 0.25))
    nearest = np.abs(np.arange(plan.frames)[:, None] - plan.keyframes[None, :]).argmin(axis=1)
    return np.asarray(shown[nearest], dtype=bool)


def draw_video(plan: VideoPlan, *, out: Path, spec: PhantomSpec) -> _Written:
    """Draw one video's frames and masks into `out`."""
    cv2.setNumThreads(1)
    labels = label_video(plan, spec=spec)
    rng = stream(spec, video=plan.video, purpose=2)
    keys = plan.keyframes.tolist()
    masked = {key for key, draw in zip(keys, rng.uniform(size=len(keys)), strict=True) if draw < spec.mask_share}
    hidden = DRAWN[spec.invisible] if spec.invisible else ()
    staging = draw_staging(plan, spec=spec)
    renderer = Renderer(
        labels.state,
        rng=rng,
        exposure=drawn_exposure(labels.state, hidden=hidden),
        marker=marker_frames(labels, spec=spec),
        staging=staging,
        marker_size=spec.shortcut_size,
    )
    also = {key - back for key in masked for back in range(spec.window_masks)}
    annotations: list[dict[str, Any]] = []
    for index, number in enumerate(plan.numbers.tolist()):
        picture = renderer.frame(index, with_mask=index in masked or index in also)
        stem = f"{plan.video}_{number}"
        encoded = simplejpeg.encode_jpeg(
            picture.rgb, quality=spec.jpeg_quality, colorspace="RGB", colorsubsampling="420"
        )
        (out / plan.split / f"{stem}.jpg").write_bytes(encoded)
        if spec.shortcut_places and (place := renderer.cue(index)) is not None:
            write_truth(out / CUE / f"{stem}.png", place)
        if index in also and picture.mask is not None:
            write_truth(out / TRUTH / f"{stem}.png", picture.mask)
        if index in masked and picture.mask is not None:
            undecided = staging.ignored is not None and staging.ignored[index]
            _write_mask(out / "semseg" / f"{stem}.png", with_ignored(picture.mask) if undecided else picture.mask)
            annotations += coco.instances(picture.mask, image=coco.image_id(plan.video, number))
    return _Written(
        plan=plan,
        rows=_rows(labels, masked=masked),
        images=coco.images(labels, masked=masked),
        annotations=annotations,
        masks=len(masked),
    )


def write_truth(path: Path, mask: NDArray[np.uint8]) -> None:
    """Write a mask that no reader of the layout sees: one channel."""
    done, encoded = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise CalotError(f"mask {path} could not be encoded as PNG")
    path.write_bytes(encoded.tobytes())


def _write_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    done, encoded = cv2.imencode(".png", cv2.merge([mask] * 3), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise CalotError(f"mask {path} could not be encoded as PNG")
    path.write_bytes(encoded.tobytes())


def _rows(labels: VideoLabels, *, masked: set[int]) -> list[str]:
    """One video's lines of `all_metadata.csv`."""
    plan = labels.plan
    votes = {int(key): vote for key, vote in zip(plan.keyframes, labels.votes, strict=True)}
    lines = []
    for index, (number, values) in enumerate(zip(plan.numbers.tolist(), labels.filled.tolist(), strict=True)):
        vote = votes.get(index)
        cells = ["", "", ""] if vote is None else [f'"{list(map(int, rater))}"' for rater in vote]
        mask = f"semseg/{plan.video}_{number}.png" if index in masked else ""
        fields = [plan.video, number, repr(sum(values) / 3), *map(repr, values), vote is not None, *cells, mask, ""]
        lines.append(",".join(map(str, fields)))
    return lines


def _write_tables(out: Path, *, spec: PhantomSpec, written: Sequence[_Written], summary: PhantomSummary) -> None:
    lines = [",".join(COLUMNS), *(row for video in written for row in video.rows)]
    _write_text(out / "all_metadata.csv", "\n".join(lines) + "\n")
    for split in SPLITS:
        members = [video for video in written if video.plan.split == split]
        ids = [video.plan.video for video in members]
        _write_text(out / f"{split}_vids.txt", "".join(f"{v:.9e}\n" for v in ids))
        frames = [image for video in members for image in video.images]
        annotations = [each for video in members for each in video.annotations]
        for name, content in coco.documents(frames, annotations=annotations, videos=ids).items():
            _write_text(out / split / name, json.dumps(content))
    about = {
        "notice": NOTICE,
        "version": VERSION,
        "spec": spec.to_dict(),
        "counts": {key: value for key, value in summary.to_dict().items() if key != "seconds"},
    }
    _write_text(out / "phantom.json", json.dumps(about, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
