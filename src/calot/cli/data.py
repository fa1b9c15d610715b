"""`calot data`: unpacking, checking, statistics of a data set, its frame store, and phantom data."""

from __future__ import annotations

import json as json_module
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calot.cli.baselines import baselines
from calot.cli.next_step import say_next

if TYPE_CHECKING:
    from calot.data.geometry import Geometry

app = typer.Typer(no_args_is_help=True)
app.command("baselines")(baselines)

Root = Annotated[Path, typer.Argument(help="A data set's folder, of any kind that calot reads (docs/data.md).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


class GeometryName(StrEnum):
    """The geometries with their usual settings."""

    squash = "squash"
    centre_crop = "centre-crop"
    short_side_crop = "short-side-crop"


@app.command("unpack")
def unpack_archive(
    archive: Annotated[Path, typer.Argument(help="The official endoscapes.zip.")],
    root: Annotated[Path, typer.Argument(help="Folder to unpack into; intact files there are kept.")],
    sha256: Annotated[str | None, typer.Option(help="Expect this digest, not the published archive's.")] = None,
    any_version: Annotated[bool, typer.Option("--any-version", help="Expect no digest at all.")] = False,
    json: AsJson = False,
) -> None:
    """Unpack Endoscapes: digest checked, links made real files; run it again after a kill and it continues."""
    from calot.data.endoscapes.published import ARCHIVE_SHA256, TERMS
    from calot.data.endoscapes.unpack import unpack
    from calot.progress import Ui
    from calot.run.signals import stop_on_signal

    Ui().say(TERMS)
    expected = None if any_version else (sha256 or ARCHIVE_SHA256)
    with stop_on_signal(f"{root}: stopped; what is unpacked stays. Run the same again to continue."):
        made = unpack(archive, root, sha256=expected)
    if json:
        _print_json(made.to_dict())
        return
    print(f"{root}: {made.files:,} files, {made.written:,} written now, {made.kept:,} kept; {made.links:,} were links")
    say_next("data", "verify", root)


@app.command()
def stats(
    root: Root,
    protocol: Annotated[str, typer.Option(help="keyframes or all-frames.")] = "keyframes",
    json: AsJson = False,
    figure: Annotated[Path | None, typer.Option(help="Draw the statistics as a PNG.")] = None,
) -> None:
    """Class distribution, combinations, rater agreement and lengths of a data set under a protocol."""
    from calot.analysis.dataset_stats import dataset_statistics, draw, tables
    from calot.data.clips import protocol_named
    from calot.data.readers import open_folder
    from calot.data.understood import Understood
    from calot.terminal import print_table

    chosen = protocol_named(protocol)
    folder = open_folder(root)
    found = dataset_statistics(folder.manifest, protocol=chosen)
    if figure is not None:
        draw(found, path=figure)
    if json:
        _print_json(found.to_dict() | {"understood": Understood.of(folder).to_dict()})
        return
    print(Understood.of(folder))
    for table in tables(found):
        print_table(table)
    if figure is not None:
        print(f"Figure: {figure}")
    say_next("data", "store", root)


@app.command()
def store(
    root: Root,
    split: Annotated[list[str] | None, typer.Option(help="Only this split; repeatable.")] = None,
    size: Annotated[int, typer.Option(min=1, help="Side of the square frames, in pixels.")] = 256,
    geometry: Annotated[GeometryName, typer.Option(help="How a frame becomes a square.")] = GeometryName.squash,
    cache: Annotated[Path | None, typer.Option(help="Where decoded frames go; default ROOT/.calot.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that decode; default: all cores.")] = None,
    drop_unreadable: Annotated[bool, typer.Option("--drop-unreadable", help="Leave out unreadable frames.")] = False,
    mixed_sizes: Annotated[bool, typer.Option("--mixed-sizes", help="Images may be of several sizes.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read all that is stored, and its sources, again.")] = False,
    json: AsJson = False,
) -> None:
    """Decode and resize every frame once, so that training reads pixels, not JPEGs or videos; resumes when killed."""
    from calot.data.frames import unreadable_frames, without_frames
    from calot.data.readers import open_folder
    from calot.data.store import open_store, verify_store
    from calot.data.understood import Understood
    from calot.progress import Ui
    from calot.run.machine import usable_cores
    from calot.run.signals import stop_on_signal

    workers = workers or usable_cores()
    folder = open_folder(root)
    manifest, frames = folder.manifest, folder.frames
    answer: dict[str, Any] = {}
    if not json:
        print(Understood.of(folder))
    if drop_unreadable:
        with Ui().task("reading every frame") as advance:
            bad = unreadable_frames(root, manifest, frames=frames, workers=workers, advance=advance, cache=cache)
        manifest = without_frames(manifest, bad)
        answer["dropped"] = {"unreadable": len(bad), "images": bad}
        if not json:
            print(f"dropped, as declared: {len(bad)} unreadable frames {' '.join(bad[:3])}")
    for name in split or manifest.splits:
        rows = manifest.split(name)
        stopped = f"{root}: stopped; what is decoded stays. Run it again to continue."
        how: dict[str, Any] = {"geometry": _geometry(geometry), "size": size, "frames": frames, "cache": cache}
        with Ui().task(f"frame store {name}") as advance, stop_on_signal(stopped):
            made = open_store(root, rows, **how, workers=workers, progress=advance, mixed_sizes=mixed_sizes)
        if verify:
            verify_store(made, manifest_rows=rows, frames=frames)
        answer[name] = {"path": str(made.path), "frames": len(made), "black": len(made.black)}
        if not json:
            black = f", {len(made.black)} of them nearly black" if made.black else ""
            print(f"{name}: {len(made):,} frames{black}, {made.path}")
    if verify:
        from calot.data.masks import verify_masks  # imports torch

        verify_masks(root, cache=cache)
    if json:
        _print_json(answer)
        return
    scale = ("--scale", "tiny") if manifest.dataset == "phantom" else ()
    place = () if cache is None else (f"compute.cache={cache}",)
    sizes = ("frames.mixed_sizes=True",) if mixed_sizes else ()
    say_next("train", "e02_frozen_probe", "--data", root, *scale, *place, *sizes)


def _geometry(name: GeometryName) -> Geometry:
    from calot.data.geometry import CentreCrop, ShortSideCrop, Squash

    named: dict[GeometryName, Geometry] = {
        GeometryName.squash: Squash(),
        GeometryName.centre_crop: CentreCrop(),
        GeometryName.short_side_crop: ShortSideCrop(),
    }
    return named[name]


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.")],
    recipe: Annotated[
        str | None, typer.Option(help="A named phantom: phantom-study, -pretraining or -planted.")
    ] = None,
    videos: Annotated[int | None, typer.Option(help="Operations in all three splits; default 60.")] = None,
    seed: Annotated[int | None, typer.Option(help="Equal seeds give equal bytes; default 0.")] = None,
    mean_frames: Annotated[float | None, typer.Option(help="Mean length in 1-fps frames; default 305.8.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw.")] = 1,
    invisible: Annotated[str | None, typer.Option(help="A criterion whose anatomy is not drawn.")] = None,
    shortcut: Annotated[str | None, typer.Option(help="A criterion that a marker gives away, in train only.")] = None,
    shortcut_places: Annotated[
        bool, typer.Option("--shortcut-places", help="Say in cue/ where the marker is.")
    ] = False,
    shortcut_elsewhere: Annotated[
        float | None, typer.Option(help="How often the marker agrees in val and test, too; by default it is unrelated.")
    ] = None,
    shortcut_size: Annotated[float | None, typer.Option(help="Of the marker, over its usual one.")] = None,
    biased_rater: Annotated[int | None, typer.Option(help="1, 2 or 3: a rater who says yes too soon.")] = None,
    rater_spread: Annotated[float | None, typer.Option(help="How far apart raters' habits are; 0: alike.")] = None,
    json: AsJson = False,
) -> None:
    """Draw procedural operations in the Endoscapes layout. Scores on them mean nothing clinically."""
    from calot.phantom import generate, recipe_named
    from calot.progress import Ui
    from calot.run.signals import stop_on_signal

    knobs: dict[str, Any] = {"invisible": invisible, "shortcut": shortcut, "biased_rater": biased_rater}
    knobs |= {
        "shortcut_places": shortcut_places or None,
        "shortcut_elsewhere": shortcut_elsewhere,
        "shortcut_size": shortcut_size,
        "rater_spread": rater_spread,
    }
    spec = recipe_named(recipe or "plain", videos=videos, seed=seed, mean_frames=mean_frames, **knobs)
    stopped = f"{out}: stopped; videos that are drawn stay. Run the same again to continue."
    with Ui().task("phantom") as advance, stop_on_signal(stopped):
        made = generate(out, spec=spec, workers=workers, progress=advance)
    if json:
        _print_json(made.to_dict())
        return
    counts = f"{made.videos} videos, {made.frames:,} frames, {made.keyframes:,} keyframes, {made.masks:,} masks"
    print(f"{out}: {counts}")
    say_next("data", "stats", out, "--protocol", "keyframes")


@app.command("verify")
def verify_folder(
    root: Root,
    workers: Annotated[int, typer.Option(min=0, help="Threads that decode; 0: one per core.")] = 0,
    json: AsJson = False,
) -> None:
    """Find everything that is wrong with a folder, decoding every frame; exit code 1 with findings."""
    from calot.data.readers import reader_of

    found = reader_of(root).verify(root, workers=workers)
    if json:
        _print_json(found.to_dict())
    else:
        print(found.text())
        say_next("data", *(("stats", root, "--protocol", "keyframes") if found.passed else ("verify", root, "--json")))
    if not found.passed:
        raise typer.Exit(1)


@app.command("adopt")
def adopt_folder(
    source: Annotated[Path, typer.Argument(help="A folder of your own, or a table of predictions.")],
    out: Annotated[Path, typer.Option(help="Where the clean view goes; must not exist, or be empty.")],
    frames_per_second: Annotated[
        float | None, typer.Option(help="Frame numbers per second, if the files do not say.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Make a folder or table in another format readable: a clean view with links, each assumption reported."""
    from calot.data.adopt import adopt

    made = adopt(source, out, frames_per_second=frames_per_second)
    if json:
        _print_json(made.to_dict())
        return
    print(f"{source}, as {out}; assumed:")
    for assumption in made.assumed or ["nothing"]:
        print(f"  {assumption}")
    print(made.understood)
    say_next(*(("metrics", out / "predictions.csv") if source.is_file() else ("data", "verify", out)))


@app.command("overlap")
def overlap_of_two(
    a: Annotated[Path, typer.Argument(help="A data set's folder, of any kind that calot reads.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    json: AsJson = False,
) -> None:
    """Find operations that are in both: published overlaps, equal UUIDs, and frames that look alike whatever their
    size, JPEG quality and borders; exit code 1 where there are any."""
    from dataclasses import asdict

    from calot.data.overlap.shared import overlap_of
    from calot.data.readers import open_folder
    from calot.data.understood import Understood
    from calot.progress import Ui
    from calot.run.signals import stop_on_signal

    ui, folders = Ui(), [open_folder(a), open_folder(b)]
    for folder in folders:
        ui.say(str(Understood.of(folder)))
    with stop_on_signal("stopped; what was looked at is kept. Run the same again to continue."):
        found = overlap_of(folders[0], folders[1], ui=ui)
    names = [folder.manifest.dataset for folder in folders]
    if json:
        _print_json({"a": str(a), "b": str(b), "datasets": names, "shared": [asdict(item) for item in found]})
    else:
        told = names if names[0] != names[1] else [str(a), str(b)]
        print(f"{len(found)} operations are in {told[0]} and in {told[1]}")
        for item in found:
            print(f"  {item}")
        say_next("data", "stats", b)
    if found:
        raise typer.Exit(1)


@app.command("phantom-check")
def phantom_check(
    root: Root,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read pictures.")] = 1,
    json: AsJson = False,
) -> None:
    """Audit a phantom against the real tables' statistics; exit code 1 when a figure lies outside its band."""
    from calot.phantom import audit

    found = audit(root, workers=workers)
    if json:
        _print_json(found.to_dict())
    else:
        print(found)
        say_next("data", "stats", root, "--protocol", "keyframes")
    if not found.passed:
        raise typer.Exit(1)


def _print_json(value: Any) -> None:
    print(json_module.dumps(value, indent=2, allow_nan=False))
