"""An assessed operation's folder, written in a moment, beside a short recording that Chromium plays."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from recordings import WEBM, Picture, record

from calot.criteria import CRITERIA
from calot.statistics import seal
from calot.statistics.assessment import FACTS, NOTICE, SCORES, STILLS

SECONDS = 60
#: When each criterion is achieved, in seconds; all three from 34 to 48.
ACHIEVED = {"two_structures": (20, 52), "hepatocystic_triangle": (30, 50), "cystic_plate": (34, 48)}


def scene(second: float, *, height: int = 90, width: int = 160) -> Picture:
    """A reddish picture that gets brighter, with a bar that moves to the right."""
    y, x = np.mgrid[0:height, 0:width]
    base = 60 + 80 * second / SECONDS + 25 * np.sin(x / 17 + second / 3) * np.cos(y / 11)
    bar = (np.abs(x - width * second / SECONDS) < 3) * 90
    return np.stack([base + 60 + bar, base * 0.55 + bar, base * 0.5 + bar], axis=2).clip(0, 255).astype(np.uint8)


def recording(path: Path, *, start: float = 0.0, seconds: float = SECONDS, rate: int = 5) -> Path:
    """That scene as VP8 in WebM, which every Chromium plays."""
    shown = [(i / rate, scene(start + i / rate)) for i in range(round(seconds * rate))]
    return record(path, shown, **WEBM)


def make_assessment(folder: Path, *, files: int = 1, seeds: bool = True, name: str = "operation-1a2b3c4d") -> Path:
    """A folder as `calot assess` leaves it: scores that rise and fall, a black and a frozen stretch, a cut."""
    seconds = np.arange(SECONDS)
    rng = np.random.default_rng(5)
    black, frozen = (seconds >= 6) & (seconds < 10), (seconds >= 14) & (seconds < 18)
    length = SECONDS / files
    table: dict[str, Any] = {
        "video": [name] * SECONDS,
        "frame": seconds * 1000,
        "time": seconds.astype(float),
        "file": (seconds // length).astype(np.int32) + 1,
        "file_time": seconds % length,
        "state": np.where(black, "black", np.where(frozen, "frozen", "assessable")),
    }
    for criterion, (start, end) in ACHIEVED.items():
        depth = np.minimum(seconds - start, end - 1 - seconds) + 0.5
        logit = (np.clip(depth / 3, -2.5, 2.5) + rng.normal(0, 0.15, SECONDS)).astype(np.float32)
        table[f"logit_{criterion}"] = logit
        if seeds:
            table[f"logit_{criterion}_low"], table[f"logit_{criterion}_high"] = logit - 0.5, logit + 0.4
        table[f"probability_{criterion}"] = 1 / (1 + np.exp(-logit.astype(float) / 1.2))
        said = np.where(depth > 0, "achieved", np.where(depth > -3, "abstains", "not achieved"))
        table[f"call_{criterion}"] = np.where(black | frozen, "not assessable", said)
    folder.mkdir(parents=True)
    held = io.BytesIO()
    pl.DataFrame(table).write_parquet(held, metadata={seal.KEY: seal.BLANK})
    (folder / SCORES).write_bytes(seal.sealed(held.getvalue()))
    moments = {"held": 34, "two_structures": 36, "hepatocystic_triangle": 40, "cystic_plate": 41}
    (folder / STILLS).mkdir()
    for still, second in moments.items():
        Image.fromarray(scene(second, height=270, width=480)).save(folder / STILLS / f"{still}.jpg", quality=80)
    (folder / FACTS).write_text(json.dumps(_facts(name, moments=moments, files=files, seeds=seeds)))
    return folder


def _facts(name: str, *, moments: dict[str, int], files: int, seeds: bool) -> dict[str, Any]:
    length = SECONDS / files
    fault = {"file": 1}
    return {
        "format": 1,
        "calot": "0.2.0",
        "notice": NOTICE,
        "plan": {
            "runs": [{"seed": seed} for seed in ((1, 2) if seeds else (1,))],
            "recordings": [f"{i:016x}" for i in range(files)],
            "experiment": "e02_frozen_probe",
            "window": "past frames ending on the labelled frame, padded at the start",
            "held_seconds": 5.0,
            "every_seconds": 1,
            "abstains": True,
        },
        "name": name,
        "seconds": float(SECONDS),
        "recordings": [{"number": i + 1, "begins": i * length, "seconds": length} for i in range(files)],
        "faults": [
            fault | {"kind": "black", "start": 6.0, "end": 10.0, "note": "black for 4 s"},
            fault | {"kind": "frozen", "start": 13.0, "end": 18.0, "note": "the same picture for 5.0 s"},
            fault | {"kind": "cut", "start": 26.0, "end": 26.0, "note": "the picture jumps (48 grey levels)"},
        ],
        "not_assessable": [
            {"criterion": None, "reason": "black", "start": 6.0, "end": 10.0},
            {"criterion": None, "reason": "frozen", "start": 14.0, "end": 18.0},
            *(
                {"criterion": c, "reason": "the model abstains", "start": s - 3.0, "end": float(s)}
                for c, (s, _) in ACHIEVED.items()
            ),
        ],
        "held": {"start": 34.0, "end": 39.0},
        "held_why_not": None,
        "achieved_seconds": {c: end - start for c, (start, end) in ACHIEVED.items()},
        "all_achieved_seconds": 14,
        "moments": {k: {"second": s, "file": int(s // length) + 1, "time": s % length} for k, s in moments.items()},
        "frozen_on_val": {
            "thresholds": dict.fromkeys(CRITERIA, 0.2),
            "temperatures": dict.fromkeys(CRITERIA, 1.2),
            "limits": dict.fromkeys(CRITERIA, 0.8),
            "coverage": 0.9,
            "guaranteed": 0.88,
            "videos": 41,
        },
    }
