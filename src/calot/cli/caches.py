"""`calot data cache`: what is decoded and encoded beside a data set, how large it is, and removing it."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer


def cache(
    root: Annotated[Path, typer.Argument(help="A data set's folder.")],
    clear: Annotated[list[str] | None, typer.Option(help="Remove this kind, such as features; repeatable.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Where it is kept; default ROOT/.calot.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """What calot keeps beside a data set (frames, masks, features, baselines) and how large it is.

    All of it is made again when it is needed. Clear nothing that a run is reading.
    """
    from calot.data.cache import cache_folder, cache_parts, clear_cache
    from calot.errors import CalotError

    if not root.is_dir():
        raise CalotError(f"{root}: no such folder")
    parts = cache_parts(root, cache)
    kinds = [part.kind for part in parts]
    for kind in clear or ():
        if kind not in kinds:
            raise CalotError(f"--clear {kind}: {cache_folder(root, cache)} holds {', '.join(kinds) or 'nothing'}")
    removed = [part for part in parts if part.kind in (clear or ())]
    for part in removed:
        clear_cache(part)
    if json:
        rows = [
            {"kind": p.kind, "path": str(p.path), "entries": p.entries, "bytes": p.bytes, "removed": p in removed}
            for p in parts
        ]
        print(json_module.dumps(rows, indent=2))
        return
    if not parts:
        print(f"{cache_folder(root, cache)}: nothing is kept")
    for part in parts:
        done = "removed" if part in removed else str(part.path)
        print(f"{part.kind:10} {part.bytes / 1e9:9.3f} GB  {part.entries:5,} entries  {done}")
