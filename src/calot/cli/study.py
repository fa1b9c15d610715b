"""`calot study`: every experiment of the study with every seed, in one command that can be continued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calot.cli.next_step import say_next
from calot.cli.study_tuning import TunedRun, keep_choices, runs_at, settings_of
from calot.cli.train import Data, Log, Scale, log_flags, requests

if TYPE_CHECKING:
    from calot.progress import Ui
    from calot.report.study.page import WrittenStudy
    from calot.run.request import Request
    from calot.run.signals import Stopper
    from calot.studying.outcome import ExperimentRow
    from calot.sweeping.jobs import Job, JobRecord

_LOCK, _JOBS, _PLAN, _STUDY = "study.lock", "jobs.json", "plan.json", "study.json"


def study(
    data: Data,
    out: Annotated[Path, typer.Option(help="The folder of all runs, of study.json, and of the ledger.")],
    changes: Annotated[list[str] | None, typer.Argument(help="key=value changes of every experiment.")] = None,
    scale: Scale = "tiny",
    seeds: Annotated[str, typer.Option(help="How many, from 0 on; or which, as in 0,3,7.")] = "5",
    experiments: Annotated[
        str, typer.Option(help="Names with commas; study is e02 to e15, all has what is beside.")
    ] = ("study"),
    tune: Annotated[
        list[str] | None,
        typer.Option("--tune", help="train.lr=1e-4,...: every experiment at these five or more, too. Repeatable."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, by default one per GPU, else per core.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure each kind of run; print what all would take.")] = (
        False
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Continue the study in --out; finished runs stay.")] = False,
    retries: Annotated[int, typer.Option(min=0, help="How often a run that dies is resumed.")] = 3,
    receipt: Annotated[bool, typer.Option(help="Prove before training that each treatment takes effect.")] = True,
    log: Log = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Train the study's experiments, several seeds each, print one table and write the study's document (study.html);
    exit code 1 where a run failed."""
    from calot.errors import CalotError
    from calot.studying.sparing import sparing
    from calot.sweeping.jobs import require_no_launcher

    own = sparing(changes or (), scale=scale)
    asked = _asked(experiments, own, data=data, out=out, scale=scale, seeds=seeds, receipt=receipt)
    require_no_launcher("a study")
    at = settings_of(tune)
    words = {setting: [*own, *setting] for setting in at}
    found = {
        x: _asked(experiments, w, data=data, out=out, scale=scale, seeds=seeds, receipt=receipt)
        for x, w in words.items()
    }
    tuned = [run for setting, runs in found.items() for run in runs_at(runs, setting=setting, out=out)]
    work = _Work(
        asked,
        tuned=tuned,
        tune=tune or (),
        out=out,
        data=data,
        changes=tuple(own),
        places=_places(workers),
        log=log_flags(log),
    )
    if dry_run:
        work.plan(json=json)
        return
    if (out / _JOBS).exists() and not resume:
        raise CalotError(f"{out} holds a study: --resume continues it, or take another --out")
    rows = work.run(retries=retries)
    work.show(rows, json=json)
    if work.untuned or any(row.unfinished for row in rows):
        raise typer.Exit(1)


def _asked(
    experiments: str, changes: list[str], *, data: Path, out: Path, scale: str, seeds: str, receipt: bool
) -> list[Request]:
    """The runs in their order. Raises CalotError for anything that cannot be trained, before anything is written."""
    from calot.config.overrides import is_override
    from calot.errors import CalotError
    from calot.studying.listed import LISTS
    from calot.studying.order import in_order
    from calot.studying.sparing import shortened

    if wrong := [word for word in changes if not is_override(word)]:
        raise CalotError(f"{wrong[0]}: expected key=value; experiments are named by --experiments")
    words = [name.strip() for name in experiments.split(",") if name.strip()]
    names = list(dict.fromkeys(name for word in words for name in LISTS.get(word, (word,))))
    if seeds.isdigit() and not int(seeds):
        raise CalotError(f"--seeds {seeds}: no run; --seeds 1 is seed 0 alone")
    numbers = ",".join(map(str, range(int(seeds)))) if seeds.isdigit() else seeds
    where: dict[str, Any] = {"data": data, "out": out, "results": out, "scale": scale, "seeds": numbers}
    found = [r for n in names for r in requests([n, *changes, *shortened(n, changes, scale=scale)], **where)]
    homed = [replace(r, folder=out / r.experiment.name / f"s{r.seed}") for r in found]
    return in_order([replace(r, resume=True, receipt=receipt, share_receipt=receipt) for r in homed])


def _word_of(request: Request) -> str:
    """How a run's experiment is named on a command line."""
    source = request.found.source
    return request.experiment.name if source is None else str(source.folder / source.main)


def _places(workers: int | None) -> list[str | None]:
    """A place per worker: a GPU's number where there are GPUs, as many workers to each as it takes."""
    import torch

    from calot.run.machine import usable_cores

    gpus = [str(number) for number in range(torch.cuda.device_count())]
    count = workers or len(gpus) or usable_cores()
    return [gpus[number % len(gpus)] if gpus else None for number in range(count)]


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What a study was asked for, as study.json says it."""

    data: str
    scale: str
    experiments: list[str]
    seeds: list[int]
    changes: list[str]
    tune: list[str]
    workers: int


class _Work:
    """A study under way."""

    def __init__(
        self,
        asked: Sequence[Request],
        *,
        tuned: Sequence[TunedRun],
        tune: Sequence[str],
        out: Path,
        data: Path,
        changes: tuple[str, ...],
        places: list[str | None],
        log: list[str],
    ) -> None:
        from calot.progress import Ui

        self.asked, self.out, self.changes, self.places = list(asked), out, changes, places
        self.log = log
        self.tune = list(tune)
        self.tuned = list(tuned)
        self.every = [*self.asked, *(each.request for each in tuned)]
        self.ui: Ui = Ui()
        self.facts = _Facts(
            data=str(data),
            scale=asked[0].scale,
            experiments=list(dict.fromkeys(map(_word_of, asked))),
            seeds=list(dict.fromkeys(r.seed for r in asked)),
            changes=list(changes),
            tune=self.tune,
            workers=len(places),
        )
        self.costs: dict[str, Any] = {}
        self.wall_s = 0.0
        self.untuned: list[str] = []
        self.document: WrittenStudy | None = None

    def plan(self, *, json: bool) -> None:
        """Measure, print and keep what the lot would take."""
        from json import dumps

        from calot.studying.cost import study_plan
        from calot.writing import write_json

        made = study_plan(self.every, workers=len(self.places), ui=self.ui)
        write_json(self.out / _PLAN, {"asked": vars(self.facts), "plan": made.to_dict()})
        if json:
            print(dumps(made.to_dict(), indent=1))
            return
        from calot.cli.printed_study import print_plan

        print_plan(made)
        say_next(*self._words())

    def _words(self, *more: str) -> tuple[object, ...]:
        """The same command, without the dry run."""
        own = ["--experiments", ",".join(self.facts.experiments), "--seeds", ",".join(map(str, self.facts.seeds))]
        own += [word for setting in self.tune for word in ("--tune", setting)]
        return (
            "study",
            *self.changes,
            "--data",
            self.facts.data,
            "--out",
            self.out,
            "--scale",
            self.facts.scale,
            *own,
            *more,
        )

    def run(self, *, retries: int) -> list[ExperimentRow]:
        """Train what is not complete, and gather what came of it."""
        import time

        from calot.locking import locked
        from calot.run.signals import stop_on_signal
        from calot.studying.outcome import costs_of, outcome_rows

        start = time.monotonic()
        saying = f"{self.out}: stopped; runs at work have saved. Give the same command with --resume to continue."
        with stop_on_signal(saying) as stopper:
            self.out.mkdir(parents=True, exist_ok=True)
            with locked(
                self.out / _LOCK, refusal=f"{self.out}: another calot study works there; wait for it, or stop it"
            ):
                records = self._trained(retries=retries, stopper=stopper)
        self.wall_s = time.monotonic() - start
        rows = outcome_rows(self.asked, records)
        self.costs = costs_of(self.every, records)
        self.untuned = keep_choices(self.tuned, records)
        if self.untuned:
            self.ui.say(f"not tuned, as runs are not done: {', '.join(self.untuned)}")
        self._write(rows)
        if any(row.seeds for row in rows):
            from calot.cli.report import write_document

            self.document = write_document(self.out, ui=self.ui)
        return rows

    def _trained(self, *, retries: int, stopper: Stopper) -> dict[str, JobRecord]:
        from calot.studying.progress import TimeLeft
        from calot.sweeping.complete import SCORED, complete_state
        from calot.sweeping.jobs import JobBook
        from calot.sweeping.pool import Pool
        from calot.sweeping.staying import StayingRunner

        book = JobBook.opened(self.out / _JOBS, keeps=True)
        by_job = {self._job(request).name: request for request in self.every}
        env = {} if self.places[0] else {"OMP_NUM_THREADS": "1"}
        with StayingRunner(self.places, env) as runner:
            pool = Pool(
                runner=runner,
                book=book,
                retries=retries,
                state_of=lambda job: complete_state(by_job[job.name], files=SCORED),
                ui=self.ui,
                stopper=stopper,
                left=TimeLeft(len(self.places), self._planned()),
            )
            pool.run(book.add([self._job(request) for request in self.every]))
        return {str(record.job.folder): record for record in book.records}

    def _job(self, request: Request) -> Job:
        """The run as `calot train`."""
        from calot.sweeping.jobs import train_job

        proof = "--share-receipt" if request.receipt else "--no-receipt"
        flags = ("--scale", request.scale, "--results", str(self.out), "--no-page", proof, *self.log)
        return train_job(
            request,
            words=(_word_of(request), *(change.typed for change in request.overrides)),
            flags=flags,
            out=self.out,
        )

    def _plan_kept(self) -> dict[str, Any] | None:
        """What a dry run of this very study said."""
        from calot.errors import CalotError
        from calot.reading import read_record

        try:
            kept = read_record(self.out / _PLAN, remedy="remove it")
        except CalotError:
            return None
        plan = kept.get("plan")
        return plan if kept.get("asked") == vars(self.facts) and isinstance(plan, dict) else None

    def _planned(self) -> dict[str, float]:
        plan = self._plan_kept() or {"experiments": []}
        return {row["experiment"]: float(row["run_s"]) for row in plan["experiments"]}

    def _write(self, rows: Sequence[ExperimentRow]) -> None:
        from calot.writing import write_json

        experiments = [row.to_dict() for row in rows]
        whole = {"format": 1, "asked": vars(self.facts), "plan": self._plan_kept(), "experiments": experiments}
        write_json(self.out / _STUDY, whole | {"costs": self.costs, "last_command_s": round(self.wall_s, 1)})

    def show(self, rows: Sequence[ExperimentRow], *, json: bool) -> None:
        """Print the table, and who failed."""
        if json:
            print((self.out / _STUDY).read_text(encoding="utf-8"))
            return
        from calot.cli.printed_study import print_study

        print_study(rows, costs=self.costs, plan=self._plan_kept())
        failed = [
            f"{name} ({state}, {self.out / 'jobs' / name}.log)" for r in rows for name, state in r.unfinished.items()
        ]
        if failed:
            print(f"Not done: {', '.join(failed)}")
        if self.document is not None:
            print(f"The study's document: {self.document.html} and {self.document.markdown.name}")
        say_next("report", self.out, "--study")
