"""The files of a checkpoint, and whether they are whole: read without torch."""

from __future__ import annotations

from pathlib import Path

from calot.errors import first_line
from calot.reading import plain_size, read_json, sha256_of

MODEL, OPTIMISER, STATE, MANIFEST = "model.safetensors", "optimiser.safetensors", "state.json", "manifest.json"
_ANY_SIZE = 1 << 62


def weights_digest(run: Path) -> str:
    """What names a run's chosen weights: the digest of their checkpoint's manifest, which has each file's own."""
    return sha256_of(run / "checkpoints" / "best" / MANIFEST)


def problem_of(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, held to their manifest; None where each is as it was written."""
    if not folder.is_dir():
        return "absent"
    try:
        manifest = read_json(folder / MANIFEST)
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError) as error:
        return f"{MANIFEST} is unreadable ({first_line(error)})"
    if not isinstance(manifest, dict) or not set(manifest) <= {MODEL, OPTIMISER, STATE}:
        return f"{MANIFEST} lists no files of a checkpoint"
    for name, stated in manifest.items():
        try:
            size = plain_size(folder / name, largest=_ANY_SIZE)
            if isinstance(stated, str):  # calot 0.1 wrote the digest alone
                stated = {"bytes": size, "sha256": stated}
            if not isinstance(stated, dict) or size != stated.get("bytes"):
                return f"{name} has {size:,} bytes, not what {MANIFEST} states"
            if sha256_of(folder / name) != stated.get("sha256"):
                return f"{name} does not match its checksum"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    unlisted = {MODEL, STATE, *([OPTIMISER] if (folder / OPTIMISER).exists() else [])} - set(manifest)
    return f"{MANIFEST} does not list {min(unlisted)}" if unlisted else None
