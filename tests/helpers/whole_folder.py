"""A small folder with all that the archive has: images, masks, COCO files; the checks find nothing wrong with it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from endoscapes_folder import ALL, NO, TWO_OF_THREE_SEE_C2, Folder
from PIL import Image

HEIGHT, WIDTH = 24, 40


def write_whole(root: Path) -> Path:
    """Videos 2 and 10 (train), 121 (val) and 162 (test), 12 frames each, three keyframes each, a mask on each."""
    folder = Folder(root=root)
    for number, split in ((10, "train"), (2, "train"), (121, "val"), (162, "test")):
        start = 1000 * number
        frames = list(range(start, start + 300, 25))
        votes = {start + 25: NO, start + 150: TWO_OF_THREE_SEE_C2, start + 275: ALL}
        folder.video(number, split=split, frames=frames, votes=votes)
    folder.write_images(height=HEIGHT, width=WIDTH)
    (root / "semseg").mkdir()
    with edited(root) as rows:
        for row in rows:
            if row["is_ds_keyframe"] == "True":
                row["mask_path"] = f"semseg/{row['vid']}_{row['frame']}.png"
                write_mask(root / row["mask_path"], values=[0, 1, 5, 255])
        for split, videos in folder.videos.items():
            write_coco(root / split, [row for row in rows if int(row["vid"]) in videos])
    return root


def write_mask(path: Path, *, values: list[int], height: int = HEIGHT, width: int = WIDTH) -> None:
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[0, : len(values)] = values
    Image.fromarray(np.repeat(mask[..., None], 3, axis=2)).save(path)


def write_coco(folder: Path, rows: list[dict[str, str]]) -> None:
    images = [
        {
            "id": int(row["vid"]) * 1_000_000 + int(row["frame"]),
            "file_name": f"{row['vid']}_{row['frame']}.jpg",
            "is_ds_keyframe": row["is_ds_keyframe"] == "True",
            "ds": [round(float(row[letter]), 2) for letter in ("C1", "C2", "C3")],
        }
        for row in rows
    ]
    keys = [image for image in images if image["is_ds_keyframe"]]
    boxes = [{"id": n, "image_id": image["id"], "category_id": 1} for n, image in enumerate(keys, start=1)]
    for name, listed in (("coco", keys), ("ds_coco", keys), ("coco_vid", images)):
        document = {"images": listed, "annotations": boxes, "categories": [{"id": 1, "name": "cystic_plate"}]}
        (folder / f"annotation_{name}.json").write_text(json.dumps(document))


class edited:
    """The table's rows as dictionaries, written back on leaving."""

    def __init__(self, root: Path) -> None:
        self.path = root / "all_metadata.csv"

    def __enter__(self) -> list[dict[str, str]]:
        with self.path.open(newline="") as file:
            self.rows = list(csv.DictReader(file))
        return self.rows

    def __exit__(self, *error: object) -> None:
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


class edited_json:
    """A COCO file's content, written back on leaving."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> dict[str, Any]:
        self.data: dict[str, Any] = json.loads(self.path.read_text())
        return self.data

    def __exit__(self, *error: object) -> None:
        self.path.write_text(json.dumps(self.data))
