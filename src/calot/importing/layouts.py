"""The layouts in which other groups publish predictions, each after the code that writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from calot.data.cells import read_cells
from calot.data.filenames import frame_of
from calot.data.manifest import Manifest
from calot.errors import CalotError, nearest_name
from calot.identity import video_id, whole_number
from calot.importing.their_table import (
    Asked,
    Place,
    PredictionLayout,
    TheirTable,
    begins_with,
    numbers_of,
    opened_json,
    stated_map,
    votes_of_rows,
)
from calot.reading import read_text
from calot.statistics.predictions import load_predictions

_LETTERS = ("1", "2", "3")
#: Of each table that a fork writes: the video's column, labels, probabilities.
_SWINCVS_CSV = (
    ("vid", tuple(f"C{n}" for n in _LETTERS), tuple(f"Conf_C{n}" for n in _LETTERS)),
    ("video_id", tuple(f"c{n}_label" for n in _LETTERS), tuple(f"c{n}_pred" for n in _LETTERS)),
)


class SwinCvs(PredictionLayout):
    """`results/<experiment>_results.json`: an entry per epoch and one of testing, rows in the loader's order without
    ids; or a fork's table: `vid, frame, Conf_C1 ...` (inference.py), `video_id, frame, c1_pred ...` (infer_test.py)."""

    has_entries: ClassVar[bool] = True
    name: ClassVar[str] = "swincvs"
    source: ClassVar[str] = (
        "SwinCVS.py, scripts/f_dataset.py (forks dlmanrique, supremekhadka, BurntSouffle); own repository unseen"
    )

    def recognises(self, path: Path) -> bool:
        return any(begins_with(path, word) for word in ('"preds_prob"', *(form[2][0] for form in _SWINCVS_CSV)))

    def read(self, path: Path, *, asked: Asked) -> TheirTable:
        if path.suffix.lower() == ".csv":
            return _swincvs_csv(path)
        entries = opened_json(path)
        if not isinstance(entries, dict) or not all(
            isinstance(e, dict) and "preds_prob" in e for e in entries.values()
        ):
            raise CalotError(f"{path}: not SwinCVS's results: each entry has preds_prob and true")
        maps = {
            name: stated_map(e["avg_map"], where=f"{path}, {name}: avg_map")
            for name, e in entries.items()
            if e.get("avg_map") is not None
        }
        tests = [name for name in entries if name.startswith("Testing")]
        best = tests[-1] if tests else max(entries, key=lambda name: maps.get(name, -1.0), default=None)
        entry = asked.entry or best
        if entry not in entries:
            raise CalotError(f"{path}: no entry {entry!r}.{nearest_name(str(entry), among=entries)}")
        one, where = entries[entry], f"{path}, {entry}"
        epochs = {name: value for name, value in maps.items() if not name.startswith("Testing")}
        chosen = f"the best of {len(epochs)} epochs on these same frames" if entry in epochs else "epoch chosen on val"
        return TheirTable(
            scores=numbers_of(one["preds_prob"], where=f"{where}: preds_prob"),
            labels=votes_of_rows(one.get("true", []), where=f"{where}: true"),
            printed=maps.get(str(entry)),
            entry=str(entry),
            selection=chosen,
            others=epochs if entry in epochs else {},
        )

    def order(self, manifest: Manifest, *, root: Path) -> list[Place]:
        """The loader sorts videos and frames as text, and leaves out keyframes among the first four frames of a video
        and its last frame (`range(len - 5)`)."""
        table = manifest.table.select("video", "frame", "keyframe")
        places = []
        for video in sorted(table["video"].unique().to_list()):
            rows = table.filter(table["video"] == video).select("frame", "keyframe").rows()
            rows.sort(key=lambda row: str(row[0]))
            places += [(video, frame) for place, (frame, key) in enumerate(rows) if key and 4 <= place < len(rows) - 1]
        return places


def _swincvs_csv(path: Path) -> TheirTable:
    forms = (form for form in _SWINCVS_CSV if begins_with(path, form[2][0]))
    video, labels, probabilities = next(forms, _SWINCVS_CSV[0])
    rows = read_cells(
        path, needed=(video, "frame", *labels, *probabilities), remedy="docs/import.md has the columns of each layout."
    )
    named = enumerate(rows.select(video, "frame").rows(), 2)
    return TheirTable(
        scores=_cells(rows, probabilities, path=path),
        labels=votes_of_rows(_cells(rows, labels, path=path).tolist(), where=str(path)),
        places=[_place(v, f, where=f"{path}, line {n}") for n, (v, f) in named],
    )


class PercEva(PredictionLayout):
    """`<split>_predictions.json`: a list with `video_name`, `key_frame_id` (or `frame_id`), `probs`, `label`."""

    has_entries: ClassVar[bool] = True
    name: ClassVar[str] = "perceva"
    source: ClassVar[str] = "inference_temporal.py and evaluate.py of BCV-Uniandes/PercEVA-CVS"

    def recognises(self, path: Path) -> bool:
        return begins_with(path, '"video_name"') and begins_with(path, '"probs"')

    def read(self, path: Path, *, asked: Asked) -> TheirTable:
        rows = opened_json(path)
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise CalotError(f"{path}: not PercEVA's predictions: a list of objects, one per frame")
        splits = list(dict.fromkeys(str(row.get("split")) for row in rows))
        split = asked.entry or splits[0]
        if len(splits) > 1 and asked.entry is None:
            raise CalotError(f"{path}: holds splits {', '.join(splits)}; say which with --entry")
        rows = [row for row in rows if str(row.get("split")) == split]
        if not rows:
            raise CalotError(f"{path}: no row of split {split!r}.{nearest_name(split, among=splits)}")
        places = [
            _place(row.get("video_name"), row.get("key_frame_id", row.get("frame_id")), where=f"{path}, row {number}")
            for number, row in enumerate(rows, 1)
        ]
        return TheirTable(
            scores=numbers_of([row.get("probs") for row in rows], where=f"{path}: probs"),
            labels=votes_of_rows([row.get("label") for row in rows], where=f"{path}: label"),
            places=places,
            entry=split,
        )


class LgCvs(PredictionLayout):
    """A folder with `pred_ds.txt` (and `gt_ds.txt`), rows in the order of `<split>/annotation_ds_coco.json`."""

    name: ClassVar[str] = "lgcvs"
    source: ClassVar[str] = "evaluator/CocoMetricRGD.py and CVSMetric.py of CAMMA-public/SurgLatentGraph"

    def recognises(self, path: Path) -> bool:
        return (path / "pred_ds.txt").is_file() or path.name == "pred_ds.txt"

    def read(self, path: Path, *, asked: Asked) -> TheirTable:
        folder = path if path.is_dir() else path.parent
        scores = _text_numbers(folder / "pred_ds.txt")
        truth = folder / "gt_ds.txt"
        labels = np.round(_text_numbers(truth)).astype(np.int8) if truth.is_file() else None
        if labels is not None and len(labels) != len(scores):
            raise CalotError(f"{truth}: {len(labels)} rows, and {len(scores)} in pred_ds.txt. They belong together.")
        return TheirTable(scores=scores, labels=labels)

    def order(self, manifest: Manifest, *, root: Path) -> list[Place]:
        path = root / manifest.splits[0] / "annotation_ds_coco.json"
        listed = opened_json(path)
        images = listed.get("images") if isinstance(listed, dict) else None
        places = [frame_of(str(image.get("file_name"))) for image in images or () if isinstance(image, dict)]
        if not places or None in places:
            raise CalotError(f"{path}: lists no images by <video>_<frame>. It tells the order of this layout's rows.")
        return [place for place in places if place is not None]


class SagesSubmission(PredictionLayout):
    """2025: `{"images": [{"file_name", "pred_ds_prob"}]}`. 2024: `{"overall_outputs": 90 x 3}` one file per video."""

    name: ClassVar[str] = "sages"
    source: ClassVar[str] = (
        "2024: inference.py of SAIIL/CVS_challenge_code; 2025: a participant's test.py and eval_subchallengeAB.py "
        "(mojoe12/cvs); no CSV of submissions was found in public code"
    )
    _second: ClassVar[int] = 30  # frame numbers from one output to the next

    def recognises(self, path: Path) -> bool:
        return begins_with(path, '"pred_ds_prob"') or any(
            begins_with(f, '"overall_outputs"') for f in _json_files(path)
        )

    def read(self, path: Path, *, asked: Asked) -> TheirTable:
        if begins_with(path, '"pred_ds_prob"'):
            images = opened_json(path).get("images")
            places = []
            for number, image in enumerate(images, 1):
                found = frame_of(str(image.get("file_name")))
                if found is None:
                    raise CalotError(
                        f"{path}, image {number}: file_name {image.get('file_name')!r} is no <video>_<frame>"
                    )
                places.append(found)
            return TheirTable(
                scores=numbers_of([i.get("pred_ds_prob") for i in images], where=str(path)), places=places
            )
        rows: list[Any] = []
        places = []
        for file in _json_files(path):
            outputs = opened_json(file).get("overall_outputs")
            video = file.parent.name if file.stem == "cvs-criteria" else file.stem
            rows += list(numbers_of(outputs or [], where=str(file)).tolist())
            places += [_place(video, self._second * second, where=str(file)) for second in range(len(outputs or []))]
        if not rows:
            raise CalotError(f"{path}: no file with overall_outputs. Give a folder of <video>.json.")
        return TheirTable(scores=numbers_of(rows, where=str(path)), places=places)


class Plain(PredictionLayout):
    """Any table that `calot metrics` reads: video, frame, logit_ or prob_<criterion>, labels or none."""

    name: ClassVar[str] = "plain"
    source: ClassVar[str] = "docs/statistics.md"
    by_letter: ClassVar[bool] = False

    def recognises(self, path: Path) -> bool:
        return path.suffix.lower() in (".csv", ".tsv", ".xlsx", ".parquet")

    def read(self, path: Path, *, asked: Asked) -> TheirTable:
        table = load_predictions(path)
        return TheirTable(
            scores=table.logits.astype(np.float64),
            labels=table.labels if table.labelled else None,
            places=list(zip(table.videos.tolist(), table.frames.tolist(), strict=True)),
            logits=True,
            notes=table.notes,
        )


LAYOUTS: tuple[PredictionLayout, ...] = (SwinCvs(), PercEva(), LgCvs(), SagesSubmission(), Plain())


def layout_of(path: Path, *, name: str | None) -> PredictionLayout:
    """The layout named, or the first that recognises a file. Raises CalotError where there is none."""
    if not path.exists():
        raise CalotError(f"{path}: no such file. Give another group's predictions.")
    known = [layout.name for layout in LAYOUTS]
    for layout in LAYOUTS:
        if layout.name == name or (name is None and layout.recognises(path)):
            return layout
    if name is not None:
        raise CalotError(f"--layout {name}: not one of {', '.join(known)}.{nearest_name(name, among=known)}")
    raise CalotError(f"{path}: of no layout that calot knows by itself. Say which: --layout {' | '.join(known)}")


def _json_files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.json")) if path.is_dir() else [path] if path.suffix.lower() == ".json" else []


def _place(video: Any, frame: Any, *, where: str) -> Place:
    """An id and a frame number as any program writes them; `video_0701` and `video07` are ids of their own."""
    number = whole_number(str(frame)) if not isinstance(frame, bool) and frame is not None else None
    if number is None:
        raise CalotError(f"{where}: frame is {frame!r}; need a whole number from 0")
    try:
        return video_id(str(video if video is not None else "")), number
    except ValueError as error:
        raise CalotError(f"{where}: video {error}") from None


def _cells(rows: Any, names: tuple[str, ...], *, path: Path) -> np.ndarray:
    from calot.data.cells import decimals

    columns = [decimals(rows, name, path=path) for name in names]
    for name, column in zip(names, columns, strict=True):
        if column.null_count():
            line = int(column.is_null().arg_max() or 0) + 2
            raise CalotError(f"{path}, line {line}: {name} is empty; need a number in each row")
    return np.stack([column.to_numpy() for column in columns], axis=1)


def _text_numbers(path: Path) -> np.ndarray:
    """Three numbers per line, as numpy.savetxt writes them."""
    try:
        lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
        rows = [[float(cell) for cell in line] for line in lines if not re.match(r"\s*#", line[0])]
    except (OSError, ValueError) as error:
        raise CalotError(f"{path}: not three numbers per line ({error}). Give the file as it was written.") from error
    if not rows:
        raise CalotError(f"{path}: no rows. Give the file as it was written.")
    return numbers_of(rows, where=str(path))
