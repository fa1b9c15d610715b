"""`calot demo`: phantom data, two experiments, their comparison and a report, in minutes on two cores."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calot.cli.next_step import say_next

if TYPE_CHECKING:
    from calot.phantom import PhantomSpec
    from calot.progress import Ui

_EXPERIMENTS = (["e02_frozen_probe"], ["e00_finetune", "baseline=e02_frozen_probe"])
_SEED = 42
#: What a demo leaves in its folder.
_MADE = ("data", "data.png", "first_look.jpg", "results")


def demo(
    out: Annotated[Path, typer.Option(help="A new folder for everything the demo makes.")] = Path("calot-demo"),
    videos: Annotated[int, typer.Option(help="Phantom operations to draw.")] = 36,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again in an existing demo folder.")] = False,
) -> None:
    """Show the whole pipeline on phantom data: two experiments, their comparison, one report. Minutes on two cores."""
    from calot.progress import Ui

    start = time.monotonic()
    _claim(out, overwrite=overwrite)
    ui = Ui()
    ui.say("calot demo: phantom operations, so every score below means nothing clinically.")
    data, results = out / "data", out / "results"
    _draw(data, videos=videos, ui=ui, first=out / "first_look.jpg")
    _statistics(data, figure=out / "data.png", ui=ui)
    folders = _train(data, results=results, ui=ui)
    _compare(folders[::-1])
    from calot.report.page import write_report

    page = write_report(results, results=results)
    print(f"\nreport: {page.resolve()}   ({time.monotonic() - start:.0f} s in total)")
    print(f"Open {page} in a browser.")
    say_next("metrics", folders[1] / "predictions" / "val.parquet", "--by-video")
    say_next("train", "e03_focal", "--data", data, "--scale", "tiny", "--results", results)
    say_next("report", results)


def _claim(out: Path, *, overwrite: bool) -> None:
    """Make room for a demo. Raises CalotError for a place that is none, and for a folder with anything but a demo."""
    import shutil

    from calot.destination import require_no_file
    from calot.errors import CalotError

    require_no_file(out)
    held = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if held and not overwrite:
        raise CalotError(f"{out} exists: --overwrite starts the demo again there, --out takes another folder")
    others = [name for name in held if name not in _MADE]
    if "data" in held and not (out / "data" / "phantom.json").is_file():
        others.append("data")
    own = {f"results/{words[0]}/s{_SEED}" for words in _EXPERIMENTS}
    runs = sorted(path.parent.relative_to(out).as_posix() for path in out.glob("results/**/experiment.json"))
    others += [run for run in runs if run not in own]
    if others:
        raise CalotError(
            f"{out} holds {others[0]}, which no demo made and --overwrite would delete; take another --out"
        )
    for name in held:
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
    out.mkdir(parents=True, exist_ok=True)


def _draw(data: Path, *, videos: int, ui: Ui, first: Path) -> None:
    from calot.phantom import PhantomSpec, generate

    spec = PhantomSpec(videos=videos, seed=1, mean_frames=90.0)
    _first_look(first, spec=spec)
    ui.say(f"first picture: {first}")
    with ui.task("drawing phantom operations") as advance:
        made = generate(data, spec=spec, workers=os.cpu_count() or 1, progress=advance)
    ui.say(f"{data}: {made.videos} operations, {made.frames:,} frames at 1 fps, {made.keyframes:,} labelled keyframes")


def _first_look(path: Path, *, spec: PhantomSpec) -> None:
    """A strip of frames from a phantom of three seconds' work, to look at while the data is drawn."""
    import tempfile
    from dataclasses import replace

    from calot.data.decode import decode_jpeg
    from calot.phantom import generate
    from calot.report.pictures import write_clip_sheet

    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "phantom", replace(spec, videos=6, mean_frames=24.0, min_frames=24))
        frames = sorted(Path(folder).rglob("*.jpg"))[:: max(1, 6 * 24 // 8)]
        write_clip_sheet([decode_jpeg(f) for f in frames], path)


def _statistics(data: Path, *, figure: Path, ui: Ui) -> None:
    from calot.analysis.dataset_stats import dataset_statistics, draw
    from calot.data.clips import Keyframes
    from calot.data.readers import open_folder

    draw(dataset_statistics(open_folder(data).manifest, protocol=Keyframes()), path=figure)
    ui.say(f"the data set drawn: {figure}")


def _train(data: Path, *, results: Path, ui: Ui) -> list[Path]:
    from calot.cli.finishing import finish
    from calot.cli.train import requests
    from calot.models.checkpoints import EMBEDDED_IS
    from calot.pipeline import train_run
    from calot.run.signals import stop_on_signal

    folders = []
    for what in _EXPERIMENTS:
        out = results / what[0] / f"s{_SEED}"
        (request,) = requests(what, data=data, out=out, results=results, scale="tiny", seeds=str(_SEED))
        ui.say(f"\ncalot train {' '.join(what)} --scale tiny")
        ui.say(f"encoder: {request.experiment.backbone.weights}, {EMBEDDED_IS}")
        with stop_on_signal() as stopper:
            folders.append(train_run(request, ui=ui, stopper=stopper))
        finish(out, ui=ui, results=results)
    return folders


def _compare(folders: list[Path]) -> None:
    from calot.cli.statistics import compare

    compare(folders)
