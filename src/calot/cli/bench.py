"""`calot bench`: each part of the pipeline timed beside the naive way; exit code 1 when the results differ."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from calot.bench.side_by_side import Outcome

app = typer.Typer(no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Quick = Annotated[bool, typer.Option("--quick", help="Small sizes, takes seconds: checks exactness, not targets.")]
Data = Annotated[Path | None, typer.Option(help="An Endoscapes folder; default: a phantom, rendered and thrown away.")]
Frames = Annotated[int, typer.Option(min=32, help="How many frames to take.")]

_NEXT = {
    "loader": "calot bench store",
    "store": "calot bench preprocess",
    "preprocess": "calot bench pooling",
    "pooling": "calot bench bootstrap",
    "bootstrap": "calot bench observing",
    "observing": "calot bench loader",
}


@app.command()
def loader(data: Data = None, frames: Frames = 320, quick: Quick = False, json: AsJson = False) -> None:
    """Clips from the frame store against opening JPEGs (at least 200x, equal bit for bit)."""
    from calot.bench.loader import bench_loader

    small = {"frames": 54, "checked": 4, "naive_clips": 1, "repeats": 2} if quick else {"frames": frames}
    _show(bench_loader(data=data, **small), json=json, quick=quick)


@app.command()
def store(data: Data = None, frames: Frames = 320, quick: Quick = False, json: AsJson = False) -> None:
    """Building the frame store against one epoch of opening JPEGs (at most a tenth)."""
    from calot.bench.store import bench_store

    small = {"frames": 54, "naive_clips": 2, "repeats": 1} if quick else {"frames": frames}
    _show(bench_store(data=data, **small), json=json, quick=quick)


@app.command()
def preprocess(quick: Quick = False, json: AsJson = False) -> None:
    """Normalising in place into a reused buffer against the usual expression (at least 4x)."""
    from calot.bench.preprocess import bench_preprocess

    small = {"clips": 2, "frames": 4, "size": 64, "repeats": 2} if quick else {}
    _show(bench_preprocess(**small), json=json, quick=quick)


@app.command()
def pooling(quick: Quick = False, json: AsJson = False) -> None:
    """Folded attentive pooling against nn.MultiheadAttention (at least 20x, forward and backward)."""
    from calot.bench.pooling import bench_pooling

    small = {"batch": 2, "tokens": 64, "width": 64, "repeats": 2} if quick else {}
    _show(bench_pooling(**small), json=json, quick=quick)


@app.command()
def bootstrap(quick: Quick = False, json: AsJson = False) -> None:
    """The video-level bootstrap of average precision against a scikit-learn loop (at least 50x)."""
    from calot.bench.bootstrap import bench_bootstrap

    small = {"frames": 600, "videos": 12, "replicates": 100, "naive_replicates": 10, "repeats": 2} if quick else {}
    _show(bench_bootstrap(**small), json=json, quick=quick)


@app.command()
def observing(data: Data = None, frames: Frames = 1000, quick: Quick = False, json: AsJson = False) -> None:
    """An epoch that the receipt looks on against one that nobody does (at most 2 % longer, equal bit for bit)."""
    from calot.bench.observing import bench_observing

    small: dict[str, Any] = {"frames": 60, "repeats": 1, "protocol": "Keyframes()"} if quick else {"frames": frames}
    _show(bench_observing(data=data, **small), json=json, quick=quick)


def _show(outcome: Outcome, *, json: bool, quick: bool) -> None:
    found = outcome.to_dict()
    found["settings"]["quick"] = quick
    if json:
        print(json_module.dumps(found, indent=2, allow_nan=False))
    else:
        print("\n".join(_lines(found)))
    if not outcome.exact:
        raise typer.Exit(1)


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['bench']}: {found['work']}"]
    for check in found["exactness"]["checks"]:
        verdict = "exact" if check["exact"] else "NOT EXACT"
        off = "not a finite number" if check["largest_difference"] is None else f"{check['largest_difference']:.2g}"
        lines.append(f"{verdict}: {check['what']}: largest difference {off} (tolerance {check['tolerance']:g})")
    if found["ratio"] is None:
        return [*lines, "Not timed: a fast answer that differs has no speed. Fix it, then run the same command again."]
    for name, way in (("naive", found["naive_way"]), ("ours", found["our_way"])):
        s = found["spread"][name]
        spread = f"({s['lowest']:.4g} to {s['highest']:.4g}, {s['runs']} runs)"
        lines.append(f"{name:5}  {s['median']:.4g} s {spread}: {way}")
    settings = found["settings"]
    if settings["naive_share_timed"] < 1:
        lines.append(f"       the naive way was timed on {settings['naive_share_timed']:.3g} of the work and scaled")
    verdict = "reached" if found["reached"] else "not reached"
    small = " (quick: sizes too small to judge)" if settings["quick"] else ""
    lines.append(f"ratio  {found['ratio']:.3g}x, target {found['target']:g}x: {verdict}{small}")
    for name, aside in found["asides"].items():
        told = (
            f"not measured: {aside['reason']}" if aside["s"] is None else f"{aside['s']:.4g} s, {aside['ratio']:.1f}x"
        )
        lines.append(f"       {name} ({aside['what']}): {told}")
    load = "" if settings["load_average"] is None else f", load average {settings['load_average']}"
    lines.append(f"on     {settings['processor']}, {settings['cores']} cores, {settings['threads']} thread used{load}")
    return [*lines, "", f"Next: {_NEXT[found['bench']]}"]
