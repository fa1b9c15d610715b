"""`calot data adopt`: a user's own folder or table as a clean view that calot reads, each assumption reported.

The source is not changed: images and videos are linked, tables are rewritten, and `adopted.json` records what was
assumed. What the files do not show is asked for, never guessed.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from calot.criteria import CRITERIA
from calot.data.declared import DECLARED, Declared
from calot.data.endoscapes.reader import ANNOTATORS, MASKS, METADATA, NEEDED
from calot.data.filenames import IMAGES, frame_of
from calot.data.numbering import found_step
from calot.data.readers import open_folder
from calot.data.table import FRAMES, LABELS, VIDEOS
from calot.data.understood import Understood
from calot.errors import CalotError, nearest_name
from calot.identity import SPLITS, hidden_file, ids_in_words, split_name, video_ids, whole_number
from calot.reading import LARGEST_TABLE, read_plain
from calot.statistics.predictions import load_predictions
from calot.statistics.table_files import WantedColumns, read_table_file
from calot.writing import clear_disk_errors, write_json, write_text

RECORD = "adopted.json"

Row = dict[str, str]

#: Other names of columns, in lower case -> ours. Never of criteria by letter in a plain table: data sets differ there.
_NAMES = {"video": "vid", "video_id": "vid", "frame_id": "frame", "frame_number": "frame", "keyframe": "is_ds_keyframe"}
_PLAIN = {"vid": "video", "video_id": "video", "frame_id": "frame", "seconds": "time", "time_s": "time", "set": "split"}
_YES, _NO = {"true", "1", "1.0", "yes", "y"}, {"false", "0", "0.0", "no", "n"}


@dataclass(kw_only=True)
class Adopted:
    """Where the clean view is, what was assumed to make it, and how calot understands it."""

    source: str
    out: str
    assumed: list[str] = field(default_factory=list)
    understood: str = ""

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def adopt(source: Path, out: Path, *, frames_per_second: float | None = None) -> Adopted:
    """Write a clean view of a folder or a table of predictions into `out`, whole or not at all.

    Raises CalotError where the files do not say enough, naming what to give.
    """
    made = Adopted(source=str(source), out=str(out))
    with _new_folder(out, source=source) as part:
        if source.is_file():
            _adopt_predictions(source, part, made)
        elif source.is_dir():
            table = _table_of(source)
            if table.name.lower() == METADATA:
                _adopt_layout(source, table, part, made, frames_per_second=frames_per_second)
            else:
                _adopt_plain(source, table, part, made, frames_per_second=frames_per_second)
            made.understood = str(Understood.of(open_folder(part)))
        else:
            raise CalotError(f"{source}: no such folder or table. Give one.")
        write_json(part / RECORD, made.to_dict())
    return made


@contextmanager
def _new_folder(out: Path, *, source: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place once it is complete."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CalotError(f"{out}: exists. Give a folder that is not there, or is empty.")
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise CalotError(f"{out}: lies inside {source}, which stays as it is. Give a folder beside it.")
    part = out.resolve().with_name(f".{out.name}.part") / out.name  # its own name, which an unnamed data set takes
    shutil.rmtree(part.parent, ignore_errors=True)
    try:
        with clear_disk_errors(out):
            part.mkdir(parents=True)
            yield part
            out.parent.mkdir(parents=True, exist_ok=True)
            if out.exists():
                out.rmdir()
            os.replace(part, out)
    finally:
        shutil.rmtree(part.parent, ignore_errors=True)


def _table_of(source: Path) -> Path:
    files = [path for path in sorted(source.iterdir()) if path.is_file() and not hidden_file(path.name)]
    for wanted in (METADATA, LABELS):
        found = [path for path in files if path.name.lower() == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise CalotError(f"{source}: {found[0].name} and {found[1].name} are both {wanted}. Keep one of them.")
    there = ", ".join(path.name for path in files[:10]) or "no file"
    raise CalotError(
        f"{source}: needs {METADATA} (the Endoscapes layout) or {LABELS} (a plain table); has {there}. Rename one."
    )


def _cells(table: Path, part: Path, made: Adopted, *, ours: tuple[str, ...], other: dict[str, str]) -> list[Row]:
    """The table's rows under our names, whatever separates its columns and marks its decimals."""
    raw = read_plain(table, largest=LARGEST_TABLE)
    copy = part / "table.csv"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        if not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raw = _western(raw, table=table)
            made.assumed.append(f"{table.name}: text in Windows' western code page (cp1252)")
    if b"\r" in raw and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        made.assumed.append(f"{table.name}: line ends of Windows or an old Mac")
    copy.write_bytes(raw)
    header = _header(raw)
    known = {name.lower(): name for name in ours} | other
    theirs = {name: known[name.lower()] for name in header if name not in ours and name.lower() in known}
    made.assumed += [f'{table.name}: column "{name}" is {own}' for name, own in theirs.items()]
    numeric = frozenset(ours) - {"vid", "video", "split", "is_ds_keyframe", *ANNOTATORS}
    wanted = WantedColumns(names=ours, numeric=numeric, whole=frozenset({"frame"}), theirs=theirs)
    file = read_table_file(copy, wanted=wanted)
    copy.unlink()
    made.assumed += [f"{table.name}: {note}" for note in file.notes]
    if unread := [name for name in file.others if name]:
        made.assumed.append(f"{table.name}: columns that nothing reads are left out: {', '.join(unread)}")
    return [{name: cell or "" for name, cell in row.items()} for row in file.frame.iter_rows(named=True)]


def _western(raw: bytes, *, table: Path) -> bytes:
    try:
        return raw.decode("cp1252").encode()
    except UnicodeDecodeError as error:
        raise CalotError(f"{table}: byte {error.start} is not text in a known encoding. Save it as UTF-8.") from error


def _header(raw: bytes) -> list[str]:
    encoding = "utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    line = raw.decode(encoding).split("\n", 1)[0].rstrip("\r")
    mark = max(",;\t|", key=line.count)
    return [name.strip().strip('"') for name in line.split(mark)]


def _adopt_layout(source: Path, table: Path, part: Path, made: Adopted, *, frames_per_second: float | None) -> None:
    rows = _cells(table, part, made, ours=NEEDED, other=_NAMES)
    _require(rows, NEEDED, table=table)
    for name in ("vid", "frame"):
        _normalise(rows, name, table=table, made=made)
    for line, row in enumerate(rows, start=2):
        word = row["is_ds_keyframe"].lower()
        if word not in _YES | _NO:
            raise CalotError(f'{table}, line {line}: is_ds_keyframe is "{row["is_ds_keyframe"]}"; need True or False.')
        row["is_ds_keyframe"] = str(word in _YES)
    _write_rows(part / METADATA, rows, NEEDED)
    split_of: dict[str, str] = {}
    for split in SPLITS:
        for path in (p for p in sorted(source.iterdir()) if p.name.lower() == f"{split}_vids.txt"):
            lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
            videos = video_ids(lines, where=partial(_listed_at, path=path))
            write_text(part / f"{split}_vids.txt", "".join(f"{video}\n" for video in videos))
            split_of |= dict.fromkeys(videos, split)
    if not split_of:
        raise CalotError(
            f"{source}: no train_vids.txt, val_vids.txt or test_vids.txt. Write one video per line in them."
        )
    _declare(source, part, made, rows=[(row["vid"], int(row["frame"])) for row in rows], given=frames_per_second)
    frames = {(row["vid"], int(row["frame"])) for row in rows}
    _link_frames(source, part, made, frames=frames, split_of=split_of)


def _adopt_plain(source: Path, table: Path, part: Path, made: Adopted, *, frames_per_second: float | None) -> None:
    ours = ("video", "split", "time", "frame", *CRITERIA)
    rows = _cells(table, part, made, ours=ours, other=_PLAIN)
    _require(rows, ("video",), table=table)
    _normalise(rows, "video", table=table, made=made)
    for line, row in enumerate(rows, start=2):
        if row.get("split"):
            try:
                row["split"] = split_name(row["split"])
            except ValueError as error:
                raise CalotError(f"{table}, line {line}: {error}") from None
    _write_rows(part / LABELS, rows, tuple(name for name in ours if rows and name in rows[0]))
    for name in (VIDEOS, FRAMES, "splits.csv"):
        for path in (p for p in source.iterdir() if p.name.lower() == name):
            _link(path, part / name)
    known = {"frames_per_second": frames_per_second} if frames_per_second is not None else {}
    if frames_per_second is not None:
        made.assumed.append(f"frames are numbered {frames_per_second:g} per second, as given")
    _write_declared(source, part, known)


def _require(rows: list[Row], needed: Iterable[str], *, table: Path) -> None:
    if not rows:
        raise CalotError(f"{table}: no row below the header. Give a table with rows.")
    for name in needed:
        if name not in rows[0]:
            raise CalotError(f'{table}: column "{name}" is missing.{nearest_name(name, among=rows[0])} Rename it.')


def _normalise(rows: list[Row], name: str, *, table: Path, made: Adopted) -> None:
    """Ids and frame numbers by the one rule for them; how many were written another way is reported."""
    if name == "frame":
        found = [whole_number(row[name]) for row in rows]
        if None in found:
            line = found.index(None) + 2
            raise CalotError(f'{table}, line {line}: frame is "{rows[line - 2][name]}"; need a whole number.')
        new = [str(number) for number in found]
    else:
        new = video_ids([row[name] for row in rows], where=lambda row: f"{table}, line {row + 2}")
    changed = sum(row[name] != value for row, value in zip(rows, new, strict=True))
    if changed:
        example = next((row[name], value) for row, value in zip(rows, new, strict=True) if row[name] != value)
        made.assumed.append(
            f'{table.name}: {changed:,} cells of {name} are written plainly ("{example[0]}" is {example[1]})'
        )
    for row, value in zip(rows, new, strict=True):
        row[name] = value


def _declare(source: Path, part: Path, made: Adopted, *, rows: list[tuple[str, int]], given: float | None) -> None:
    """How frames are numbered: already declared, given, the layout's own, or one per second where they rise by one."""
    declared = Declared.of(source)
    step = found_step([video for video, _ in rows], np.array([frame for _, frame in rows], dtype=np.int64))
    rate = given or declared.frames_per_second
    if rate is not None:
        made.assumed.append(f"frames are numbered {rate:g} per second, as {'given' if given else 'declared'}")
    elif step == 1:
        rate = 1.0
        made.assumed.append("frame numbers rise by 1: one frame per second (--frames-per-second says otherwise)")
    known = {} if rate is None else {"frames_per_second": rate}
    _write_declared(source, part, known)
    if rate is None and step is not None:
        try:
            open_folder(part)
        except CalotError as error:
            raise CalotError(
                f"{source}: frame numbers rise by {step}, and nothing says how many pass in a second. Give "
                f"--frames-per-second ({step} for one frame per second)."
            ) from error


def _write_declared(source: Path, part: Path, known: dict[str, float]) -> None:
    old = {name: value for name, value in asdict(Declared.of(source)).items() if value is not None}
    name = old.get("name") or Declared().dataset(source)
    write_json(part / DECLARED, {"name": name, **old, **known} if "(" not in str(name) else {**old, **known})


def _link_frames(
    source: Path, part: Path, made: Adopted, *, frames: set[tuple[str, int]], split_of: dict[str, str]
) -> None:
    """Images into their videos' splits, masks into `semseg/`, by the video and frame their names say."""
    linked: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    for path in _files_below(source):
        frame, ending = frame_of(path.name), path.suffix.lower()
        is_mask = path.parent.name.lower() == MASKS
        readable = ending == ".png" if is_mask else ending in IMAGES and not _of_masks(path.parent, below=source)
        if hidden_file(path.name) or not readable or frame is None or frame not in frames or frame[0] not in split_of:
            passed["hidden" if hidden_file(path.name) else f"{path.parent.name}/*{path.suffix}"] += 1
            continue
        target = part / (MASKS if is_mask else split_of[frame[0]]) / f"{frame[0]}_{frame[1]}{ending}"
        if target.is_symlink() or target.exists():
            raise CalotError(f"{path}: another file is {target.name} already. Keep one of them.")
        target.parent.mkdir(exist_ok=True)
        _link(path, target)
        linked[f"{'masks' if is_mask else 'images'} ending in {path.suffix}"] += 1
    made.assumed += [f"{count:,} {what}, linked" for what, count in linked.items()]
    made.assumed += [f"{count:,} files passed over: {kind}" for kind, count in passed.items()]


def _files_below(source: Path) -> Iterator[Path]:
    """Files in the folders of a folder, not its own; none of hidden folders."""
    for place, folders, names in os.walk(source):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        if Path(place) != source:
            yield from (Path(place, name) for name in sorted(names))


def _of_masks(folder: Path, *, below: Path) -> bool:
    """Whether a folder's pictures are drawings of structures, not frames, by the folders' names."""
    parts = [part.lower() for part in folder.relative_to(below).parts]
    return any("mask" in part or part in ("semseg", "insseg", "semantic") for part in parts)


def _link(path: Path, target: Path) -> None:
    """A link, or a copy where the system makes none (Windows without the right to)."""
    try:
        target.symlink_to(path.resolve())
    except OSError:
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, target)


def _write_rows(path: Path, rows: list[Row], names: tuple[str, ...]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _adopt_predictions(source: Path, part: Path, made: Adopted) -> None:
    predictions = load_predictions(source)
    made.assumed += list(predictions.notes)
    frame, scores = predictions.frame, predictions.logits
    columns = [name for name in frame.columns if frame[name].null_count() < len(frame)]
    (part / "predictions.csv").write_bytes(frame.select(columns).write_csv().encode())
    videos = ids_in_words(predictions.videos.tolist())
    made.understood = f"{videos}; {len(frame):,} frames; scores from {scores.min():.4g} to {scores.max():.4g} as logits"


def _listed_at(row: int, *, path: Path) -> str:
    return f"{path}, video {row + 1}"
