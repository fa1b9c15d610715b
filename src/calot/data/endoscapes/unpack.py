"""Unpack the Endoscapes archive: the right file, safe paths, real files for links; continues where it stopped."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calot.data.endoscapes.archive import MOST_ENTRIES, Member, members, require_sane_sizes
from calot.data.endoscapes.linktext import LONGEST_TEXT, link_target
from calot.data.endoscapes.published import ARCHIVE_SHA256, TERMS
from calot.errors import CalotError, first_line
from calot.progress import Ui
from calot.reading import plain_size, read_plain
from calot.writing import whole_file

_BLOCK = 1 << 20
_TAIL = 1 << 17  # a zip's end record, its comment and the record of large archives before it
_LARGEST_ENTRY = 512  # bytes of one file in the list: its name and what programs add
_LARGEST_ARCHIVE = 1 << 46
_PART = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part")
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """What unpacking left: files written now, existing files that were right, links made files."""

    files: int
    written: int
    kept: int
    links: int
    bytes: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def unpack(
    archive: Path,
    root: Path,
    *,
    sha256: str | None = ARCHIVE_SHA256,
    ui: Ui | None = None,
) -> Unpacked:
    """Unpack `archive` into `root`, keeping files that are there and right; `sha256=None` takes any version.

    Every file is written whole, so after a kill the same call continues. Raises CalotError before it writes anything
    where the archive is not the one asked for, cut short, or holds a name that leads out of `root`.
    """
    ui = ui or Ui()
    with _opened(archive) as file, _clear_errors(archive, root=root):
        found = _digest(archive, ui=ui)
        if sha256 is not None and found != sha256.strip().lower():
            raise CalotError(
                f"{archive}: SHA-256 is {found}, need {sha256.strip().lower()}. Download it again; if it is another "
                f"version that you trust, give --sha256 {found}, or --any-version."
            )
        parts = members(file, name=str(archive))
        require_sane_sizes(parts, archive_bytes=archive.stat().st_size, name=str(archive))
        _require_plain_folders(root, parts)
        _remove_parts(root, parts)
        kept = _whole(root, parts, ui=ui)
        left = [part for part in parts if part.path not in kept]
        _require_space(root, needed=sum(part.info.file_size for part in left))
        _write(root, left, file=file, archive=archive, ui=ui)
    return Unpacked(
        files=len(parts),
        written=len(left),
        kept=len(kept),
        links=sum(part.link for part in parts),
        bytes=sum(part.info.file_size for part in parts),
        sha256=found,
    )


@contextmanager
def _clear_errors(archive: Path, *, root: Path, entry: str = "") -> Iterator[None]:
    """Turn what a damaged zip or the disk raises into one message that names the file."""
    where = f"{archive}, {entry}" if entry else str(archive)
    try:
        yield
    except _DAMAGED as error:
        raise CalotError(f"{where}: damaged ({first_line(error)}). Download the archive again.") from error
    except OSError as error:
        raise CalotError(f"{root}: cannot be read or written ({first_line(error)}). Choose another folder.") from error


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        plain_size(archive, largest=_LARGEST_ARCHIVE)
    except FileNotFoundError:
        raise CalotError(f"{archive}: no such file. {TERMS}") from None
    except OSError as error:
        raise CalotError(f"{archive}: cannot be read ({error.strerror}). Give the archive's file.") from error
    try:
        _require_few_entries(archive)
        return zipfile.ZipFile(archive)
    except (*_DAMAGED, OSError) as error:
        size = archive.stat().st_size
        raise CalotError(
            f"{archive}: not a whole zip archive ({size:,} bytes; {first_line(error)}). It was cut short, or is "
            "something else: download it again."
        ) from error


def _require_few_entries(archive: Path) -> None:
    """Check the size of the archive's list before all of it is read: each entry takes at least 46 bytes."""
    with archive.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) < place + 22:
        return  # not a zip, or a truncated one: zipfile says so
    listed = int.from_bytes(tail[place + 12 : place + 16], "little")
    larger = tail.rfind(b"PK\x06\x06", 0, place)
    if larger >= 0 and len(tail) >= larger + 48:
        listed = max(listed if listed < 2**32 - 1 else 0, int.from_bytes(tail[larger + 40 : larger + 48], "little"))
    if listed > MOST_ENTRIES * _LARGEST_ENTRY:
        raise CalotError(
            f"{archive}: its list of files takes {listed:,} bytes, more than {MOST_ENTRIES:,} files need. Download it "
            "again."
        )


def _digest(archive: Path, *, ui: Ui) -> str:
    digest, total = hashlib.sha256(), archive.stat().st_size
    with archive.open("rb") as file, ui.task("sha256, MB") as advance:
        while block := file.read(_BLOCK):
            digest.update(block)
            advance(file.tell() // 1_000_000, total // 1_000_000)
    return digest.hexdigest()


def _require_plain_folders(root: Path, parts: list[Member]) -> None:
    """Refuse to write through a link, which an earlier unzip may have left and which may lead anywhere."""
    if root.exists() and not root.is_dir():
        raise CalotError(f"{root}: a file stands there, and the archive needs a folder. Give another one.")
    for folder in sorted({parent for part in parts for parent in Path(part.path).parents}):
        path = root / folder
        if folder != Path() and path.is_symlink():
            raise CalotError(
                f"{path}: a link stands where a folder must be. Remove it, then run the same command again."
            )
        if path.is_file() and _is_folder_text(path, root=root):
            path.unlink()
        if path.exists() and not path.is_dir():
            raise CalotError(
                f"{path}: a file stands where a folder must be. Remove it, then run the same command again."
            )
    for part in parts:
        path = root / part.path
        if path.is_dir() and not path.is_symlink():
            raise CalotError(
                f"{path}: a folder stands where a file must be. Remove it, then run the same command again."
            )


def _is_folder_text(path: Path, *, root: Path) -> bool:
    """Whether a file is what another program made of a link to a folder: the text of its path."""
    if path == root or path.stat().st_size > LONGEST_TEXT:
        return False
    target = link_target(read_plain(path, largest=LONGEST_TEXT), name=path.relative_to(root).as_posix())
    return target is not None and (root / target).is_dir()


def _remove_parts(root: Path, parts: list[Member]) -> None:
    """Remove half-written files that a kill left."""
    names = {part.path for part in parts}
    for folder in {(root / part.path).parent for part in parts}:
        for path in folder.glob(".*.part") if folder.is_dir() else ():
            match = _PART.fullmatch(path.name)
            if match and path.with_name(match[1]).relative_to(root).as_posix() in names:
                path.unlink(missing_ok=True)


def _whole(root: Path, parts: list[Member], *, ui: Ui) -> set[str]:
    """Paths that already exist with the right size and checksum."""
    kept = set()
    with ui.task("files already there") as advance:
        for done, part in enumerate(parts, start=1):
            path = root / part.path
            sized = path.is_file() and not path.is_symlink() and path.stat().st_size == part.info.file_size
            if sized and _crc(path) == part.info.CRC:
                kept.add(part.path)
            advance(done, len(parts))
    return kept


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


def _require_space(root: Path, *, needed: int) -> None:
    place = root.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise CalotError(
            f"{root}: {needed / 1e9:.2f} GB are still to be written, {free / 1e9:.2f} GB are free. Free some, or give "
            f"another folder."
        )


def _write(root: Path, parts: list[Member], *, file: zipfile.ZipFile, archive: Path, ui: Ui) -> None:
    with ui.task("files unpacked") as advance:
        for done, part in enumerate(parts, start=1):
            with _clear_errors(archive, root=root, entry=part.info.filename), whole_file(root / part.path) as half:
                with file.open(part.info) as source, half.open("wb") as target:
                    shutil.copyfileobj(source, target, _BLOCK)
                if half.stat().st_size != part.info.file_size:
                    raise zipfile.BadZipFile(f"{half.stat().st_size} bytes, need {part.info.file_size}")
            advance(done, len(parts))
