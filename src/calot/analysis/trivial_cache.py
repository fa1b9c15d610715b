"""Trivial baselines' scores, kept beside the decoded frames: computed once per manifest, protocol and frames."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from calot.analysis.trivial import BASELINES, SeenFrames, TrivialBaseline, TrivialLogits
from calot.criteria import CRITERIA
from calot.data.cache import cached_file
from calot.data.clips import ClipTable
from calot.data.digests import read_checked, with_digest
from calot.data.store import FrameStore
from calot.errors import CalotError
from calot.locking import locked
from calot.progress import Ui
from calot.writing import clear_disk_errors


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredClips:
    """The clips of one split that a protocol counts, and the store of their frames."""

    table: ClipTable
    store: FrameStore

    def facts(self) -> dict[str, str]:
        """Which frames: a digest of their pixels, and one of which of them count."""
        return {"pixels": self.store.digest, "rows": hashlib.sha256(self.table.row.astype("<i4").tobytes()).hexdigest()}


def trivial_scores(
    train: StoredClips,
    scored: StoredClips,
    *,
    manifest_hash: str,
    folder: Path,
    ui: Ui,
    baselines: Sequence[TrivialBaseline] = BASELINES,
) -> dict[str, TrivialLogits]:
    """Each baseline's scores by name, read from `folder` where they were computed before.

    A file that is damaged, or of other frames, is computed again, and a line says so; so does one where nothing can be
    kept. Of two processes that ask at once, one waits for the other.
    """
    what = {
        "manifest": manifest_hash,
        "protocol": scored.table.protocol,
        "train": train.facts(),
        scored.table.split: scored.facts(),
        "baselines": [baseline.fingerprint for baseline in baselines],
        "packages": {name: version(name) for name in ("numpy", "scikit-learn")},
    }
    path = folder / f"{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]}.json"
    with _held(path, ui=ui) as keeps:
        found = _kept(path, what=what, count=len(scored.table), ui=ui) if keeps else None
        if found is None:
            found = _computed(train, scored, baselines=baselines, ui=ui)
            if keeps:
                value = {"what": what, "scores": {name: _plain(one) for name, one in found.items()}}
                with cached_file(path) as new:
                    new.write_text(with_digest(value), encoding="utf-8")
        return found


def _computed(
    train: StoredClips, scored: StoredClips, *, baselines: Sequence[TrivialBaseline], ui: Ui
) -> dict[str, TrivialLogits]:
    start = time.monotonic()
    with ui.task("trivial baselines, train") as advance:
        fitted = SeenFrames.of(train.table, store=train.store, advance=advance)
    with ui.task(f"trivial baselines, {scored.table.split}") as advance:
        seen = SeenFrames.of(scored.table, store=scored.store, advance=advance)
    found = {one.name: one.score(fitted, train.table.majority, seen) for one in baselines}
    ui.say(f"trivial baselines of {scored.table.split}: {len(found)} fitted, {time.monotonic() - start:.1f} s")
    return found


@contextmanager
def _held(path: Path, *, ui: Ui) -> Iterator[bool]:
    """A lock on what is kept at `path`; False where nothing can be kept there."""
    lock = path.with_suffix(".lock")
    try:
        with clear_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.touch()
    except (OSError, CalotError) as error:
        ui.say(f"trivial baselines are not kept for the next time: {error}")
        yield False
        return
    with locked(lock):
        yield True


def _kept(path: Path, *, what: dict[str, Any], count: int, ui: Ui) -> dict[str, TrivialLogits] | None:
    try:
        value = read_checked(path)
        if value["what"] != what:
            raise ValueError("it is of other frames, labels or baselines")
        return {name: _scored(one, count=count) for name, one in value["scores"].items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        ui.say(f"{path}: computed again ({error})")
        return None


def _plain(scored: TrivialLogits) -> dict[str, Any]:
    logits = base64.b64encode(scored.logits.astype("<f4").tobytes()).decode()
    return {"logits": logits, "undefined": scored.undefined}


def _scored(value: dict[str, Any], *, count: int) -> TrivialLogits:
    logits = np.frombuffer(base64.b64decode(value["logits"], validate=True), dtype="<f4")
    return TrivialLogits(
        logits=logits.reshape(count, len(CRITERIA)).astype(np.float32), undefined=dict(value["undefined"])
    )
