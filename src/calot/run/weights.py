"""A pretrained encoder as a folder: what `backbone.weights` takes and transformers reads, with a card."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from calot.models.backbones.protocol import Backbone
from calot.phantom.spec import PhantomSpec
from calot.provenance.pretraining_facts import CURVES, epochs_of, kept_epoch, pretraining_facts
from calot.reading import read_json
from calot.run import folder as run_folder
from calot.run.experiment_file import NAME
from calot.writing import clear_disk_errors, write_text

#: The folder's name inside a run's.
WEIGHTS = "weights"


def write_weights(folder: Path, *, backbone: Backbone) -> Path:
    """Write `weights/` of a complete run: configuration, tensors and card, all of them or none."""
    return write_encoder(folder / WEIGHTS, backbone=backbone, card=card(folder))


def write_encoder(place: Path, *, backbone: Backbone, card: str) -> Path:
    """Write an encoder with its card as a folder, all of it or none, in place of the one that is there."""
    made = place.with_name(f"{place.name}.new")
    with clear_disk_errors(place):
        shutil.rmtree(made, ignore_errors=True)
        backbone.spec.write(backbone.model, made)
        write_text(made / "README.md", card)
        shutil.rmtree(place, ignore_errors=True)
        os.replace(made, place)
    return place


def card(folder: Path) -> str:
    """What was trained, on what, how, and what its curve was; in Markdown."""
    facts = pretraining_facts(folder) | _drawn(run_folder.data_root(folder))
    rows, kept = epochs_of(folder), kept_epoch(folder)
    shown = [column for column in CURVES if column in kept]
    lines = [f"| epoch | {' | '.join(shown)} |", f"|---{'|---' * len(shown)}|"]
    lines += [f"| {row['epoch']} | {' | '.join(f'{float(row[c]):.4g}' for c in shown)} |" for row in _some(rows)]
    return "\n".join(
        [
            f"# {read_json(folder / NAME)['name']}: a pretrained video encoder",
            "",
            *(f"- {what}: {value}" for what, value in facts.items()),
            "",
            *lines,
            "",
            "Load it with `backbone.weights=FOLDER` in calot, or with `from_pretrained(FOLDER)` of transformers.",
            "The encoder is the trained one, not the teacher's moving average. Research only, not a medical device.",
            "",
        ]
    )


def _drawn(root: Path) -> dict[str, str]:
    """How a phantom was drawn, and the licence of what a drawing taught; the data decides it elsewhere."""
    if not (root / "phantom.json").is_file():
        return {"licence": "that of the data, which the weights follow"}
    spec = read_json(root / "phantom.json")["spec"]
    plain = PhantomSpec().to_dict()
    changed = ", ".join(f"{name} {value}" for name, value in spec.items() if plain.get(name) != value)
    licence = "Apache-2.0, as calot: no patient's picture is in it"
    return {"drawn by": f"`calot data phantom`: {changed}", "licence": licence}


def _some(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """At most about a dozen epochs, the first and the last among them."""
    step = max(1, len(rows) // 10)
    return [row for place, row in enumerate(rows) if place % step == 0 or row is rows[-1]]
