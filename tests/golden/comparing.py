"""Golden values as files, and how far found ones may lie from them. Knows JSON and nothing of calot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RECORDED, FINGERPRINTS = HERE / "recorded", HERE / "fingerprints.json"
RULE = "Changed only in a commit of its own that gives the reason. Made by: python tests/golden/regenerate.py"

#: Relative, where every input is bit for bit the recorded one: float64 sums in another order came to 1e-13.
EXACT = 1e-9
#: Relative, where augmented pixels or first weights were rounded otherwise by this processor: came to 3e-4.
ROUNDED = 1e-3
#: How far a projection of a clip may be moved by rounding (a flip, a shift, a reversal move it by tens).
_PROJECTION = 0.5
_WIDTH, _DIGITS = 150, 12


def load(name: str) -> dict[str, Any]:
    """One experiment's golden values."""
    found: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    return found


def write(path: Path, values: dict[str, Any]) -> None:
    """Write values under the rule, a line for whatever fits on one."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(_lines({"rule": RULE, **values})) + "\n", encoding="utf-8", newline="\n")


def differences(golden: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Where found values leave their golden ones, a sentence each. Changed inputs are named, and nothing behind them:
    clips before batches, batches and first weights before what was reckoned from them."""
    problems = _unequal("parameters", golden["parameters"], found["parameters"])
    inputs = list(_inputs(golden, found))
    for what in ("clips", "batches and first weights"):
        changed = [p for kind, _, p in inputs if kind == what for p in p]
        if changed:
            return [*problems, f"the {what} changed, before any arithmetic", *changed]
    exact = all(same for _, same, _ in inputs)
    apart = _apart("", _numbers(golden), _numbers(found), allowed=EXACT if exact else ROUNDED)
    if apart and not exact:
        apart.insert(0, "some inputs have other bits and look alike: rounding, or a change too small to tell from it")
    return [*problems, *apart]


def _inputs(golden: dict[str, Any], found: dict[str, Any]) -> Iterator[tuple[str, bool, list[str]]]:
    """Of each input its kind, whether it is bit for bit the same, and what tells that it is not by rounding alone."""
    for split, clips in golden["clips"].items():
        yield "clips", *_input(f"{split} clips", clips, found["clips"][split])
    for number, (ours, theirs) in enumerate(zip(golden["stages"], found["stages"], strict=False), start=1):
        if "weights" in ours:
            yield "batches and first weights", *_input("first weights", ours["weights"], theirs["weights"])
        for step, (a, b) in enumerate(zip(ours["steps"], theirs["steps"], strict=False), start=1):
            yield "batches and first weights", *_input(f"stage {number} step {step} batch", a["batch"], b["batch"])


def _input(where: str, golden: dict[str, Any], found: dict[str, Any]) -> tuple[bool, list[str]]:
    if golden["digest"] == found["digest"]:
        return True, []
    problems = _unequal(where, sorted(golden), sorted(found))
    for key in golden.keys() & found.keys() - {"digest"}:
        if key in ("pixels", "masks"):
            far = [abs(a - b) for a, b in zip(golden[key], found[key], strict=True)]
            if max(far) > _PROJECTION:
                problems.append(f"{where}: {key} of {sum(f > _PROJECTION for f in far)} clips of {len(far)}")
        else:
            problems += _apart(f"{where} {key}", golden[key], found[key], allowed=1e-6)
    return False, problems


def _numbers(values: dict[str, Any]) -> list[Any]:
    """What was reckoned, without the inputs."""
    return [
        {
            "logits before": stage["logits before"],
            "steps": [{k: v for k, v in step.items() if k != "batch"} for step in stage["steps"]],
            "logits after": stage["logits after"],
        }
        for stage in values["stages"]
    ]


def _apart(where: str, golden: Any, found: Any, *, allowed: float) -> list[str]:
    """Numbers further apart than `allowed` of their size; a matrix is as large as its largest number."""
    if isinstance(golden, dict) and isinstance(found, dict) and golden.keys() == found.keys():
        return [p for k in golden for p in _apart(f"{where} {k}", golden[k], found[k], allowed=allowed)]
    if isinstance(golden, list) and isinstance(found, list) and len(golden) == len(found):
        if not (golden and isinstance(golden[0], list)):
            pairs = enumerate(zip(golden, found, strict=True), start=1)
            return [p for i, (a, b) in pairs for p in _apart(f"{where} {i}", a, b, allowed=allowed)]
        if [len(row) for row in golden] != [len(row) for row in found]:
            return [f"{where.strip()}: of another shape"]
        a, b = ([v for row in m for v in row] for m in (golden, found))
        far, size = max(abs(x - y) for x, y in zip(a, b, strict=True)), max(map(abs, a))
        return [f"{where.strip()}: {far / size:.1e} apart, {allowed:.0e} allowed"] if far > allowed * size else []
    if not (isinstance(golden, (int, float)) and isinstance(found, (int, float))):
        return _unequal(where.strip(), golden, found)
    far, size = abs(golden - found), max(abs(golden), abs(found))
    told = f"{where.strip()}: golden {golden:.12g}, found {found:.12g}, {allowed:.0e} allowed"
    return [] if far <= allowed * size else [told]


def _unequal(where: str, golden: Any, found: Any) -> list[str]:
    return [] if golden == found else [f"{where}: golden {_short(golden)}, found {_short(found)}"]


def _short(value: Any) -> str:
    return text if len(text := json.dumps(_rounded(value))) < 400 else text[:400] + " ..."


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value


def _lines(value: Any, *, indent: int = 0, key: str = "") -> list[str]:
    """JSON with one line for whatever fits on one."""
    pad, whole = " " * indent, json.dumps(_rounded(value))
    if len(pad) + len(key) + len(whole) <= _WIDTH or not isinstance(value, (dict, list)):
        return [f"{pad}{key}{whole}"]
    named = isinstance(value, dict)
    items = [(json.dumps(k) + ": ", v) for k, v in value.items()] if named else [("", v) for v in value]
    parts = [_lines(v, indent=indent + 1, key=k) for k, v in items]
    for part in parts[:-1]:
        part[-1] += ","
    return [f"{pad}{key}{'{' if named else '['}", *(line for part in parts for line in part), pad + "]}"[named]]
