"""Test-time augmentation of a run: where its predictions go, what they state, and the clips as each view shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calot.data.clips import ClipTable
from calot.evaluation.tta import AugmentedView, ViewedClips
from calot.provenance.combination import Mean, MemberRun, ViewMean
from calot.provenance.combined_run import experiment_of, member_of
from calot.run.data import OpenData


@dataclass(frozen=True, kw_only=True)
class RunViews:
    """The views of a run's clips that are asked for, and how their predictions are averaged."""

    folder: Path
    member: MemberRun
    views: Sequence[AugmentedView]
    mean: Mean

    @classmethod
    def of(cls, folder: Path, *, views: Sequence[AugmentedView], mean: Mean) -> RunViews:
        """Raises CalotError where the run's files are not what they were, and where its receipt failed."""
        return cls(folder=folder, member=member_of(folder), views=views, mean=mean)

    @property
    def combination(self) -> ViewMean:
        """The mean over all views."""
        return self._mean_of(self.views)

    def of_view(self, view: AugmentedView) -> ViewMean:
        """What the table of one view alone says."""
        return self._mean_of([view])

    def _mean_of(self, views: Sequence[AugmentedView]) -> ViewMean:
        names, settings = tuple(view.name for view in views), tuple(map(repr, views))
        return ViewMean(members=(self.member,), mean=self.mean, views=names, settings=settings)

    def clips(self, table: ClipTable, *, data: OpenData) -> list[ViewedClips]:
        """The clips of a table as each view shows them."""
        rule, protocol, part = data.experiment.clip, data.experiment.protocol, data.manifest.split(table.split)
        before, store = protocol.before(rule.length), data.store(table.split)
        shown = [(view, view.clips(table, part=part, rule=rule, before=before)) for view in self.views]
        return [ViewedClips(clips, store, view=view) for view, clips in shown]

    def experiment(self) -> dict[str, Any]:
        """What stands for the resolved experiment: the run's own, and the views. It holds no seed, so that the seeds of
        one experiment under the same views form one side of a comparison."""
        settings = list(self.combination.settings)
        return {"_type": ViewMean.__name__, "views": settings, "mean": self.mean, "of": experiment_of(self.folder)}


def views_folder(folder: Path, *, tta: str, mean: Mean) -> Path:
    """Where a run's predictions with test-time augmentation go: a run's folder beside its own."""
    words = sorted(word.strip() for word in tta.split(","))
    whole = folder.resolve() if folder.name in ("", "..") else folder
    rule = "" if mean == "logits" else f"_{mean}"
    return whole.with_name(f"{whole.name}_tta_{'_'.join(words)}{rule}")
