"""The document's chapters: header, summary, ladder, one chapter per experiment, published systems, limits."""

from __future__ import annotations

from calot.criteria import CRITERIA, label
from calot.provenance.run_facts import CAUSAL, LAST_EPOCH
from calot.report.forest import Estimate, difference_forest, forest
from calot.report.results import candidates_text, openings_text
from calot.report.scores import interval_facts
from calot.report.study.answers import study_command
from calot.report.study.blocks import DocumentBlock
from calot.report.study.figures import seed_curves
from calot.report.study.folder import TUNED, StudiedExperiment, StudyFolder
from calot.report.study.published import PUBLISHED, why_not_comparable
from calot.report.study.tables import (
    by_epoch,
    called_of,
    decision_cell,
    epoch_table,
    interval_cell,
    scores_table,
    settings_table,
    standing_table,
    training_table,
)
from calot.report.tables import Cell, Fact, Row, Table, columns, points
from calot.report.verdict import spoken_list
from calot.statistics.intervals import video_intervals
from calot.statistics.metrics import prevalence
from calot.statistics.outcome import ENOUGH_SEEDS, LEVEL
from calot.statistics.rounding import how_many


def header_facts(study: StudyFolder) -> list[Fact]:
    """How the numbers of all runs came about."""
    run = study.finished[0]
    data, table = run.data, run.predictions["val"]
    causal = "unknown" if data.get("causal") is None else CAUSAL[bool(data["causal"])]
    positives = ", ".join(f"{label(c)} {int(table.labels[:, k].sum()):,}" for k, c in enumerate(CRITERIA))
    weights = sorted({one.weights for one in study.finished if one.weights})
    codes = {str(one.environment.get("code")) for one in study.finished}
    seeds = sorted({one.seed for one in study.finished})
    videos, frames = len(set(table.videos.tolist())), len(table.labels)
    return [
        Fact(name="Data", text=f"{data.get('dataset')}{', synthetic' if run.synthetic else ''}"),
        Fact(name="Protocol", text=f"{data.get('protocol')}, {data.get('window')}; {causal}"),
        Fact(name="Label rule", text=str(data.get("label_rule"))),
        Fact(name="Scored, val", text=f"{videos} videos, {frames:,} frames; positives: {positives}"),
        Fact(name="Seeds", text=", ".join(map(str, seeds))),
        Fact(name="Selection", text="; ".join(sorted({one.chosen for one in study.finished}))),
        Fact(name="Test openings", text=openings_text(study.results, manifest_hash=run.manifest_hash)),
        Fact(name="Tried", text=candidates_text(study.results, manifest_hash=run.manifest_hash)),
        Fact(name="Scale", text=str(run.experiment.get("scale"))),
        Fact(name="Changed in every experiment", text=" ".join(study.changes) or "nothing"),
        Fact(name="Encoder weights", text="; ".join(weights) or "unknown", wide=True),
        Fact(
            name="Code", text=f"calot {run.environment.get('calot')}, {how_many(len(codes), 'version')} of its sources"
        ),
        Fact(name="Frame manifest, sha256", text=str(run.manifest_hash), wide=True, code=True),
    ]


def summary_blocks(study: StudyFolder) -> list[DocumentBlock]:
    """The header, mAP of every experiment as a figure, the table, and what is missing by name."""
    shown = [(one, one.intervals) for one in study.experiments.values()]
    run = study.finished[0]
    labels = run.predictions["val"].labels
    chance = sum(prevalence(labels[:, k]) for k in range(len(CRITERIA))) / len(CRITERIA)
    rows = [Estimate(name=one.name, interval=held.map, chance=chance) for one, held in shown if held is not None]
    found = [DocumentBlock(facts=header_facts(study))]
    if rows:
        caption = (
            "Dot: val macro mAP, mean over seeds. Bar: 95 % interval over videos. Upright tick: chance, the mean "
            "prevalence. Bars that overlap do not mean “no difference”: all experiments share their videos, so only "
            "paired differences can tell."
        )
        found.append(DocumentBlock(forest=forest(rows, title="val macro mAP, points", close=True), caption=caption))
    found += [DocumentBlock(table=make(study)) for make in (scores_table, standing_table, training_table)]
    return [*found, *_missing(study)]


def _missing(study: StudyFolder) -> list[DocumentBlock]:
    said = {one.name: one.absent for one in study.experiments.values() if one.absent}
    if not said:
        return []
    text = "; ".join(f"{name}: {', '.join(runs)}" for name, runs in said.items())
    return [
        DocumentBlock(
            heading="Not finished",
            text=f"These runs were asked for and are not in any number: {text}. To continue:",
            code=study_command(study, list(study.experiments)),
        )
    ]


def ladder_blocks(study: StudyFolder) -> list[DocumentBlock]:
    """Every experiment against the one that all descend from, on the same videos, in the study's order."""
    root = study.root
    if root is None:
        return []
    rows, bars = [], []
    best: float | None = None
    for name, one in study.experiments.items():
        if not one.runs:
            continue
        value = None if one.intervals is None else one.intervals.map.value
        rung = "" if value is None or (best is not None and value <= best) else "highest so far"
        best = value if rung else best
        step = study.against_baselines.get(name)
        whole = None if name == root else study.against(name, root)
        cells: list[Cell] = [name, one.baseline or "none", points(value, reason=""), rung]
        cells += ["" if step is None else decision_cell(step), "" if whole is None else decision_cell(whole)]
        rows.append(Row(cells=[*cells, "" if whole is None else called_of(whole)]))
        if whole is not None and whole.comparison is not None and whole.kind != "invalid":
            bars.append(Estimate(name=name, interval=whole.comparison.map))
    heads = ("baseline", "mAP", "ladder", "minus its baseline", f"minus {root}", "verdict")
    names = columns("experiment", *heads, text=("baseline", "ladder", "verdict"))
    note = (
        "“Highest so far” is the highest mean mAP down to this row. The highest of many means is flattered by having "
        "been the highest: a rung is a step only where the difference from its baseline is called."
    )
    table = Table(title="Progress in the study's order", columns=names, rows=rows, note=note)
    caption = f"Difference of val mAP from {root} on the same videos, in points, with its 95 % interval."
    figure = difference_forest(bars, title=f"minus {root}, points of mAP") if bars else None
    return [DocumentBlock(forest=figure, caption=caption if bars else ""), DocumentBlock(table=table)]


def experiment_blocks(study: StudyFolder, one: StudiedExperiment, *, number: int) -> list[DocumentBlock]:
    """An experiment: question, command, verdict, curves, settings that differ, by epoch."""
    question, *rest = one.header or ("its folder has no header",)
    documented = " ".join(" ".join(rest).split())
    text, _, command = documented.rpartition("calot train ")
    text = text if command and text else documented
    command = study_command(study, [one.name])
    found = [DocumentBlock(heading=one.name, anchor=f"e-{one.name}", text=" ".join(question.split()), code="")]
    found += [DocumentBlock(text=text.strip())] if text.strip() else []
    found.append(DocumentBlock(text=verdict_on(study, one), code=command))
    means = by_epoch(one.sound)
    scored = means["val_map"].is_finite().sum() if means.height else 0
    if scored == 1:
        found.append(DocumentBlock(text="Val was scored after the last epoch alone: there is no curve to draw."))
    elif scored:
        caption = (
            "Each seed's val mAP (thin), their mean (bold), clean training clips (grey), the gap between (shaded); AP "
            "of each criterion on val, mean over seeds."
        )
        found.append(DocumentBlock(charts=seed_curves(one.sound, means=means, name=f"study-{number}"), caption=caption))
    for table, words in ((settings_table(study, one), "Settings that differ"), (epoch_table(one), "By epoch")):
        if table is not None:
            found.append(DocumentBlock(table=table, folded=words))
    return found


def verdict_on(study: StudyFolder, one: StudiedExperiment) -> str:
    """An experiment against its baseline in words that follow from the interval."""
    if not one.runs:
        return f"Not run: {', '.join(one.absent) or 'no finished run'}."
    if one.baseline is None:
        return "It names no baseline: others are held against it."
    found = study.against(one.name, one.baseline)
    notes = f" Notes: {'; '.join(found.notes)}." if found.notes else ""
    if found.kind == "not run" and one.baseline not in study.experiments:
        return f"Not compared: its baseline {one.baseline} is not in this study.{notes}"
    return f"Against {one.baseline}: {found.words}{notes}"


def published_blocks(study: StudyFolder) -> list[DocumentBlock]:
    """Test mAP beside published systems under the same protocol and split; else why not."""
    run = study.finished[0]
    tested = {
        one.name: [r.predictions["test"] for r in one.sound if "test" in r.predictions]
        for one in study.experiments.values()
    }
    own = {name: video_intervals(tables).map for name, tables in tested.items() if tables}
    why = why_not_comparable(
        dataset=str(run.data.get("dataset")),
        synthetic=run.synthetic,
        protocol=str(run.data.get("protocol")),
        tested=bool(own),
    )
    if why:
        return [DocumentBlock(text=f"No gap is given: {why}.")]
    rows = []
    for system in PUBLISHED:
        spread = "one run" if system.spread is None else f"± {system.spread:g}"
        cells: list[Cell] = [system.system, f"{system.map:.2f}", spread, system.note]
        for item in own.values():
            gap = None if item.value is None else item.value - system.map / 100
            low, high = (None if end is None else end - system.map / 100 for end in (item.low, item.high))
            cells.append(interval_cell(type(item)(value=gap, low=low, high=high, reason=item.reason), sign=True))
        rows.append(Row(cells=cells))
    heads = ("test mAP as published", "spread", "note", *(f"{name} minus it" for name in own))
    table = Table(
        title="Test split, keyframes, majority of raters",
        columns=columns("system", *heads, text=("spread", "note")),
        rows=rows,
        note="The interval is that of these runs alone, over videos: a published mean is taken as it stands, as its "
        "predictions are not available. Nobody has published V-JEPA 2 on this test split.",
    )
    return [DocumentBlock(table=table)]


def limit_blocks(study: StudyFolder) -> list[DocumentBlock]:
    """What these numbers cannot show."""
    few = [one.name for one in study.experiments.values() if 0 < len(one.sound) < ENOUGH_SEEDS]
    made = sum(found.comparison is not None for found in study.against_baselines.values())
    said = [
        _selected(study),
        f"{made} experiments are held against their baselines, each at {100 * (1 - LEVEL):.0f} %: of so many equal "
        f"pairs about {made * (1 - LEVEL):.1f} would be called different by chance. Nothing is corrected over "
        "experiments.",
        _settings_limit(study),
        "An interval over videos says how another sample of such operations would come out, not how another "
        "hospital, camera or team would.",
    ]
    if few:
        said.append(f"Fewer than {ENOUGH_SEEDS} seeds, so about these checkpoints alone: {spoken_list(few)}.")
    if study.finished[0].synthetic:
        said.append(
            "Phantom operations: whether a treatment takes effect, and how large a difference such a design finds, can "
            "be seen here. Which treatment is better for real operations cannot."
        )
    if str(study.finished[0].experiment.get("scale")) == "tiny":
        said.append("Tiny scale: the same code with a small encoder; ViT-L may order the experiments otherwise.")
    held = next((one.intervals for one in study.experiments.values() if one.intervals is not None), None)
    facts = interval_facts(held) if held is not None else []
    return [*(DocumentBlock(text=text) for text in said), DocumentBlock(facts=facts)]


def _settings_limit(study: StudyFolder) -> str:
    if (study.path / TUNED).is_dir():
        return (
            "Scores and differences above are at one setting an experiment; the chapter on tuning alone gives both "
            "sides the same budget."
        )
    return (
        "One setting an experiment: a treatment that would do better at another learning rate is not told from one "
        "that would not. `calot compare --tuned` gives both sides the same budget."
    )


def _selected(study: StudyFolder) -> str:
    once = [one.chosen == LAST_EPOCH for one in study.finished]
    if all(once):
        return "Val was scored after the last epoch alone: no epoch was chosen by it, and none is shown to be the best."
    alike = "in every experiment alike" if not any(once) else "but for runs that were scored after the last epoch alone"
    return f"Val chose the epochs whose scores stand here: val mAP is optimistic, {alike}."
