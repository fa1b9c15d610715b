"""Frames as another centre would store them: other ids, size, JPEG quality, borders, seconds."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from calot.data.readers import open_folder


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=quality)
    return Image.open(held).convert("RGB")


def framed(picture: Image.Image, *, x: int, y: int) -> Image.Image:
    out = Image.new("RGB", (picture.width + 2 * x, picture.height + 2 * y))
    out.paste(picture, (x, y))
    return out


def re_encoded(phantom: Path, out: Path, *, videos: int = 2) -> tuple[Path, list[str]]:
    """A plain table of some of the phantom's training videos: other ids, size, quality, borders, every other second."""
    table = open_folder(phantom).manifest.split("train").table
    chosen = table["video"].unique().sort().to_list()[:videos]
    rows = ["video,split,frame,two_structures,hepatocystic_triangle,cystic_plate"]
    for number, video in enumerate(chosen):
        for place, row in enumerate(table.filter(table["video"] == video).iter_rows(named=True)):
            if place % 2:
                continue
            path = out / "frames" / f"case {number}" / f"{place}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.open(phantom / row["image"]).convert("RGB").resize((640, 360))
            framed(picture, x=0, y=40).save(path, quality=40)
            rows.append(f"case {number},val,{place},{place % 3 // 2},{place // 4 % 2},{place // 6 % 2}")
    (out / "labels.csv").write_text("\n".join(rows) + "\n")
    (out / "dataset.json").write_text('{"frames_per_second": 1, "seconds_apart": 2}')
    return out, chosen
