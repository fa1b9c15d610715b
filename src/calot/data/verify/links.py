"""Links that lead nowhere, and links that an unzip on Windows wrote as small files of text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from calot.data.endoscapes import MASKS
from calot.data.linktext import LONGEST_TEXT, link_target
from calot.data.manifest import SPLITS
from calot.data.verify.finding import Finding, Found

_REMEDY = "calot data unpack writes real files in their place."


def check_links(root: Path) -> Found:
    """Look at the top folder, the images, the `*_seg` folders and the masks."""
    findings: list[Finding] = []
    folders = [root, *(root / name for name in (*SPLITS, *(f"{split}_seg" for split in SPLITS), MASKS))]
    for folder in folders:
        if folder.is_dir():
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                name = entry.name if folder == root else f"{folder.name}/{entry.name}"
                findings += _check(root, name=name, entry=entry)
    return Found(findings=tuple(findings))


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
        content = (root / name).read_bytes()
    except OSError:
        return
    target = link_target(content, name=name)
    exists = target is not None and not target.startswith("..") and (root / target).exists()
    if target is not None and target != name and (exists or "/" in content.decode("utf-8")):
        message = f"{size} bytes of text, the path {target}: a link that unpacking wrote as a file"
        yield Finding(check="links", file=name, message=message, remedy=_REMEDY)
