"""A study's folder as a value: its experiments with their runs by seed, and what was asked for and is not there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from calot.errors import CalotError
from calot.provenance.run_facts import is_treatment, leaves
from calot.reading import LARGEST_RECORD, read_record, read_text
from calot.report.baseline import one_a_seed
from calot.report.results import find_results
from calot.report.run_folder import RunFolder, find_runs, read_run
from calot.report.study.questions import QUESTIONS, WRONG
from calot.statistics.decisions import Decision, RunOfSide, SideOfStudy, decide, require_one_protocol
from calot.statistics.intervals import VideoIntervals, video_intervals

#: Where `calot study --tune` puts the runs of every setting.
TUNED = "tuned"
_SEED = re.compile(r"s(\d+)\b")
_JOBS, _FAILED = "jobs.json", ("invalid", "refused", "died")
_REMEDY = "restore it from a copy, or give calot study the same command with --resume"


@dataclass(frozen=True, kw_only=True)
class StudiedExperiment:
    """One experiment: its finished runs (the newest of each seed), those under way, and those not begun."""

    name: str
    runs: Sequence[RunFolder]
    unfinished: Sequence[RunFolder] = ()
    missing: Sequence[str] = ()

    @property
    def any_run(self) -> RunFolder | None:
        """One to read from what all seeds share; None where nothing was begun."""
        return next(iter((*self.runs, *self.unfinished)), None)

    @property
    def sound(self) -> list[RunFolder]:
        """The finished runs whose receipt did not fail."""
        return [run for run in self.runs if run.has_result]

    @property
    def baseline(self) -> str | None:
        """The experiment that it names."""
        value = None if self.any_run is None else self.any_run.experiment.get("baseline")
        return None if value is None else str(value)

    @cached_property
    def header(self) -> Sequence[str]:
        """The docstring of the experiment's file by paragraph: question, then what was documented, then the command."""
        text = "" if self.any_run is None else str(self.any_run.experiment.get("header") or "")
        return [part.strip() for part in text.split("\n\n") if part.strip()]

    @cached_property
    def side(self) -> SideOfStudy:
        """For a comparison."""
        runs = [RunOfSide(seed=r.seed, table=r.predictions["val"], treatment=r.treatment) for r in self.runs]
        return SideOfStudy(name=self.name, runs=runs, missing=self.absent)

    @property
    def left(self) -> list[str]:
        """The runs that are not finished, one by one."""
        return [*(f"s{run.seed}" for run in self.unfinished), *self.missing]

    @property
    def absent(self) -> list[str]:
        """The runs that are not finished, in few words: `s0 (died: ...)`, `s1 to s4 (waiting)`."""
        found: list[tuple[list[str], str]] = []
        for run in self.left:
            name, _, state = run.partition(" ")
            if found and found[-1][1] == state and _follows(name, found[-1][0][-1]):
                found[-1][0].append(name)
            else:
                found.append(([name], state))
        spans = [(names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}", state) for names, state in found]
        return [f"{span} {state}".strip() for span, state in spans]

    @property
    def seeds(self) -> set[int]:
        """Those that were asked for, finished or not."""
        begun = {run.seed for run in (*self.runs, *self.unfinished)}
        return begun | {int(found[1]) for run in self.missing if (found := _SEED.match(run))}

    @cached_property
    def intervals(self) -> VideoIntervals | None:
        """Of the mean over the seeds that count; None where none does."""
        return video_intervals([run.predictions["val"] for run in self.sound]) if self.sound else None


@dataclass(frozen=True, kw_only=True)
class StudyFolder:
    """Everything the document is made from; experiments in the order in which they were asked for."""

    path: Path
    results: Path
    experiments: Mapping[str, StudiedExperiment]
    changes: Sequence[str]
    _decisions: dict[tuple[str, str], Decision] = field(default_factory=dict, repr=False)

    @property
    def finished(self) -> list[RunFolder]:
        """Every finished run."""
        return [run for one in self.experiments.values() for run in one.runs]

    def against(self, a: str, b: str) -> Decision:
        """a minus b by the rules of `calot.statistics.decisions`, computed once."""
        if (a, b) not in self._decisions:
            sides = [self.experiments[n].side if n in self.experiments else SideOfStudy(name=n) for n in (a, b)]
            self._decisions[a, b] = decide(sides[0], sides[1])
        return self._decisions[a, b]

    @property
    def against_baselines(self) -> dict[str, Decision]:
        """By experiment, what is said of it against the baseline that it names, where that is here."""
        held = {name: one.baseline for name, one in self.experiments.items()}
        return {name: self.against(name, b) for name, b in held.items() if b is not None and b in self.experiments}

    def differing(self, a: str, b: str) -> list[tuple[str, Any, Any]]:
        """Fields of the treatment in which two experiments differ, with a's and b's value; of a component of another
        class only its own field."""
        runs = [self.experiments[name].any_run for name in (a, b) if name in self.experiments]
        values = [run.experiment.get("experiment") or {} for run in runs if run is not None]
        if len(values) < 2:
            return []
        one, other = map(leaves, values)
        names = [n for n in dict.fromkeys((*one, *other)) if n.split(".")[0] not in _LABELS and is_treatment(n)]
        found: list[str] = []
        for name in sorted(names, key=lambda name: name.count(".")):
            within = any(name.startswith(f"{known}.") for known in found)
            if one.get(name) != other.get(name) and not within:
                found.append(name)
        return [(name, _at(values[0], name), _at(values[1], name)) for name in names if name in found]

    def pairs(self) -> list[tuple[str, str]]:
        """Every comparison that the document rests on, for progress."""
        held = [(e.name, e.baseline) for e in self.experiments.values() if e.baseline is not None]
        held += [(name, self.root) for name in self.experiments if self.root not in (None, name)]
        held += [(c.a, c.b) for question in (*QUESTIONS, *WRONG) for c in question.contrasts]
        return list(dict.fromkeys(held))

    def compare_all(self, on_pair: Callable[[int, int], None] | None = None) -> None:
        """Compute every comparison now; `on_pair` hears of each, and of how many there are."""
        pairs = self.pairs()
        for number, (a, b) in enumerate(pairs, start=1):
            self.against(a, b)
            if on_pair is not None:
                on_pair(number, len(pairs))

    @property
    def root(self) -> str | None:
        """The experiment that the others descend from: the first that has no baseline among those here."""
        names = [n for n, e in self.experiments.items() if e.runs and e.baseline not in self.experiments]
        return names[0] if names else None


def _follows(name: str, before: str) -> bool:
    """Whether a run's seed is the next after another's."""
    mine, theirs = _SEED.fullmatch(name), _SEED.fullmatch(before)
    return mine is not None and theirs is not None and int(mine[1]) == int(theirs[1]) + 1


def _at(experiment: Any, path: str) -> Any:
    """The value at a path, a whole component where one stands there; None where there is no such field."""
    for name in path.split("."):
        experiment = experiment.get(name) if isinstance(experiment, dict) else None
    return experiment


_LABELS = ("", "name", "baseline")


def read_study(folder: Path) -> StudyFolder:
    """Read every run below a folder, and who was asked for beside them.

    Raises CalotError where there is none, where runs were scored under two protocols or at two scales, or where two
    treatments bear one name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CalotError(f"{folder} is not a folder. Give the folder that calot study --out names.")
    runs = [read_run(path) for path in find_runs(folder) if TUNED not in path.relative_to(folder).parts]
    asked = _asked(folder)
    if not runs and not asked:
        raise CalotError(f"{folder} holds no run of a study: train them with calot study --out {folder}")
    require_one_protocol({run.path.name: run.scored_frames for run in runs if run.finished})
    scales = sorted({str(run.experiment.get("scale")) for run in runs})
    if len(scales) > 1:
        raise CalotError(f"{folder} holds runs at the scales {' and '.join(scales)}: give each a folder of its own")
    names = sorted(dict.fromkeys((*asked, *(run.name for run in runs))), key=_in_order)
    experiments = {name: _experiment(name, [r for r in runs if r.name == name], asked=asked) for name in names}
    results = folder if not runs else find_results(runs[0].path)
    return StudyFolder(
        path=folder,
        results=results if folder.resolve().is_relative_to(results) or results.is_relative_to(folder) else folder,
        experiments=experiments,
        changes=_changes(runs),
    )


def _in_order(name: str) -> tuple[bool, str]:
    """The study's own experiments bear numbers (e02, e06, e10a ...), in the order in which it made them; others follow
    as they come."""
    found = re.match(r"e\d+[a-z]?_", name)
    return found is None, found[0] if found else ""


def _experiment(name: str, runs: Sequence[RunFolder], *, asked: Mapping[str, Mapping[str, str]]) -> StudiedExperiment:
    labels = sorted({run.label for run in runs})
    if len(labels) > 1:
        raise CalotError(
            f"two treatments bear the name {name}: {'; '.join(labels)}. A study has one of each: move the others to a "
            "folder of their own, or compare them with calot compare"
        )
    there = {f"s{run.seed}" for run in runs} | {run.path.name for run in runs}
    return StudiedExperiment(
        name=name,
        runs=one_a_seed([run for run in runs if run.finished]),
        unfinished=one_a_seed([run for run in runs if not run.finished]),
        missing=[f"{run} ({state})" for run, state in asked.get(name, {}).items() if run not in there],
    )


def _asked(folder: Path) -> dict[str, dict[str, str]]:
    """By experiment, the folders of the runs that `calot study` was asked for, with what became of each; empty where
    no study was."""
    path = folder / _JOBS
    if not path.is_file():
        return {}
    found: dict[str, dict[str, str]] = {}
    for job in read_record(path, remedy=_REMEDY).get("jobs") or []:
        name, _, run = str(job.get("name") if isinstance(job, dict) else "").rpartition("/")
        if name.startswith(f"{TUNED}/"):
            continue
        if not name:
            raise CalotError(f"{path}: not a list of jobs that calot wrote; {_REMEDY}")
        found.setdefault(name, {})[run] = _state(job, log=folder / "jobs" / f"{name}/{run}.log")
    return found


def _state(job: Mapping[str, Any], *, log: Path) -> str:
    """`waiting`, `died: its last words`, ..."""
    state = str(job.get("state", "waiting"))
    try:
        words = read_text(log, largest=LARGEST_RECORD).strip().splitlines() if state in _FAILED else []
    except (OSError, ValueError):
        words = []
    return f"{state}: {words[-1][:200]}" if words else state


def _changes(runs: Sequence[RunFolder]) -> list[str]:
    """What was typed for every run."""
    typed = [
        [str(c.get("typed")) for c in run.experiment.get("overrides") or [] if isinstance(c, dict)] for run in runs
    ]
    return [word for word in (typed[0] if typed else []) if all(word in own for own in typed)]
