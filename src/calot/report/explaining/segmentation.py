"""The decoder's masks on the page: IoU by class, and true beside predicted with the scores of the clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calot.criteria import CRITERIA, IGNORED, MASK_CLASSES
from calot.report.explaining.figures import counts_grid
from calot.report.explaining.section import Block, Section, SectionView
from calot.report.sheets import SIDE, Sheet, jpeg_address, picture_rows
from calot.report.tables import Row, Table, columns, count, in_sentence, number, ranged
from calot.report.verdict import Reason
from calot.statistics.findings import Findings
from calot.statistics.intervals import Interval

#: Colour of each class on a picture; background is the frame itself, ignored pixels are grey.
COLOURS: Mapping[int, tuple[int, int, int]] = {
    1: (0, 190, 140),
    2: (255, 140, 60),
    3: (230, 60, 60),
    4: (70, 150, 255),
    IGNORED: (128, 128, 128),
}
_SHORT = ("back", "plate", "triangle", "artery", "duct")
_KEY = "Plate green, triangle orange, artery red, duct blue; ignored pixels grey."


@dataclass(frozen=True, kw_only=True)
class SegmentationSection(Section):
    """Predicted against true masks."""

    name: str = "segmentation"
    title: str = "Segmentation check"

    def view(self, found: Findings) -> SectionView:
        facts = found.facts
        rows = []
        for name, one in facts["iou"].items():
            cells = (
                name.replace("_", " "),
                ranged(_interval(one), digits=1, scale=100.0),
                count(facts["clips_with"].get(name)) if name != "mean" else "",
                count(facts["pixels"].get(name)) if name != "mean" else "",
            )
            rows.append(Row(cells=cells, strong=name == "mean"))
        reasons = dict.fromkeys(r for one in facts["iou"].values() if (r := one.get("reason")))
        table = Table(
            title="Intersection over union by class, points",
            columns=columns("class", "IoU", "clips with it", "true mask pixels"),
            rows=rows,
            sortable=False,
            note=f"No value or interval: {'; '.join(reasons)}." if reasons else "",
        )
        chart = counts_grid(
            found.arrays["confusion"],
            title="Mask pixels",
            name="segmentation-confusion",
            down="true",
            across="predicted",
            names=_SHORT,
        )
        text = (
            f"{facts['clips']:,} clips of {facts['videos']} videos have a human mask in their window: the one nearest "
            "to the labelled frame, and what the decoder draws for that frame. All pixels count once, in one confusion "
            "matrix; ignored ones (255) not at all."
        )
        said = f"Left: the frame. Middle: the human mask. Right: the decoder’s. {_KEY}"
        blocks = [
            Block(text=text, table=table),
            Block(
                charts=[chart],
                caption="Rows: true class. Columns: predicted. Dark: a large share of the row.",
            ),
            Block(heading="Clips", text=said, sheets=_sheets(found)),
            Block(table=_clips(found)),
        ]
        mean = in_sentence(ranged(_interval(facts["iou"]["mean"]), digits=1, scale=100.0))
        reason = Reason("Masks.", f"Mean IoU {mean} points over {facts['clips']} clips with a human mask.")
        return SectionView(reasons=[reason], blocks=blocks)


def _interval(row: Mapping[str, Any]) -> Interval:
    return Interval(value=row["value"], low=row["low"], high=row["high"], reason=row.get("reason"))


def painted(frame: NDArray[np.uint8], mask: NDArray[np.uint8], *, side: int = SIDE) -> NDArray[np.uint8]:
    """A frame with the classes of a mask laid over it."""
    large = Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR)
    grown = np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))
    light = np.asarray(large, dtype=np.float32) * 0.75
    for number_of, colour in COLOURS.items():
        light[grown == number_of] = 0.3 * light[grown == number_of] + 0.7 * np.array(colour, dtype=np.float32)
    return light.round().astype(np.uint8)


def _sheets(found: Findings) -> list[Sheet]:
    held, sheets = found.arrays, []
    rows = {row["clip"]: row for row in found.tables["clips"].to_dicts()}
    for place, clip in enumerate(held["clips"].tolist()):
        frame = held["frames"][place]
        pictures = [frame, painted(frame, held["true"][place]), painted(frame, held["predicted"][place])]
        row = rows[clip]
        scores = "; ".join(
            f"C{k + 1} {_truth(row[f'label_{name}'])}, scored {in_sentence(number(row[f'score_{name}'], digits=2))}"
            for k, name in enumerate(CRITERIA)
        )
        classes = ", ".join(
            f"{short} {100 * row[f'iou_{name}']:.0f}"
            for name, short in zip(MASK_CLASSES, _SHORT, strict=True)
            if row[f"iou_{name}"] is not None
        )
        apart = f" The mask is {row['apart']} frames away from the labelled one." if row["apart"] else ""
        said = f"{scores}. IoU: {classes}.{apart}"
        sheets.append(Sheet(title=f"Clip {clip}", source=jpeg_address(picture_rows([pictures], side=SIDE)), said=said))
    return sheets


def _truth(value: int) -> str:
    return {1: "yes", 0: "no"}.get(value, "unlabelled")


def _clips(found: Findings) -> Table:
    rows = []
    for row in found.tables["clips"].sort("mean_iou").head(100).to_dicts():
        iou = [number(_points(row[f"iou_{name}"]), digits=1) for name in MASK_CLASSES]
        scores = [number(row[f"score_{name}"], digits=2) for name in CRITERIA]
        rows.append(Row(cells=(row["clip"], number(_points(row["mean_iou"]), digits=1), *iou, *scores)))
    heads = ("mean", *_SHORT, *(f"C{k + 1} score" for k in range(len(CRITERIA))))
    note = "The 100 with the lowest mean over the classes that they show; segmentation_clips.csv has all."
    return Table(
        title="IoU of each clip, points, and its scores", columns=columns("clip", *heads), rows=rows, note=note
    )


def _points(value: float | None) -> float | None:
    return None if value is None else 100 * value


SECTION = SegmentationSection()
