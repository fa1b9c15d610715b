"""Links that lead nowhere, and links that an unzip on Windows wrote as small files of text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from calot.data.endoscapes.linktext import LONGEST_TEXT, link_target
from calot.data.endoscapes.reader import MASKS
from calot.data.verify.finding import Finding, Found
from calot.identity import SPLITS
from calot.reading import read_plain

_REMEDY = "calot data unpack writes real files in their place."


def check_links(root: Path) -> Found:
    """Look at the top folder, the images, the `*_seg` folders and the masks."""
    findings: list[Finding] = []
    folders = [root, *(root / name for name in (*SPLITS, *(f"{split}_seg" for split in SPLITS), MASKS))]
    for folder in folders:
        try:
            inside = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except PermissionError as error:
            message, remedy = f"cannot be read ({error.strerror})", "Change its permissions so that it can be read."
            findings.append(Finding(check="links", file=f"{folder.name}/", message=message, remedy=remedy))
            continue
        except OSError:  # missing, or not a folder: other checks say so
            continue
        for entry in inside:
            name = entry.name if folder == root else f"{folder.name}/{entry.name}"
            findings += _check(root, name=name, entry=entry)
    return Found(findings=tuple(findings))


def names_in(folder: Path, *, endings: tuple[str, ...]) -> list[str]:
    """Names of a folder's files with one of some endings, whatever its capitals; none where there is no such
    folder, or no readable one."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(endings))
    except OSError:
        return []


def _check(root: Path, *, name: str, entry: os.DirEntry[str]) -> Iterator[Finding]:
    try:
        size = entry.stat().st_size
    except OSError:
        if entry.is_symlink():
            message = f"a link to {os.readlink(root / name)}, which is not there"
            yield Finding(check="links", file=name, message=message, remedy=_REMEDY)
        return
    if not entry.is_file() or size > LONGEST_TEXT:
        return
    try:
        content = read_plain(root / name, largest=LONGEST_TEXT)
    except OSError:
        return
    target = link_target(content, name=name)
    exists = target is not None and not target.startswith("..") and (root / target).exists()
    if target is not None and target != name and (exists or "/" in content.decode("utf-8")):
        message = f"{size} bytes of text, the path {target}: a link that unpacking wrote as a file"
        yield Finding(check="links", file=name, message=message, remedy=_REMEDY)
