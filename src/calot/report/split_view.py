"""One scored split of a run, as the page shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from calot.report import scores
from calot.report.behaviour_view import BehaviourView, behaviour_view
from calot.report.criterion_tables import calibration_table, ceiling_table, decisions_table
from calot.report.forest import Forest
from calot.report.per_video import VideosView, videos_view
from calot.report.run_folder import RunFolder
from calot.report.tables import Table
from calot.statistics.appearance import NO_DATA, Appearance, appearance_file, appearance_of, read_appearance
from calot.statistics.behaviour import behaviour_of
from calot.statistics.frozen import FrozenOnVal
from calot.statistics.summary import Summary


@dataclass(frozen=True, kw_only=True)
class SplitView:
    """One scored split of a run."""

    name: str
    forest: Forest
    ap: Table
    note: str
    reliability: Sequence[Markup]
    calibration: Table
    decisions: Table
    decision_curves: Sequence[Markup]
    ceiling: Table | None
    no_ceiling: str
    videos: VideosView | None
    behaviour: BehaviourView


def split_view(run: RunFolder, *, summary: Summary, split: str, frozen: FrozenOnVal | None) -> SplitView:
    """Everything of one split; `frozen` was chosen on val."""
    thresholds = summary.thresholds
    behaviour = behaviour_of(summary, frozen=frozen, appearance=_appearance(run, summary=summary, split=split))
    return SplitView(
        name=split,
        forest=scores.interval_forest(summary, split=split),
        ap=scores.ap_table(summary, split=split),
        note=" ".join(part for part in (scores.over_defined(summary), *summary.predictions.notes) if part),
        reliability=scores.reliability_figures(summary) if split == "val" else (),
        calibration=calibration_table(summary, split=split),
        decisions=decisions_table(summary, split=split),
        decision_curves=scores.decision_figures(summary, split=split),
        ceiling=ceiling_table(summary.ceiling, split=split),
        no_ceiling=summary.ceiling.reason or "",
        videos=videos_view(summary.predictions, thresholds=thresholds) if thresholds else None,
        behaviour=behaviour_view(behaviour, split=split),
    )


def _appearance(run: RunFolder, *, summary: Summary, split: str) -> Appearance:
    """What was kept of the frames' brightness and sharpness beside the run's data set."""
    root = run.data.get("root")
    if not isinstance(root, str) or not Path(root).is_dir():
        return Appearance(reason=NO_DATA)
    path = appearance_file(Path(root), manifest_hash=summary.predictions.manifest_hash, split=split)
    return appearance_of(summary.predictions, kept=read_appearance(path))
