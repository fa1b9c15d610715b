"""Which operations may train a model that is later scored on them: none, here or under another data set's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from calot.data.endoscapes.published import SIZES
from calot.data.manifest import Manifest
from calot.data.overlap.shared import SharedVideo, VideoIds, operations_of, overlap_of, published_overlap
from calot.data.readers import DataFolder, open_folder
from calot.errors import CalotError
from calot.provenance.run_files import DataFile, read_file
from calot.run.data import OpenData


def require_apart(manifest: Manifest) -> None:
    """Raises CalotError where a training video is one of val or test: of this data set, or of Endoscapes by another
    name (CAMMA's map of overlaps). No label need be read for the encoder to have seen it."""
    splits = {split: set(manifest.split(split).table["video"].unique().to_list()) for split in manifest.splits}
    train = splits.get("train", set())
    for split in ("val", "test"):
        if both := sorted(train & splits.get(split, set())):
            raise CalotError(f"{manifest.source}: video {both[0]} is in train and in {split}: take it out of train")
    if "endoscapes" in {name for video in train for name, _ in operations_of(manifest.dataset, video)}:
        return  # Endoscapes itself, whose splits were just compared
    held = {str(video): split for split, size in SIZES.items() if split != "train" for video in size.videos}
    mine = VideoIds(manifest.dataset, dict.fromkeys(sorted(train), "train"))
    for shared in published_overlap(mine, VideoIds("endoscapes", held)):
        raise CalotError(
            f"{manifest.source}: training video {shared.here} of {manifest.dataset} is the operation {shared.there} of "
            f"Endoscapes, which is in its {shared.split_there}: take it out of train, or no score there counts"
        )


def require_unseen(run: Path, scored: OpenData, *, split: str, check: Callable[[], None] | None = None) -> None:
    """Raises CalotError where a video to be scored is one that the run was trained on, under any name.

    The run's own data set needs no look. Where its training frames are gone, ids alone are compared, and that is said.
    """
    if not (run / "data.json").is_file():
        return  # imported, and not described yet: what trained it is its author's word
    own = read_file(run / "data.json", DataFile)
    if own.get("manifest_hash") == scored.manifest.hash:
        return
    _refuse(run, own, scored, split=split, found=_both(run, own, scored, split=split, check=check))


def require_unpublished(run: Path, scored: OpenData, *, split: str) -> None:
    """`require_unseen` by ids alone, for an archive of which each picture is read once."""
    if not (run / "data.json").is_file():
        return
    own = read_file(run / "data.json", DataFile)
    if own.get("manifest_hash") != scored.manifest.hash:
        _refuse(run, own, scored, split=split, found=_by_ids(own, scored, split=split))


def require_another(run: Path, root: Path, *, manifest: Manifest) -> None:
    """Raises CalotError where a data set is the run's own, here or copied: no split of it is external."""
    own = read_file(run / "data.json", DataFile)
    if own.get("manifest_hash") == manifest.hash:
        raise CalotError(
            f"{root}: the data set that {run} was trained on (manifest {manifest.hash[:12]}, from {own.get('root')}): "
            "no split of it is external. Give another data set."
        )


def held_in_both(run: Path, manifest: Manifest) -> list[SharedVideo]:
    """Operations of a run's own val and test that another data set has too, by ids alone. They trained nothing, but
    are of the run's own data set, and val chose the epoch: scored there, they are not external."""
    own = read_file(run / "data.json", DataFile)
    named = own.get("videos")
    splits = {v: s for s in ("val", "test") for v in (named.get(s, []) if isinstance(named, dict) else [])}
    theirs = VideoIds.of(manifest.table, dataset=manifest.dataset)
    return published_overlap(VideoIds(str(own.get("dataset")), splits), theirs)


def _refuse(run: Path, own: dict[str, Any], scored: OpenData, *, split: str, found: list[SharedVideo]) -> None:
    if not found:
        return
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    raise CalotError(
        f"{scored.root}: video {found[0].there} of {split} is video {found[0].here} of {own.get('dataset')}, which "
        f"{run} was trained on ({found[0].how}){more}: no score there counts. Take it out of {split}; all of "
        f"them: calot data overlap {own.get('root')} {scored.root}"
    )


def _by_ids(own: dict[str, Any], scored: OpenData, *, split: str) -> list[SharedVideo]:
    named = own.get("videos")
    videos = named.get("train", []) if isinstance(named, dict) else []
    theirs = VideoIds.of(scored.manifest.table, dataset=scored.manifest.dataset).within([split])
    return published_overlap(VideoIds(str(own.get("dataset")), dict.fromkeys(videos, "train")), theirs)


def _both(
    run: Path, own: dict[str, Any], scored: OpenData, *, split: str, check: Callable[[], None] | None
) -> list[SharedVideo]:
    root = Path(str(own.get("root")))
    try:
        trained = open_folder(root) if root.is_dir() else None
    except CalotError:
        trained = None
    if trained is not None and _still_there(trained, own):
        cache = scored.experiment.compute.cache_folder
        how: dict[str, Any] = {"splits": (["train"], [split]), "check": check, "caches": (None, cache)}
        return overlap_of(trained, scored.folder, ui=scored.ui, **how)
    scored.ui.say(f"{root}: not what {run} was trained on any more: pictures are not compared, only published overlaps")
    return _by_ids(own, scored, split=split)


def _still_there(folder: DataFolder, own: dict[str, Any]) -> bool:
    """Whether a folder has the training videos of a run, though frames of theirs may have been dropped in it."""
    if "train" not in folder.manifest.splits:
        return False
    named = own.get("videos")
    now = sorted(set(folder.manifest.split("train").videos))
    return folder.manifest.hash == own.get("manifest_hash") or (isinstance(named, dict) and named.get("train") == now)
