"""Pictures: missing, in the wrong place, cut short, of another size, black. Every one is decoded in full."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from calot.data.decode import is_turned, read_picture
from calot.data.endoscapes.published import BLACK_KEYFRAMES
from calot.data.endoscapes.reader import METADATA
from calot.data.filenames import IMAGES, stem_of
from calot.data.pictures import decode_picture_bytes
from calot.data.store_build import BLACK_MEAN
from calot.data.verify.finding import Finding, Found, Note
from calot.data.verify.links import names_in
from calot.data.verify.splits import SplitLists
from calot.data.verify.table import LETTERS, LenientTable, TableRow
from calot.errors import CalotError
from calot.identity import hidden_file
from calot.progress import Advance

Size = tuple[int, int]

_AGAIN = "Unpack the archive again: calot data unpack keeps what is whole and writes the rest."
_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """One decoded image: height and width, mean grey level; or why it could not be decoded."""

    size: Size | None = None
    mean: float = 0.0
    turned: bool = False
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class KnownBlack:
    """How many black frames with labels a data set may hold before they are findings, and who says so."""

    at_most: float
    words: str


PUBLISHED_BLACK = KnownBlack(
    at_most=1.1 * BLACK_KEYFRAMES, words=f"the published archive holds about {BLACK_KEYFRAMES} such keyframes"
)


@dataclass(frozen=True, kw_only=True)
class PictureChecks:
    """What the images' checks found, and each decoded image's size by `<video>_<frame>`."""

    sizes: dict[str, Size]
    found: Found


def check_images(
    root: Path,
    *,
    table: LenientTable,
    lists: SplitLists,
    skip: frozenset[str],
    size: Size | None,
    step: int,
    known: KnownBlack | None,
    workers: int,
    advance: Advance,
) -> PictureChecks:
    """Decode every listed image. `skip` are files known to be link texts; `size` is the size needed, or None; `known`
    says how many black frames the data set is known to hold."""
    wanted = {row.stem: row for row in table.rows if row.video in lists.split_of}
    there = {split: pictures_in(root / split) for split in lists.present}
    first = {split: dict(reversed(files)) for split, files in there.items()}
    homes = {stem: lists.split_of[row.video or ""] for stem, row in wanted.items()}
    names = {stem: f"{split}/{first[split].get(stem, f'{stem}.jpg')}" for stem, split in homes.items()}
    absent = {stem: name for stem, name in names.items() if stem not in first[homes[stem]] and name not in skip}
    findings = list(_missing(root, names=names, absent=absent, first=first, step=step))
    findings += _extra(names=names, there=there) if table.rows else ()
    whole = [stem for stem, name in names.items() if name not in skip and stem not in absent]
    pictures = _decode(root, [names[stem] for stem in whole], workers=workers, advance=advance)
    decoded = dict(zip(whole, pictures, strict=True))
    for stem, picture in decoded.items():
        if picture.fault:
            findings.append(Finding(check="decode", file=names[stem], message=picture.fault, remedy=_AGAIN))
    sizes = {stem: picture.size for stem, picture in decoded.items() if picture.size is not None}
    findings += _sizes(sizes, names=names, need=size)
    dark = [wanted[stem] for stem, picture in decoded.items() if picture.size and picture.mean < BLACK_MEAN]
    black = _black(dark, names=names, decoded=decoded, known=known)
    return PictureChecks(
        sizes=sizes,
        found=Found(
            findings=(*findings, *black.findings),
            notes=(*black.notes, *_turned([names[s] for s, picture in decoded.items() if picture.turned])),
            counts=(("images", len(whole)), *black.counts),
        ),
    )


def _turned(names: list[str]) -> tuple[Note, ...]:
    if not names:
        return ()
    message = f"{len(names):,} images ask in their EXIF to be turned, first {names[0]}; they are used as stored"
    return (Note(check="orientation", message=message),)


def pictures_in(folder: Path) -> list[tuple[str, str]]:
    """`<video>_<frame>`, as the table has it, and name of each image of a folder, whatever its ending's capitals; files
    that systems leave there are skipped."""
    return [(stem_of(name), name) for name in names_in(folder, endings=IMAGES) if not hidden_file(name)]


def _missing(
    root: Path, *, names: dict[str, str], absent: dict[str, str], first: dict[str, dict[str, str]], step: int
) -> Iterator[Finding]:
    """One finding per image; one for a whole folder, or the whole data set, where all are missing."""
    total = Counter(name.split("/")[0] for name in names.values())
    lost = Counter(name.split("/")[0] for name in absent.values())
    if names and len(absent) == len(names):
        message = f"none of the {len(names):,} images that {METADATA} lists is there{_other_endings(root, first)}"
        yield Finding(check="missing-images", file=".", message=message, remedy=_AGAIN)
        return
    for split in first:
        if lost[split] and lost[split] == total[split]:
            message = f"none of its {lost[split]:,} images is there"
            yield Finding(check="missing-images", file=f"{split}/", message=message, remedy=_AGAIN)
            continue
        for stem, name in absent.items():
            if name.startswith(f"{split}/"):
                message = f"not there{_shifted(stem, among=first[split], step=step)}"
                yield Finding(check="missing-images", file=name, message=message, remedy=_AGAIN)


def _other_endings(root: Path, splits: Iterable[str]) -> str:
    """Say what else lies where images should: ` (the folders hold 143 .tif)`."""
    found: Counter[str] = Counter()
    for split in splits:
        names = names_in(root / split, endings=("",))
        found.update(os.path.splitext(name)[1].lower() or "without ending" for name in names if not hidden_file(name))
    said = ", ".join(f"{count:,} {ending}" for ending, count in found.most_common(3) if ending not in IMAGES)
    return f" (the folders hold {said}, which are not read; {', '.join(IMAGES)} are)" if said else ""


def _shifted(stem: str, *, among: dict[str, str], step: int) -> str:
    """Distinguish a folder whose numbers are off by one (0-based against 1-based) from one with gaps."""
    video, _, frame = stem.rpartition("_")
    for other in (int(frame) - 1, int(frame) + 1, int(frame) // step, int(frame) // step + 1):
        if beside := among.get(f"{video}_{other}"):
            return f", but {beside} is: are frames numbered another way (0-based, 1-based, by second)?"
    return ""


def _extra(*, names: dict[str, str], there: dict[str, list[tuple[str, str]]]) -> Iterator[Finding]:
    for split, files in there.items():
        for stem, file in files:
            home = names.get(stem)
            if home == f"{split}/{file}":
                continue
            if home is not None and home.startswith(f"{split}/"):
                message, remedy = f"is of the same frame as {home}", "Keep one of them."
            elif home is not None:
                message, remedy = f"belongs in {home}, by the lists of videos", "Move it: a video belongs to one split."
            else:
                message, remedy = f"no row of {METADATA} is about it", "Take it out, or unpack again."
            yield Finding(check="extra-images", file=f"{split}/{file}", message=message, remedy=remedy)


def _decode(root: Path, names: list[str], *, workers: int, advance: Advance) -> list[DecodedImage]:
    pictures: list[DecodedImage] = []
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        for start in range(0, len(names), _BATCH):
            pictures += pool.map(_picture, [root / name for name in names[start : start + _BATCH]])
            advance(len(pictures), len(names))
    return pictures


def _picture(path: Path) -> DecodedImage:
    try:
        data = read_picture(path)
        image = decode_picture_bytes(data, path=path)
    except CalotError as error:
        return DecodedImage(fault=str(error).removeprefix(f"{path}: ").partition(". Unpack")[0])
    return DecodedImage(size=(image.shape[0], image.shape[1]), mean=float(image.mean()), turned=is_turned(data))


def _sizes(sizes: dict[str, Size], *, names: dict[str, str], need: Size | None) -> Iterator[Finding]:
    if need is None and sizes:
        need = Counter(sizes.values()).most_common(1)[0][0]
    for stem, size in sizes.items():
        if need is not None and size != need:
            message = f"{size[0]} x {size[1]} pixels; need {need[0]} x {need[1]} (height x width)"
            yield Finding(check="sizes", file=names[stem], message=message, remedy=_AGAIN)


def _black(
    dark: list[TableRow], *, names: dict[str, str], decoded: dict[str, DecodedImage], known: KnownBlack | None
) -> Found:
    """Black frames, and how many of them carry raters' labels: a note where the data set is known to hold as many."""
    labelled = [row for row in dark if row.keyframe]
    counts = (("black", len(dark)), ("black keyframes", len(labelled)))
    if known is not None and len(labelled) <= known.at_most:
        message = f"black frames: {len(dark):,}, keyframes with labels among them: {len(labelled):,}; {known.words}"
        return Found(notes=(Note(check="black", message=message),) if dark else (), counts=counts)
    findings = []
    for row in dark:
        label = ", ".join(f"{c} {v:g}" for c, v in zip(LETTERS, row.values, strict=True) if v is not None)
        kind = f"a keyframe that carries labels ({label})" if row.keyframe else "no keyframe"
        message = f"black (mean grey level {decoded[row.stem].mean:.1f} of 255), {kind}"
        remedy = "Nothing replaces a black frame: unpack again, or leave the row out if the camera was dark."
        findings.append(Finding(check="black", file=names[row.stem], message=message, remedy=remedy))
    return Found(findings=tuple(findings), counts=counts)
