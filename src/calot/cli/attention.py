"""`calot attention`: where a run's encoder looks, layer by layer and head by head, in numbers with intervals."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calot.cli.train import Results, Trust

if TYPE_CHECKING:
    from calot.cli.attention_sides import AttentionRun
    from calot.progress import Ui
    from calot.report.attention_files import AttentionFiles


def attention(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    against: Annotated[Path | None, typer.Option(help="Another run, shown the same clips.")] = None,
    split: Annotated[str, typer.Option(help="val or test. Every opening of test is counted and printed.")] = "val",
    clips: Annotated[int, typer.Option(min=1, help="At most so many, evenly over videos, masked ones first.")] = 48,
    data: Annotated[Path | None, typer.Option(help="The data folder, if it moved since training.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder; by default RUN/analysis/attention_SPLIT.")] = None,
    results: Results = Path("results"),
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    trust: Trust = False,
) -> None:
    """Entropy, attention on anatomy and border, distances and sinks of every layer and head, beside random weights,
    uniform attention and shuffled frames; with --against, what another run does differently."""
    from calot.cli.printed_attention import print_attention
    from calot.cli.train import trust_code
    from calot.destination import require_folder
    from calot.errors import CalotError
    from calot.progress import Ui
    from calot.report.attention_page import write_attention_page
    from calot.run.signals import stop_on_signal

    ui = Ui()
    trust_code(trust, run, *([against] if against is not None else []))
    folder = out or run / "analysis" / f"attention_{split}"
    if out is not None:
        require_folder(out, records=["attention.json"])
    if against is not None and run.resolve() == against.resolve():
        raise CalotError(f"--against {against}: is the run itself, which differs from itself in nothing; name another")
    with stop_on_signal(f"{run}: stopped; nothing was written. Run it again, perhaps with fewer --clips."):
        files = _read(run, against, split=split, clips=clips, data=data, results=results, ui=ui)
        files.write(folder)
    page = write_attention_page(folder)
    if json:
        print(jsonlib.dumps(files.facts | {"folder": str(folder), "layers": files.by_layer()}, indent=1))
        return
    print_attention(files)
    print(f"\nTables and page: {folder}\nOpen {page} in a browser.")


def _read(
    run: Path, against: Path | None, *, split: str, clips: int, data: Path | None, results: Path, ui: Ui
) -> AttentionFiles:
    """All passes over the clips, and their summary."""
    from calot.cli.attention_sides import AttentionRun, untrained_pass
    from calot.cli.openings import counting_test
    from calot.report.attention_files import AttentionFiles
    from calot.run import folder as run_folder
    from calot.statistics.attention import AGAINST, RANDOM_WEIGHTS, RUN, SHUFFLED, summarise_attention

    root = run_folder.data_root(run, named=data)
    mine = AttentionRun.of(run, data=root, ui=ui)
    theirs = None if against is None else AttentionRun.of(against, data=mine.data, ui=ui)
    if theirs is not None:
        _require_comparable(mine, theirs)
    run_folder.require_own_data(run, data=mine.data)
    counting_test(run, split=split, data=root, results=results, ui=ui)(mine.data.manifest.hash)
    chosen = mine.chosen(split, count=clips)
    one = mine.shown(chosen, variant=RUN)
    passes = [one, mine.shown(chosen, variant=SHUFFLED), untrained_pass(one, of=mine, variant=RANDOM_WEIGHTS)]
    changes = weights = None
    if theirs is not None:
        other = theirs.shown(theirs.same(chosen), variant=AGAINST)
        passes.append(other)
    read = {each.variant: _one_pass(each, ui=ui) for each in passes}
    if theirs is not None:
        changes, weights = _changed(one, other, ui=ui)
    heads, received = _joined([t.heads for t in read.values()]), _joined([t.received for t in read.values()])
    return AttentionFiles(
        facts=_facts(mine, theirs, one=one, split=split),
        heads=heads,
        received=received,
        changes=changes,
        weights=weights,
        summary=summarise_attention(heads, received, changes=changes),
        pictures=_pictures(one, {name: read[name].maps for name in (RUN, AGAINST) if name in read}),
    )


def _require_comparable(mine: AttentionRun, theirs: AttentionRun) -> None:
    from calot.analysis.attention_changes import require_comparable

    require_comparable(mine.model.backbone, theirs.model.backbone)


def _joined(tables: list[Any]) -> Any:
    import polars as pl

    return pl.concat(tables, how="diagonal")


def _one_pass(one: Any, *, ui: Ui) -> Any:
    from calot.analysis.attention import read_attention
    from calot.out_of_memory import while_scoring

    with ui.task(f"attention, {one.variant}") as advance:
        return read_attention(one, on_clips=advance, at_a_time=while_scoring(ui.say))


def _changed(one: Any, other: Any, *, ui: Ui) -> tuple[Any, Any]:
    from calot.analysis.attention_changes import attention_changes, weight_changes

    with ui.task("both runs side by side") as advance:
        changes = attention_changes(one, other, on_clips=advance)
    return changes, weight_changes(one.model.backbone, other.model.backbone)


def _facts(mine: AttentionRun, theirs: AttentionRun | None, *, one: Any, split: str) -> dict[str, Any]:
    """What the numbers are of, for attention.json."""
    from calot import __version__
    from calot.analysis.attention import DARK_LEVEL

    spec, table = mine.experiment.backbone, one.dataset.table
    masked = one.dataset.masks.which[:, 0] >= 0
    return {
        "format": 1,
        "calot": __version__,
        "run": mine.facts(),
        "against": None if theirs is None else theirs.facts(),
        "split": split,
        "clips": [[str(v), int(f)] for v, f in zip(table.videos, table.frame_numbers, strict=True)],
        "videos": len(set(table.videos.tolist())),
        "clips_with_mask": int(masked.sum()),
        "clips_with_true_mask": int(one.dataset.masks.real.sum()),
        "grid": list(spec.grid),
        "grids": [list(spec.grid_of(layer)) for layer in range(spec.layers)],
        "pixels": spec.size,
        "frames": spec.frames,
        "parts": spec.attention_parts,
        "extra_tokens": spec.extra_tokens,
        "window": one.places.window,
        "rotary": spec.rotary,
        "dark_level": DARK_LEVEL,
    }


def _pictures(one: Any, maps: dict[str, Any], *, count: int = 4) -> Any:
    """Frames and averaged maps of a few clips, one of each video as far as they go, those with a mask first."""
    import numpy as np

    from calot.analysis.attention import clips_over_videos
    from calot.report.attention_files import AttentionPictures

    table, bins = one.dataset.table, one.places.grid[0]
    chosen = clips_over_videos(table, masked=one.dataset.masks.which[:, 0] >= 0, count=count)
    rows = table.frames[chosen][:, :: table.frames.shape[1] // bins]
    frames = one.dataset.store.read(rows).transpose(0, 1, 3, 4, 2)
    names = [f"video {table.videos[i]} frame {table.frame_numbers[i]}" for i in chosen.tolist()]
    return AttentionPictures(names=names, frames=frames, maps={k: np.asarray(v[chosen]) for k, v in maps.items()})
