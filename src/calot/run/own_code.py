"""The user's own code that a run keeps: written into its folder, checked by hash and trust before it runs again.

Code is trusted where this user ran it on this machine before (its digest is in the user's state folder), or passed
`--trust`. Reading a run without such code runs nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from calot.config.sources import Source, files_digest, load_copy
from calot.errors import CalotError
from calot.progress import Ui
from calot.state import state_folder
from calot.writing import whole_file, write_text

FOLDER = "source"
_AGAIN = "Put the run's own copy back, or train again with --overwrite"

_trusted: set[str] = set()
_said: set[Path] = set()


def keep(source: Source, folder: Path) -> dict[str, Any]:
    """Write a source into a run's folder, trusted from now on; what `experiment.json` says of it."""
    for name, data in source.files.items():
        with whole_file(folder / FOLDER / name) as part:
            part.write_bytes(data)
    remember(source.digest)
    return record(source)


def record(source: Source) -> dict[str, Any]:
    """A source by its files and their SHA-256."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(source.files.items())}
    return {"main": source.main, "files": hashes}


def read_back(folder: Path, stated: Any) -> Source:
    """Run a run's own copy again, and report it in a line. Raises CalotError if it was changed or is a stranger's."""
    main, files = _checked(folder, stated)
    if not is_trusted(files_digest(files)):
        raise CalotError(
            f"{folder / FOLDER / main}: this run defines its own components, in code that you have never run "
            "here. Reading the run executes it: look at it first, then add --trust"
        )
    if folder.resolve() not in _said:
        _said.add(folder.resolve())
        Ui().say(f"components from {folder / FOLDER / main}, its hash as the run recorded it")
    return load_copy(main, files, folder=folder / FOLDER)


def trust(folder: Path, stated: Any) -> None:
    """Record that a run's own code may be run, so that exactly the same code need not be confirmed again."""
    if stated is not None:
        remember(files_digest(_checked(folder, stated)[1]))


def _checked(folder: Path, stated: Any) -> tuple[str, dict[str, bytes]]:
    """The files that a run kept, each held to the hash it recorded; nothing else in its folder is ever run."""
    if not isinstance(stated, dict) or not isinstance(files := stated.get("files"), dict):
        raise CalotError(f"{folder / 'experiment.json'}: source does not name the files that it needs. {_AGAIN}")
    main = stated.get("main")
    if main not in files or not all(_is_plain(name) for name in files):
        raise CalotError(f"{folder / 'experiment.json'}: source names no files of this run's folder. {_AGAIN}")
    kept = {}
    for name, expected in files.items():
        path = folder / FOLDER / name
        try:
            kept[name] = path.read_bytes()
        except OSError as error:
            raise CalotError(f"{path}: cannot be read ({error.strerror}), and the run needs it. {_AGAIN}") from None
        if (found := hashlib.sha256(kept[name]).hexdigest()) != expected:
            raise CalotError(
                f"{path}: changed since the run was trained (sha256 {found[:12]}, recorded {str(expected)[:12]}), so "
                f"it is not what the run did. {_AGAIN}"
            )
    return str(main), kept


def _is_plain(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return name.endswith(".py") and "\\" not in name and ":" not in name and not {"..", "/"} & set(parts)


def is_trusted(digest: str) -> bool:
    """Whether code of this digest was run here by this user before."""
    return digest in _trusted or (state_folder() / "trusted" / digest).is_file()


def remember(digest: str) -> None:
    """Trust code of this digest; where the state folder cannot be written, for as long as this process lives."""
    _trusted.add(digest)
    path = state_folder() / "trusted" / digest
    if not path.is_file():
        try:
            write_text(path, "Code that this user ran with calot. Remove the file to be asked again.\n")
        except (CalotError, OSError) as error:
            Ui().say(f"cannot remember that this code is yours: later commands will ask for --trust ({error})")
