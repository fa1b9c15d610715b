"""The three COCO files of a split, as the Endoscapes archive holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calot.phantom import rle
from calot.phantom.anatomy import CLASSES
from calot.phantom.labels import VideoLabels
from calot.phantom.spec import HEIGHT, NOTICE, WIDTH

Json = dict[str, Any]

#: Fewer pixels than this are not an instance: a sliver behind an instrument has no box worth learning.
SMALLEST_INSTANCE = 24
_TOOL = len(CLASSES)


def image_id(video: int, number: int) -> int:
    """Endoscapes' image id: the video's number times a million plus the 25-fps frame number."""
    return video * 1_000_000 + number


def instances(mask: NDArray[np.uint8], *, image: int) -> list[Json]:
    """Boxes and masks of one frame, without ids: an organ is one instance, each connected instrument its own."""
    found = []
    for index in range(1, len(CLASSES) + 1):
        parts = [mask == index]
        if index == _TOOL:
            count, labelled = cv2.connectedComponents(parts[0].astype(np.uint8), connectivity=8)
            parts = [labelled == part for part in range(1, count)]
        for part in parts:
            area = int(part.sum())
            if area >= SMALLEST_INSTANCE:
                rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
                box = (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
                found.append(
                    {
                        "image_id": image,
                        "category_id": index,
                        "bbox": [float(v) for v in box],
                        "area": float(area),
                        "iscrowd": 0,
                        "segmentation": rle.encode(part),
                    }
                )
    return found


def images(labels: VideoLabels, *, masked: set[int]) -> list[Json]:
    """Every 1-fps frame of a video; `ds` holds the last keyframe's rater means (0 before the first)."""
    plan = labels.plan
    keys = {int(index): means for index, means in zip(plan.keyframes, labels.mean, strict=True)}
    last: list[float] = [0.0, 0.0, 0.0]
    rows = []
    for index, number in enumerate(plan.numbers.tolist()):
        if index in keys:
            last = [round(float(v), 6) for v in keys[index]]
        rows.append(
            {
                "id": image_id(plan.video, number),
                "file_name": f"{plan.video}_{number}.jpg",
                "height": HEIGHT,
                "width": WIDTH,
                "video_id": plan.video,
                "frame_id": index,
                "is_ds_keyframe": index in keys,
                "is_det_keyframe": index in masked,
                "ds": last,
            }
        )
    return rows


def documents(frames: Sequence[Json], *, annotations: Sequence[Json], videos: Sequence[int]) -> dict[str, Json]:
    """File name -> content for one split: frames with masks, keyframes, all frames."""
    numbered = [{"id": index} | dict(each) for index, each in enumerate(annotations, start=1)]
    common: Json = {
        "info": {"description": NOTICE},
        "categories": [{"id": i, "name": name, "supercategory": name} for i, name in enumerate(CLASSES, start=1)],
        "annotations": numbered,
    }
    return {
        "annotation_coco.json": common | {"images": [f for f in frames if f["is_det_keyframe"]]},
        "annotation_ds_coco.json": common | {"images": [f for f in frames if f["is_ds_keyframe"]]},
        "annotation_coco_vid.json": common
        | {"images": list(frames), "videos": [{"id": v, "name": str(v)} for v in videos]},
    }
