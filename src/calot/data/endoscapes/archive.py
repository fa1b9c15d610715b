"""A zip archive's entries as plain files below one folder: names checked, links followed, the top folder gone."""

from __future__ import annotations

import posixpath
import re
import stat
import unicodedata
import zipfile
from dataclasses import dataclass

from calot.data.endoscapes.linktext import LONGEST_TEXT, link_target
from calot.data.endoscapes.reader import METADATA
from calot.errors import CalotError

_HOPS = 16
#: The published archive holds about 130,000 entries and, being JPEGs, hardly more bytes than it has.
MOST_ENTRIES, MOST_TIMES = 1_000_000, 20
_SMALL = 64 << 20  # bytes that an archive may unpack to however small it is: tables of zeros compress well
#: Names that Windows gives to devices, whatever ending follows.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))}
_GET = "Get the archive from its publisher."
_BAD = re.compile(r'[\x00-\x1f:*?"<>|\\]')


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file to be: where, from which entry its bytes come, and whether a link stood there."""

    path: str
    info: zipfile.ZipInfo
    link: bool


def members(file: zipfile.ZipFile, *, name: str) -> list[Member]:
    """Every file of the archive `name`, links replaced by what they point at; refuses names that are not safe."""
    entries: dict[str, zipfile.ZipInfo] = {}
    folded: dict[str, str] = {}
    for info in file.infolist():
        path = _safe(info, name=name)
        if info.is_dir() or _is_clutter(path):
            continue
        if info.flag_bits & 1:
            raise CalotError(f"{name}: entry {info.filename} is encrypted. {_GET}")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CalotError(
                f"{name}: entry {info.filename} is compressed by method {info.compress_type}, which is not read here. "
                f"Unpack it with another program, then run calot data verify."
            )
        if folded.setdefault(_folded(path), path) != path or path in entries:
            raise CalotError(f"{name}: entry {info.filename} appears twice. {_GET}")
        entries[path] = info
    top = _top(entries, name=name)
    entries = {path.removeprefix(top): info for path, info in entries.items()}
    links = _links(file, entries, name=name)
    return _flat(entries, links=links, name=name)


def _safe(info: zipfile.ZipInfo, *, name: str) -> str:
    """The entry's path, or an error naming the entry: absolute, up and out, a drive, a stream, a control character."""
    raw = info.orig_filename
    # An absolute name has an empty first step; Windows drops dots and spaces at a step's end.
    steps = raw.rstrip("/").split("/")
    fine = not _BAD.search(raw) and all(step.rstrip(". ") or step == "." for step in steps)
    fine = fine and not any(step.partition(".")[0].rstrip().casefold() in _DEVICES for step in steps)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise CalotError(f"{name}: entry {raw!r} is a pipe or a device, not a file; nothing was written. {_GET}")
    if not fine:
        raise CalotError(f"{name}: entry {raw!r} is not a safe path below one folder; nothing was written. {_GET}")
    return posixpath.normpath(raw)


def _folded(path: str) -> str:
    """The common form of names that some system treats as the same: capitals, accents, dots and spaces at the end."""
    steps = unicodedata.normalize("NFC", path).casefold().split("/")
    return "/".join(step.rstrip(". ") for step in steps)


def require_sane_sizes(parts: list[Member], *, archive_bytes: int, name: str) -> None:
    """Refuse an archive that unpacks to far more than its own size."""
    stored = sum(info.compress_size for info in {part.info.header_offset: part.info for part in parts}.values())
    if stored > archive_bytes:
        raise CalotError(f"{name}: its entries lie on top of one another; nothing was written. {_GET}")
    total = sum(part.info.file_size for part in parts)
    if total > max(_SMALL, MOST_TIMES * archive_bytes):
        raise CalotError(
            f"{name}: {archive_bytes:,} bytes would unpack to {total:,}, {total / archive_bytes:,.0f} times as many; "
            f"pictures do not compress that much. Nothing was written. {_GET}"
        )


def _is_clutter(path: str) -> bool:
    last = path.rsplit("/", 1)[-1]
    return path.startswith("__MACOSX/") or last == ".DS_Store" or last.startswith("._")


def _top(entries: dict[str, zipfile.ZipInfo], *, name: str) -> str:
    """`endoscapes/` where all entries stand below one folder, and nothing where they do not."""
    if METADATA in entries:
        return ""
    tops = {path.split("/")[0] for path in entries}
    top = f"{next(iter(tops))}/" if len(tops) == 1 else ""
    if f"{top}{METADATA}" not in entries:
        raise CalotError(f"{name}: holds no {METADATA} at its top: not the Endoscapes archive. Give the right file.")
    return top


def _links(file: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], *, name: str) -> dict[str, str]:
    """Link -> what it points at: entries marked as links, and small texts that are the path of another entry."""
    folders = {parent for path in entries for parent in _parents(path)}
    links = {}
    for path, info in entries.items():
        marked = stat.S_ISLNK(info.external_attr >> 16)
        if not marked and not 0 < info.file_size <= LONGEST_TEXT:
            continue
        content = file.read(info) if info.file_size <= 4096 else b""
        if marked:
            links[path] = _marked(content, path=path, name=name)
            continue
        target = link_target(content, name=path)
        if target is not None and target != path and (target in entries or target in folders):
            links[path] = target
    return links


def _marked(content: bytes, *, path: str, name: str) -> str:
    text = content.decode("utf-8", errors="replace")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
    if not text or _BAD.search(text) or text.startswith("/") or target.split("/")[0] == "..":
        raise CalotError(f"{name}: entry {path} is a link to {text!r}, out of the archive; nothing was written. {_GET}")
    return target


def _parents(path: str) -> list[str]:
    steps = path.split("/")
    return ["/".join(steps[:n]) for n in range(1, len(steps))]


def _flat(entries: dict[str, zipfile.ZipInfo], *, links: dict[str, str], name: str) -> list[Member]:
    """Follow every link to files; a link to a folder becomes a folder with that one's files."""
    flat: dict[str, Member] = {}
    for path, info in entries.items():
        if path not in links:
            flat[path] = Member(path=path, info=info, link=False)
    for path in links:
        target = _followed(path, links=links, name=name)
        if target in entries:
            flat[path] = Member(path=path, info=entries[target], link=True)
            continue
        inside = [other for other in entries if other.startswith(f"{target}/")]
        if not inside or path.startswith(f"{target}/"):
            raise CalotError(
                f"{name}: entry {path} is a link to {links[path]}, which "
                f"{'holds the link itself' if inside else 'is not in the archive'}. {_GET}"
            )
        if len(flat) + len(inside) > MOST_ENTRIES:
            raise CalotError(f"{name}: its links make more than {MOST_ENTRIES:,} files. {_GET}")
        for other in inside:
            source = _followed(other, links=links, name=name)
            if source not in entries:
                raise CalotError(f"{name}: entry {path} links to a folder of links to folders. Unpack it by hand.")
            flat[path + other.removeprefix(target)] = Member(
                path=path + other.removeprefix(target), info=entries[source], link=True
            )
    files = {path.casefold() for path in flat}
    for path in flat:
        if any(parent.casefold() in files for parent in _parents(path)):
            raise CalotError(f"{name}: entry {path} lies below a file. {_GET}")
    return [flat[path] for path in sorted(flat)]


def _followed(path: str, *, links: dict[str, str], name: str) -> str:
    """Where a path leads, with links in the middle of it followed, too."""
    for _ in range(_HOPS):
        step = next((p for p in (*_parents(path), path) if p in links), None)
        if step is None:
            return path
        path = posixpath.normpath(links[step] + path.removeprefix(step))
    raise CalotError(f"{name}: entry {path} is a link that leads in a circle. {_GET}")
