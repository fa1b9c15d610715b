"""`calot bench`: each part of the pipeline timed beside the naive way; exit code 1 when the results differ."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calot.cli.next_step import say_next

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
    "bootstrap": "calot bench window",
    "window": "calot bench entropy",
    "entropy": "calot bench features",
    "features": "calot bench layer-cache",
    "layer-cache": "calot bench heads",
    "heads": "calot bench train",
    "train": "calot bench start",
    "start": "calot bench gpu",
    "gpu": "calot bench observing",
    "observing": "calot bench all",
}
#: Sizes that take seconds and show exactness.
_SMALL: dict[str, dict[str, Any]] = {
    "loader": {"frames": 54, "checked": 4, "naive_clips": 1, "repeats": 2},
    "store": {"frames": 54, "naive_clips": 2, "repeats": 1},
    "preprocess": {"clips": 2, "frames": 4, "size": 64, "repeats": 2},
    "pooling": {"batch": 2, "tokens": 64, "width": 64, "repeats": 2},
    "bootstrap": {"frames": 600, "videos": 12, "replicates": 100, "naive_replicates": 10, "repeats": 2},
    "window": {"grid": (2, 8, 8), "heads": 2, "width": 8, "side": 4, "repeats": 2},
    "entropy": {"tokens": 128, "heads": 2, "width": 16, "repeats": 2},
    "features": {"frames": 60, "repeats": 1, "protocol": "Keyframes()"},
    "layer-cache": {"frames": 60, "repeats": 1, "protocol": "Keyframes()", "layers": 4},
    "heads": {"frames": 60, "repeats": 1, "protocol": "Keyframes()", "epochs": 2, "heads": 6},
    "train": {"frames": 60, "repeats": 1, "sizes": {"width": 64, "layers": 2, "heads": 1}},
    "start": {"frames": 60, "repeats": 1, "first_step": False},
    "gpu": {"clips": 2, "repeats": 1},
    "observing": {"frames": 60, "repeats": 1, "protocol": "Keyframes()", "epochs": 1},
}
#: Benches that have several rows, by what is asked for.
_FORMS: dict[str, tuple[dict[str, Any], ...]] = {
    "window": ({}, {"shifted": True}, {"backward": True}),
    "gpu": tuple({"part": part} for part in ("forward", "lora", "lora-18-23", "entropy", "head")),
}


def _outcome(bench: str, *, quick: bool, **given: Any) -> Outcome:
    """What `calot.bench.BENCH.bench_BENCH` gives, which is imported only now."""
    from importlib import import_module

    name = bench.replace("-", "_")
    outcome: Outcome = getattr(import_module(f"calot.bench.{name}"), f"bench_{name}")(
        **given | (_SMALL[bench] if quick else {})
    )
    return outcome


@app.command()
def loader(data: Data = None, frames: Frames = 320, quick: Quick = False, json: AsJson = False) -> None:
    """Clips from the frame store against opening JPEGs (at least 200x, equal bit for bit)."""
    _show(_outcome("loader", quick=quick, data=data, frames=frames), json=json, quick=quick)


@app.command()
def store(data: Data = None, frames: Frames = 320, quick: Quick = False, json: AsJson = False) -> None:
    """Building the frame store against one epoch of opening JPEGs (at most a tenth)."""
    _show(_outcome("store", quick=quick, data=data, frames=frames), json=json, quick=quick)


@app.command()
def preprocess(quick: Quick = False, json: AsJson = False) -> None:
    """Normalising in place into a reused buffer against the usual expression (at least 4x)."""
    _show(_outcome("preprocess", quick=quick), json=json, quick=quick)


@app.command()
def pooling(quick: Quick = False, json: AsJson = False) -> None:
    """Folded attentive pooling against nn.MultiheadAttention (at least 20x, forward and backward)."""
    _show(_outcome("pooling", quick=quick), json=json, quick=quick)


@app.command()
def bootstrap(quick: Quick = False, json: AsJson = False) -> None:
    """The video-level bootstrap of average precision against a scikit-learn loop (at least 50x)."""
    _show(_outcome("bootstrap", quick=quick), json=json, quick=quick)


@app.command()
def window(
    shifted: Annotated[bool, typer.Option("--shifted", help="Windows shifted by half a side (target 6x).")] = False,
    backward: Annotated[bool, typer.Option("--backward", help="With the backward pass (target 10x).")] = False,
    quick: Quick = False,
    json: AsJson = False,
) -> None:
    """Attention in windows of 8 x 8 tokens against global attention (at least 8x), and a curve over window sizes."""
    _show(_outcome("window", quick=quick, shifted=shifted, backward=backward), json=json, quick=quick)


@app.command()
def entropy(quick: Quick = False, json: AsJson = False) -> None:
    """Each query's attention entropy from the fused kernel against writing out the map (at least 3x)."""
    _show(_outcome("entropy", quick=quick), json=json, quick=quick)


@app.command()
def features(data: Data = None, frames: Frames = 600, quick: Quick = False, json: AsJson = False) -> None:
    """A head's epoch on cached tokens of a frozen backbone against encoding again (at least 30x, equal bit for bit)."""
    _show(_outcome("features", quick=quick, data=data, frames=frames), json=json, quick=quick)


@app.command("layer-cache")
def layer_cache(data: Data = None, frames: Frames = 300, quick: Quick = False, json: AsJson = False) -> None:
    """An epoch of the last 2 of 24 layers on what enters them against computing all (at least 3x, equal)."""
    _show(_outcome("layer-cache", quick=quick, data=data, frames=frames), json=json, quick=quick)


@app.command()
def heads(data: Data = None, frames: Frames = 300, quick: Quick = False, json: AsJson = False) -> None:
    """20 heads from one pass of a frozen backbone against 20 runs (at most 1.3 times one run, so at least 15x)."""
    _show(_outcome("heads", quick=quick, data=data, frames=frames), json=json, quick=quick)


@app.command()
def train(data: Data = None, frames: Frames = 300, quick: Quick = False, json: AsJson = False) -> None:
    """A LoRA step as calot takes it against a bare step of transformers and peft (at most 1.03 times as long)."""
    _show(_outcome("train", quick=quick, data=data, frames=frames), json=json, quick=quick)


@app.command()
def start(data: Data = None, frames: Frames = 300, quick: Quick = False, json: AsJson = False) -> None:
    """A command's answer against importing torch first (at least 3x), and the time to the first training step."""
    _show(_outcome("start", quick=quick, data=data, frames=frames), json=json, quick=quick)


@app.command()
def gpu(
    part: Annotated[
        str | None, typer.Option(help="One of forward, lora, lora-18-23, entropy, head; default: all.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, fp16 or bf16.")] = "auto",
    quick: Quick = False,
    json: AsJson = False,
) -> None:
    """Scoring, LoRA steps, entropy and head against the device's own limit: a share of it, full size on a GPU."""
    from calot.bench.gpu import SHARES
    from calot.errors import CalotError

    choices = {
        "part": (part, (None, *SHARES)),
        "device": (device, ("auto", "cpu", "cuda")),
        "precision": (precision, ("auto", "fp32", "fp16", "bf16")),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise CalotError(f"--{name} {value}: choose one of {', '.join(x for x in known if x)}")
    asked: dict[str, Any] = {"quick": quick, "device": device, "precision": precision}
    if part is not None:
        _show(_outcome("gpu", part=part, **asked), json=json, quick=quick)
        return
    found = [_outcome("gpu", part=name, **asked) for name in SHARES]
    rows = [_row(outcome, asked={"bench": "gpu", "part": name}) for outcome, name in zip(found, SHARES, strict=True)]
    print(json_module.dumps(rows, indent=2, allow_nan=False) if json else "\n".join(_shares(rows)))
    if not all(outcome.exact for outcome in found):
        raise typer.Exit(1)


@app.command()
def observing(data: Data = None, frames: Frames = 1000, quick: Quick = False, json: AsJson = False) -> None:
    """Epochs that the receipt looks on against some that nobody does (at most 2 % longer, equal bit for bit)."""
    _show(_outcome("observing", quick=quick, data=data, frames=frames), json=json, quick=quick)


@app.command()
def scale(
    gpu_tflops: Annotated[float, typer.Option(min=0.001, help="What a GPU sustains in bfloat16.")] = 395.0,
    json: AsJson = False,
) -> None:
    """What archives of operations need in frames, bytes, FLOP and hours, from constants that are measured here."""
    from calot.bench.scale import measured_constants, to_dict

    found = to_dict(measured_constants(gpu_tflops=gpu_tflops))
    if json:
        print(json_module.dumps(found, indent=2, allow_nan=False))
        return
    given = found["constants"]
    print(
        f"a JPEG {1000 * given['jpeg_s']:.2g} ms of a core, a second of H.264 {1000 * given['second_s']:.2g} ms; "
        f"a clip {given['clip_tflop']:.4g} TFLOP; a GPU of {given['gpu_tflops']:.3g} TFLOP/s (given)\n"
    )
    print("| archive | frames | clips | frame store | tokens, fp16 | PFLOP | decoding | 1 GPU | 8 GPUs | cores a GPU |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in found["rows"]:
        print(
            f"| {row['archive']} | {row['frames']:,} | {row['clips']:,} | {row['store_bytes'] / 1e9:,.3g} GB "
            f"| {row['tokens_bytes'] / 1e12:,.2g} TB | {row['pflop']:,.3g} | {row['decode_core_h']:,.3g} core h "
            f"| {row['gpu_h']:,.2g} h | {row['hours_on_8_gpus']:,.2g} h | {row['cores_per_gpu']:,.2g} |"
        )
    say_next("bench", "all")


@app.command()
def growth(
    out: Annotated[Path | None, typer.Option(help="Draw the figure here too: a .png or .svg file.")] = None,
    quick: Quick = False,
    json: AsJson = False,
) -> None:
    """How time and peak memory grow with tokens, videos, frames, replicates and runs: slopes, and a figure."""
    from calot.bench.growth import growth_table, growth_to_dict, measured_growth
    from calot.bench.growth_figure import draw_growth, require_figure_name
    from calot.bench.growth_questions import SMALL, USUAL, growth_questions
    from calot.progress import Ui

    if out is not None:
        require_figure_name(out)
    sizes, panels = SMALL if quick else USUAL, []
    for panel in measured_growth(growth_questions(sizes), repeats=sizes.repeats):
        Ui().say(f"{panel.over}: measured")
        panels.append(panel)
    found = growth_to_dict(panels, quick=quick, repeats=sizes.repeats)
    if out is not None:
        on = found["settings"]
        draw_growth(panels, path=out, measured_on=f"{on['processor']}, {on['cores']} cores, one thread used")
        Ui().say(f"figure: {out}")
    if json:
        print(json_module.dumps(found, indent=2, allow_nan=False))
        return
    print("\n".join([*growth_table(panels), "", f"Slopes: {found['fit']}."]))
    if quick:
        print("Quick: at sizes this small a fixed cost hides what grows.")
    say_next("bench", "all")


@app.command("all")
def every(quick: Quick = False, json: AsJson = False) -> None:
    """Every bench, one after the other, and one table."""
    from calot.progress import Ui

    kinds = [{"bench": name, **form} for name in _SMALL for form in _FORMS.get(name, ({},))]
    rows = []
    for asked in kinds:
        row = _row(_outcome(**asked, quick=quick), asked=asked)
        ratio = "not timed" if row["ratio"] is None else f"{row['ratio']:.3g}x"
        Ui().say(f"{row['name']}: {'exact' if row['exactness']['exact'] else 'NOT EXACT'}, {ratio}")
        rows.append(row)
    print(json_module.dumps(rows, indent=2, allow_nan=False) if json else "\n".join(_table(rows, quick=quick)))
    if not all(row["exactness"]["exact"] for row in rows):
        raise typer.Exit(1)


def _row(outcome: Outcome, *, asked: dict[str, Any]) -> dict[str, Any]:
    """The row of one bench, for programs, named as it is asked for."""
    found = outcome.to_dict()
    words = [f"--{key}" if value is True else f"--{key} {value}" for key, value in asked.items() if key != "bench"]
    name = " ".join([asked["bench"], *words])
    kept = ("exactness", "naive_s", "ours_s", "ratio", "target", "reached", "settings")
    return {"name": name, **{key: found[key] for key in kept}}


def _table(rows: list[dict[str, Any]], *, quick: bool) -> list[str]:
    """A Markdown table."""
    lines = ["| bench | exact | naive, s | ours, s | ratio | target |", "|---|---|---|---|---|---|"]
    for row in rows:
        exact, naive, ours = row["exactness"]["exact"], row["naive_s"], row["ours_s"]
        times = "- | - | -" if row["ratio"] is None else f"{naive:.4g} | {ours:.4g} | {row['ratio']:.3g}"
        lines.append(f"| {row['name']} | {'yes' if exact else 'NO'} | {times} | {row['target']:g} |")
    return [*lines, "", "Sizes too small to judge a target."] if quick else lines


def _shares(rows: list[dict[str, Any]]) -> list[str]:
    """What was reached of a device's limit, as a Markdown table."""
    first = rows[0]["settings"]
    lines = [f"{first['device']}, {first['precision']}", ""]
    lines += ["| part | relative to more precision | TFLOP/s | share of the limit | asked | clips/s | MB |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in rows:
        s, off = row["settings"], row["exactness"]
        apart = f"{off['largest_difference']:.2g} ({off['tolerance']:g})" if off["exact"] else "NOT EXACT"
        timed = row["ratio"] is not None
        rates = f"{s['tflops']:.3g} | {row['ratio']:.0%} | {row['target']:.0%} | {s['clips_per_s']:.4g}"
        lines.append(f"| {row['name']} | {apart} | {rates if timed else '- | - | - | -'} | {s['peak_mb']:.4g} |")
    return lines


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
