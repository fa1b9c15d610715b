"""The model card of an exported run, filled from the run's files alone; it never claims more than they show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calot.criteria import CRITERIA
from calot.provenance.receipt import Receipt, verdict
from calot.provenance.run_facts import RunFacts
from calot.reading import read_json
from calot.statistics.predictions import load_predictions
from calot.statistics.summary import summarise

_USE = {
    "hf": (
        "```python\nfrom transformers import AutoModel\n\n"
        'model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True).eval()  # read modeling_calot.py first\n'
        "logits = model(clips)  # uint8 (clips, {frames}, 3, {size}, {size}); columns: model.config.criteria\n```"
    ),
    "pt2": (
        '```python\nimport torch\n\nmodel = torch.export.load("model.pt2").module()\n'
        "logits = model(clips)  # uint8 (clips, {frames}, 3, {size}, {size})\n```"
    ),
    "onnx": (
        '```python\nimport onnxruntime\n\nsession = onnxruntime.InferenceSession("model.onnx")\n'
        'logits = session.run(["logits"], {{"video": clips}})[0]  # uint8 (clips, {frames}, 3, {size}, {size})\n```'
    ),
}


def export_card(run: Path, *, record: Mapping[str, Any]) -> str:
    """Markdown: what it is, what it was trained on, what it scored and how sure that is, how to load it, its limits."""
    experiment, model, data = (read_json(run / f"{n}.json") for n in ("experiment", "model", "data"))
    receipt = Receipt.load(run)
    facts = {
        "experiment": f"`{experiment['name']}`, seed {experiment['seed']} ({experiment['fingerprint'][:12]})",
        "encoder": f"{model['backbone']}; weights: {model['weights']}",
        "clips": f"{data['window']}; protocol {data['protocol']}; {'causal' if data['causal'] else 'not causal'}",
        "trained on": f"{data['dataset']}, labels: {data['label_rule']}",
        "treatment": "no receipt: unverified" if receipt is None else verdict(receipt.checks),
        "equal to the run": f"largest difference of a logit {record['largest_difference']:.1e} on {record['clips']} "
        f"validation clips of {record['videos']} videos",
    }
    phantom = (
        ["**Trained on computer-drawn phantom operations: its scores mean nothing clinically.**", ""]
        if data["synthetic"]
        else []
    )
    tags = ["video-classification", "surgery", "critical-view-of-safety"]
    return "\n".join(
        [
            "---",
            "library_name: transformers" if record["format"] == "hf" else f"library_name: {record['format']}",
            f"tags: [{', '.join(tags)}]",
            "license: other",
            "---",
            "",
            f"# {experiment['name']}: a Critical View of Safety classifier",
            "",
            *phantom,
            *(f"- {what}: {said}" for what, said in facts.items()),
            "",
            *_scores(run),
            "",
            "## Use",
            "",
            _USE[record["format"]].format(frames=record["frames"], size=record["size"]),
            "",
            f"Columns: {', '.join(CRITERIA)}. Frames are RGB, resized as the run's `geometry` says, oldest first.",
            *_quantised(record),
            "",
            "Research only, not a medical device. Its licence follows the data's and the encoder's.",
            "",
        ]
    )


def _scores(run: Path) -> list[str]:
    """mAP and AP of each scored split, with intervals by video."""
    lines = ["| split | criterion | AP | 95 % interval by video | videos |", "|---|---|---|---|---|"]
    for split in ("val", "test"):
        path = run / "predictions" / f"{split}.parquet"
        if not path.is_file() or not load_predictions(path).labelled:
            continue
        found = summarise(load_predictions(path)).intervals
        for name, one in {"mAP": found.map, **found.ap}.items():
            value = "undefined" if one.value is None else f"{100 * one.value:.1f}"
            between = (
                one.reason if one.low is None or one.high is None else f"{100 * one.low:.1f} to {100 * one.high:.1f}"
            )
            lines.append(f"| {split} | {name} | {value} | {between or ''} | {found.videos} |")
    if len(lines) == 2:
        return ["Not scored yet."]
    chosen = RunFacts.of(run).selection
    return [*lines, "", f"Epoch: {chosen}."] if chosen else lines


def _quantised(record: Mapping[str, Any]) -> list[str]:
    cost = record.get("int8")
    return [] if cost is None else ["", f"`model.int8.onnx`: {cost['said']}."]
