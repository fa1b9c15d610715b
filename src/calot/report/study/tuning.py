"""Each experiment and its baseline at the best of as many settings: what `calot study --tune` left in `tuned/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from calot.errors import CalotError
from calot.reading import read_record
from calot.report.canvas import ACCENT, MUTED, canvas, svg
from calot.report.figures import PANEL, legend_on
from calot.report.run_folder import RunFolder, read_run
from calot.report.study.blocks import DocumentBlock
from calot.report.study.folder import TUNED, StudyFolder
from calot.report.study.tables import called_of, decision_cell
from calot.report.tables import Cell, Row, Table, columns, points
from calot.statistics.decisions import Decision, RunOfSide, SideOfStudy, decide, require_one_protocol
from calot.statistics.sweep import FILE
from calot.statistics.tuned import LEAST_SETTINGS, TunedSide, require_equal_tuning, tuned_side

_RATES = "train.lr=1e-4,3e-4,1e-3,3e-3,1e-2"
_AGAIN = "train it again: calot study --tune ... --resume"


@dataclass(frozen=True, kw_only=True)
class TunedExperiment:
    """How each seed of an experiment chose its setting on val, and the runs that they chose."""

    choice: TunedSide
    side: SideOfStudy


def tuning_blocks(study: StudyFolder) -> list[DocumentBlock]:
    """Curves of all tuned experiments, and each against its baseline where both were tuned alike."""
    homes = sorted(path.parent for path in (study.path / TUNED).glob(f"*/{FILE}"))
    if not homes:
        text = (
            "Not run: every experiment here was trained at one setting, and one learning rate decides nothing between "
            f"two treatments. Give both the same {LEAST_SETTINGS} settings or more; each seed then takes its own best "
            "on val, and the comparison is made there:"
        )
        names = ",".join(name for name, one in study.experiments.items() if one.runs)
        where = f"--data ROOT --out {study.path.resolve().name}"
        return [DocumentBlock(text=text, code=f"calot study {where} --experiments {names} --tune {_RATES} --resume")]
    found = {home.name: _tuned(home) for home in homes}
    order = [name for name in study.experiments if name in found]
    pairs = {n: b for n in order if (b := study.experiments[n].baseline) is not None and b in found}
    blocks = [DocumentBlock(text=_lead(found)), DocumentBlock(table=_curves(found, order=order))]
    drawn = [_panel(found[name].choice, found[base].choice) for name, base in pairs.items()]
    if drawn:
        caption = "Mean val mAP over seeds by setting: the experiment, and its baseline dashed."
        blocks.append(DocumentBlock(charts=drawn, caption=caption))
    decisions = {name: _decided(found[name], found[base]) for name, base in pairs.items()}
    if decisions:
        blocks.append(DocumentBlock(table=_standing(decisions)))
        blocks += [DocumentBlock(text=f"At its own settings: {d.words}") for d in decisions.values()]
    return blocks


def _tuned(home: Path) -> TunedExperiment:
    """One sweep. Raises CalotError where its files are not a sweep's, or a run is missing."""
    try:
        settings = [str(item["setting"]) for item in read_record(home / FILE, remedy=_AGAIN)["settings"]]
    except (KeyError, TypeError) as error:
        raise CalotError(f"{home / FILE}: not a sweep that calot wrote ({error!r}); {_AGAIN}") from error
    runs = {setting: _seeds(home / setting) for setting in settings}
    every = {f"{s}/s{seed}": run for s, held in runs.items() for seed, run in held.items()}
    require_one_protocol({name: run.scored_frames for name, run in every.items()})
    tables = {s: {seed: run.predictions["val"] for seed, run in held.items()} for s, held in runs.items()}
    choice = tuned_side(tables, name=home.name)
    chosen = [runs[setting][seed] for seed, setting in zip(choice.seeds, choice.chosen, strict=True)]
    sides = [RunOfSide(seed=run.seed, table=run.predictions["val"], treatment=run.treatment) for run in chosen]
    return TunedExperiment(choice=choice, side=SideOfStudy(name=home.name, runs=sides))


def _seeds(setting: Path) -> dict[int, RunFolder]:
    runs = [read_run(path) for path in sorted(setting.glob("s*")) if path.is_dir()]
    if not runs or not all(run.finished for run in runs):
        raise CalotError(f"{setting}: a run of this setting is missing or not finished; {_AGAIN}")
    return {run.seed: run for run in runs}


def _decided(one: TunedExperiment, other: TunedExperiment) -> Decision:
    try:
        require_equal_tuning([one.choice, other.choice])
    except CalotError as error:
        words = str(error).removeprefix("compare --tuned: ")
        return Decision(a=one.side.name, b=other.side.name, kind="undefined", words=f"Refused: {words}.")
    return decide(one.side, other.side)


def _lead(found: dict[str, TunedExperiment]) -> str:
    ends = [
        f"{name} ({t.choice.at_an_end} of {len(t.choice.seeds)})" for name, t in found.items() if t.choice.at_an_end
    ]
    warned = f" Seeds chose an end of the range, so that a better setting may lie beyond: {', '.join(ends)}."
    beyond = warned if ends else ""
    return (
        "Each seed takes the setting with its own highest val mAP, on either side, so that both are flattered alike "
        f"and runs stay independent.{beyond}"
    )


def _curves(found: dict[str, TunedExperiment], *, order: list[str]) -> Table:
    rows = []
    for name in order:
        choice = found[name].choice
        for score in choice.curve:
            each = ", ".join(f"{100 * value:.2f}" for value in score.map_by_seed)
            cells: list[Cell] = [name, score.setting, points(score.mean_map), each]
            rows.append(Row(cells=[*cells, str(choice.chosen.count(score.setting))]))
    heads = ("setting", "mean val mAP", "seed by seed", "chosen by, seeds")
    names = columns("experiment", *heads, text=("setting", "seed by seed"))
    return Table(title="Val mAP by setting", columns=names, rows=rows)


def _standing(decisions: dict[str, Decision]) -> Table:
    rows = []
    for name, found in decisions.items():
        smallest = None if found.comparison is None else found.comparison.map.minimum_detectable
        cells: list[Cell] = [name, found.b, decision_cell(found), points(smallest, reason="")]
        rows.append(Row(cells=[*cells, called_of(found)]))
    heads = ("baseline", "difference", "detectable, 80 % power", "verdict")
    names = columns("experiment", *heads, text=("baseline", "verdict"))
    return Table(title="Against its baseline, both tuned, val split", columns=names, rows=rows)


def _panel(one: TunedSide, other: TunedSide) -> Markup:
    names = [score.setting.rpartition("=")[2] for score in one.curve]
    places = np.arange(len(names))
    mine, theirs = ([100 * score.mean_map for score in side.curve] for side in (one, other))
    with canvas(width=PANEL[0], height=PANEL[1]) as figure:
        axes = figure.subplots()
        axes.plot(np.arange(len(theirs)), theirs, "o--", color=MUTED, markersize=3.2, label=other.name)
        axes.plot(places, mine, "o-", color=ACCENT, markersize=3.2, label=one.name)
        axes.set_xticks(places, names)
        axes.set(xlabel=one.curve[0].setting.rpartition("=")[0] or "setting", title="Val mAP by setting, points")
        legend_on(axes)
        ends = f"{one.name} {min(mine):.1f} to {max(mine):.1f}, {other.name} {min(theirs):.1f} to {max(theirs):.1f}"
        return svg(figure, name=f"tuned-{one.name}", describe=f"Mean val mAP over seeds by setting: {ends}")
