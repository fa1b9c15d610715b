"""The study's root causes, read from what `calot attention` and `calot explain` left in the runs, else what to type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from calot.criteria import CRITERIA, HEPATOCYSTIC_TRIANGLE, label
from calot.errors import CalotError
from calot.provenance.run_facts import LAST_EPOCH
from calot.report.attention_files import AttentionFiles
from calot.report.run_folder import RunFolder
from calot.report.study.blocks import DocumentBlock
from calot.report.study.folder import StudiedExperiment, StudyFolder
from calot.report.study.tables import interval_cell, overfitting_table
from calot.report.tables import Cell, Row, Table, columns, number, percent, points, ranged
from calot.report.verdict import spoken_list, standing
from calot.statistics.attention import AGAINST, RANDOM_WEIGHTS, RUN, STUDY
from calot.statistics.intervals import Interval
from calot.statistics.metrics import prevalence

_SPLIT = "val"


def cause_blocks(study: StudyFolder) -> list[DocumentBlock]:
    """Uniform attention, blindness to C2, overfitting, features against classification."""
    return [*_uniform(study), *_blind(study), *_overfitting(study), *_feature_gap(study)]


def _segments(run: RunFolder) -> bool:
    """Whether a run has a decoder, whose masks can be asked, too."""
    return "segmentation" in str((run.experiment.get("experiment") or {}).get("heads")).lower()


def attention_of(run: RunFolder) -> AttentionFiles | str:
    """What `calot attention` left in a run, or why there is none."""
    folder = run.path / "analysis" / f"attention_{_SPLIT}"
    if not folder.is_dir():
        return "not read"
    try:
        return AttentionFiles.read(folder)
    except CalotError as error:
        return str(error).replace(f"{run.path.parent}/", "")


def _has_attention(run: RunFolder) -> bool:
    return isinstance(attention_of(run), AttentionFiles)


def attention_block(study: StudyFolder, names: Sequence[str], *, heading: str = "") -> DocumentBlock:
    """A table of the attention of these experiments' runs, or the commands that read it."""
    rows, wanted = [], []
    for name in names:
        one = study.experiments.get(name)
        found = [(run, attention_of(run)) for run in one.sound] if one else []
        read = [(run, files) for run, files in found if isinstance(files, AttentionFiles)]
        rows += [Row(cells=_attention_row(run, files)) for run, files in read]
        if found and not read:
            wanted.append(_command(study, found[0][0]))
    code = "\n".join(wanted)
    if not rows:
        text = "Where these runs look was not read. To read it:" if wanted else "None of these runs is finished."
        return DocumentBlock(heading=heading, text=text, code=code)
    heads = (
        "true entropy, % of the most",
        "random weights",
        "averaged map, the study’s figure",
        "changed against",
        "maps apart, most",
        "CKA, least",
        "update of weights, by target",
    )
    table = Table(
        title=f"Attention on {_SPLIT}, means over heads, the range over layers",
        columns=columns("run", *heads, text=heads),
        rows=rows,
        note="True entropy: of each query's own attention, after adapters and rotary embedding. The study's figure is "
        "of the map averaged over heads, queries and clips: it can lie near 100 % however sharp each query is. Apart: "
        "mean total variation distance of the two runs' maps on the same clips (0 the same, 1 nothing shared).",
    )
    text = "Not read for the others:" if wanted else ""
    return DocumentBlock(heading=heading, table=table, text=text, code=code)


def _command(study: StudyFolder, run: RunFolder) -> str:
    baseline = study.experiments.get(str(run.experiment.get("baseline")))
    twin = next((r for r in baseline.sound if r.seed == run.seed), None) if baseline else None
    against = "" if twin is None else f" --against {_shown(study, twin)}"
    return f"calot attention {_shown(study, run)} --split {_SPLIT}{against}"


def _shown(study: StudyFolder, run: RunFolder) -> str:
    """A run's folder as a person types it from beside the study's."""
    return (Path(study.path.resolve().name) / run.path.resolve().relative_to(study.path.resolve())).as_posix()


def _attention_row(run: RunFolder, files: AttentionFiles) -> list[Cell]:
    against = files.facts.get("against") or {}
    name = f"{against.get('name')}, seed {against.get('seed')}" if against else "none"
    cells: list[Cell] = [f"{run.name}, seed {run.seed}", _range(files.means("entropy", variant=RUN))]
    cells += [_range(files.means("entropy", variant=RANDOM_WEIGHTS)), _range(files.means(STUDY, variant=RUN)), name]
    apart, cka = (_known(files.means(what, variant=RUN, less=AGAINST)) for what in ("apart", "cka"))
    cells += [number(max(apart), reason="") if apart else "", number(min(cka), reason="") if cka else ""]
    return [*cells, _updates(files)]


def _known(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    return [float(row["value"]) for row in rows if row.get("value") is not None]


def _range(rows: Sequence[Mapping[str, Any]]) -> str:
    values = _known(rows)
    if not values:
        return ""
    low, high = 100 * min(values), 100 * max(values)
    return f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"


def _updates(files: AttentionFiles) -> str:
    """The largest relative update of any layer, by target."""
    if files.weights is None or "relative" not in files.weights.columns:
        return ""
    by_target: dict[str, float] = {}
    for row in files.weights.select("target", "relative").to_dicts():
        if row["relative"] is not None:
            by_target[row["target"]] = max(by_target.get(row["target"], 0.0), float(row["relative"]))
    return ", ".join(f"{target} {value:.3g}" for target, value in by_target.items())


def _uniform(study: StudyFolder) -> list[DocumentBlock]:
    names = [name for name, one in study.experiments.items() if one.sound]
    read = [files for run in study.finished if isinstance(files := attention_of(run), AttentionFiles)]
    heading = "Is attention uniform?"
    if not read:
        return [attention_block(study, names[:2], heading=heading)]
    true = [v for files in read for v in _known(files.means("entropy", variant=RUN))]
    text = (
        f"Over the layers of {len(read)} run{'' if len(read) == 1 else 's'}, a query's attention has "
        f"{100 * min(true):.1f} to {100 * max(true):.1f} "
        "% of the largest entropy there is; uniform attention has 100 %. The table has the study's figure beside it."
    )
    with_files = [
        name
        for name in names
        if any(isinstance(attention_of(r), AttentionFiles) for r in study.experiments[name].sound)
    ]
    return [DocumentBlock(heading=heading, text=text), attention_block(study, with_files)]


def _blind(study: StudyFolder) -> list[DocumentBlock]:
    """AP of each criterion beside its prevalence, and whether C2's interval leaves it out."""
    rows, verdicts = [], dict[str, list[str]]()
    words = {
        "above": "above chance",
        "below": "below chance",
        "level": "not told from chance",
        "unknown": "without an interval",
    }
    for name, one in study.experiments.items():
        held = one.intervals
        if held is None:
            continue
        labels = one.sound[0].predictions["val"].labels
        chance = {c: prevalence(labels[:, k]) for k, c in enumerate(CRITERIA)}
        said = {c: words[standing(held.ap[c], chance=chance[c])] for c in CRITERIA}
        verdicts.setdefault(said[HEPATOCYSTIC_TRIANGLE], []).append(name)
        cells: list[Cell] = [name]
        for criterion in CRITERIA:
            cells += [interval_cell(held.ap[criterion]), said[criterion]]
        rows.append(Row(cells=cells))
    if not rows:
        return []
    at = ", ".join(f"{label(c)} {100 * chance[c]:.1f}" for c in CRITERIA)
    told = "; ".join(f"{kind} in {spoken_list(names)}" for kind, names in verdicts.items())
    heads = [head for c in CRITERIA for head in (f"AP {label(c)}", "against chance")]
    table = Table(
        title=f"AP beside chance, which is the prevalence in val: {at}",
        columns=columns("experiment", *heads, text=("against chance",)),
        rows=rows,
    )
    level = {c: sum(row.cells[2 + 2 * k] == words["level"] for row in rows) for k, c in enumerate(CRITERIA)}
    beside = [c for c in CRITERIA if c != HEPATOCYSTIC_TRIANGLE]
    others = ", ".join(f"{label(c)} in {level[c]} of {len(rows)}" for c in beside)
    text = f"Column C2 is the hepatocystic triangle. Its AP is {told}. {words['level'].capitalize()}, too: {others}."
    found = [DocumentBlock(heading="Is C2 blind?", text=text, table=table)]
    return [*found, *_detections(study)]


def _overfitting(study: StudyFolder) -> list[DocumentBlock]:
    table = overfitting_table(study)
    if not table.rows:
        return []
    if all(one.chosen == LAST_EPOCH for one in study.finished):
        text = "Val was scored after the last epoch alone: whether it peaked before is not seen here."
        return [DocumentBlock(heading="Overfitting", text=text, table=table)]
    early = [row.cells[0] for row in table.rows if str(row.cells[2]).split(" of ")[0] == str(row.cells[2]).split()[-1]]
    text = f"Experiments whose val mAP peaks before its last epoch in every seed: {len(early)} of {len(table.rows)}."
    return [DocumentBlock(heading="Overfitting", text=text, table=table)]


def _feature_gap(study: StudyFolder) -> list[DocumentBlock]:
    asked = "CVS AP from true masks, from predicted masks, from tokens pooled inside the mask, from all tokens: "
    heading = "The gap between features and classification"
    if found := _gaps(study):
        return [DocumentBlock(heading=heading, text=f"{asked}the figures of calot explain."), *found]
    runs = [run for one in study.experiments.values() for run in one.sound]
    segmenting = [run for run in runs if _segments(run)]
    run = next(iter(segmenting or runs), None)
    code = "" if run is None else f"calot explain {_shown(study, run)} --split {_SPLIT} --parts criteria,feature_gap"
    return [DocumentBlock(heading=heading, text=f"{asked}not read. To read it:", code=code)]


def _part_tables(study: StudyFolder, *, part: str, title: str) -> list[tuple[RunFolder, pl.DataFrame]]:
    """A table of one part of `calot explain`, of each run that has it. Raises CalotError for one that is damaged."""
    found = []
    for run in study.finished:
        path = run.path / "analysis" / f"explain_{_SPLIT}" / f"{part}_{title}.parquet"
        if not path.is_file():
            continue
        try:
            found.append((run, pl.read_parquet(path)))
        except (OSError, pl.exceptions.PolarsError) as error:
            again = f"calot explain {_shown(study, run)} --parts {part}"
            raise CalotError(f"{path}: cannot be read ({type(error).__name__}); make it again: {again}") from error
    return found


def _detections(study: StudyFolder) -> list[DocumentBlock]:
    """AP on clips on which one criterion alone is met, from `calot explain`."""
    rows = []
    for run, table in _part_tables(study, part="criteria", title="detection"):
        for row in table.to_dicts():
            ap = Interval(value=row["ap"], low=row["ap_low"], high=row["ap_high"], reason=_FEW_CLIPS)
            cells: list[Cell] = [f"{run.name}, seed {run.seed}", label(row["criterion"]), interval_cell(ap)]
            rows.append(Row(cells=[*cells, points(row["chance"]), row["says"]]))
    if not rows:
        return []
    heads = ("criterion", "AP", "chance", "says")
    names = columns("run", *heads, text=("criterion", "says"))
    return [DocumentBlock(table=Table(title=_DETECTION, columns=names, rows=rows))]


_DETECTION = "Detection by criterion on clips on which it alone is met, from calot explain"
_FEW_CLIPS = "too few clips"


def _gaps(study: StudyFolder) -> list[DocumentBlock]:
    """mAP from true masks, predicted masks and tokens, and the differences between them, from `calot explain`."""
    blocks = []
    for title, words, name in (
        ("scores", ("features",), "Probes on features of the same clips: mAP"),
        ("differences", ("features", "less"), "One kind of features less another: points of mAP"),
    ):
        rows = []
        for run, table in _part_tables(study, part="feature_gap", title=title):
            for row in table.filter(pl.col("criterion").is_null()).to_dicts():
                value = Interval(**{key: row[key] for key in ("value", "low", "high", "reason")})
                cells: list[Cell] = [f"{run.name}, seed {run.seed}", *(row[word] for word in words)]
                rows.append(Row(cells=[*cells, interval_cell(value, sign=title == "differences")]))
        if rows:
            shown = columns("run", *words, "mAP", text=words)
            blocks.append(DocumentBlock(table=Table(title=f"{name}, from calot explain", columns=shown, rows=rows)))
    return blocks


def supervision_table(experiments: Sequence[StudiedExperiment]) -> Table | None:
    """What runs with supervision kept of attention on the anatomy; None where none did."""
    rows = []
    for one in experiments:
        for run in one.sound:
            held = run.attention
            if held is not None:
                cells: list[Cell] = [f"{run.name}, seed {run.seed}", ranged(held.mass), percent(held.area.value)]
                rows.append(Row(cells=[*cells, ranged(held.enrichment, digits=2), str(held.clips)]))
    if not rows:
        return None
    heads = ("attention on the anatomy, share", "its area", "over its area", "clips with a mask")
    return Table(title="Attention on the anatomy, chosen epoch", columns=columns("run", *heads), rows=rows)
