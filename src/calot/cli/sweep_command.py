"""`calot sweep`: a grid or a search, each run in a process of its own, here or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calot.cli.next_step import report_of, say_next
from calot.cli.sweep import choices, combinations, setting_name
from calot.cli.train import Data, Experiments, Log, Results, Scale, Trust, log_flags, requests

if TYPE_CHECKING:
    from calot.progress import Ui
    from calot.run.request import Request
    from calot.sweeping.jobs import Job, JobBook, JobRecord
    from calot.sweeping.pool import Pool, Runner
    from calot.sweeping.search import Search, SearchTrial

_LOCK = "sweep.lock"


def sweep(
    what: Experiments,
    data: Data,
    out: Annotated[Path, typer.Option(help="The folder of all runs; the same command continues there.")],
    scale: Scale = "full",
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds; one run each.")] = "42",
    grid: Annotated[list[str] | None, typer.Option("--sweep", help="key=value,value: a run per value.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Search with Optuna: so many settings.")] = None,
    search: Annotated[
        list[str] | None,
        typer.Option("--search", help="key=log(1e-5,1e-3), float(0,1), int(1,4) or choice(a,b). Repeatable."),
    ] = None,
    search_seed: Annotated[int, typer.Option(min=0, help="The seed of the search itself.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="How many at a time.")] = None,
    gpus: Annotated[str | None, typer.Option(help="0,1: a job per GPU at a time, which sees that one alone.")] = None,
    cluster: Annotated[str | None, typer.Option(help="slurm, or local to try the same here; by submitit.")] = None,
    partition: Annotated[str | None, typer.Option(help="Slurm's partition.")] = None,
    hours: Annotated[float, typer.Option(min=0.02, help="With --cluster: a job's longest time at once.")] = 24,
    gpus_per_job: Annotated[int | None, typer.Option(min=0, help="With --cluster; by default 1 on Slurm.")] = None,
    cpus_per_job: Annotated[int | None, typer.Option(min=1, help="With --cluster.")] = None,
    memory_gb: Annotated[float | None, typer.Option(min=0.1, help="With --cluster: a job's memory.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often a job that dies is resumed.")] = 3,
    receipt: Annotated[bool, typer.Option(help="Prove before training that the treatment takes effect.")] = True,
    results: Results = Path("results"),
    log: Log = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    trust: Trust = False,
) -> None:
    """Train many runs, each in a process of its own; run the same command again to continue, finished runs stay."""
    from calot.errors import CalotError
    from calot.locking import locked
    from calot.progress import Ui
    from calot.run.signals import stop_on_signal

    _require_together(search, trials, grid)
    flags = ["--scale", scale, "--results", str(results), *(["--no-receipt"] if not receipt else []), *log_flags(log)]
    where = _Where(jobs, gpus, cluster, partition, hours, gpus_per_job, cpus_per_job, memory_gb)
    where.require_together()
    plan = _Plan(what, data, out, results, scale, seeds, (*flags, *(["--trust"] if trust else [])))
    if not search:  # before anything is written
        plan.asked(combinations(grid or ()))
    with stop_on_signal(f"{out}: stopped; jobs at work have saved. Run the same command again to continue.") as stopper:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out / _LOCK, refusal=f"{out}: another calot sweep works there; wait for it, or stop it"):
            work = _Work(plan, where, retries=retries, ui=Ui(), stopper=stopper)
            if search:
                asked = work.search(search, trials=trials or 0, seed=search_seed)
            else:
                asked = work.grid(combinations(grid or ()))
            found = work.records
    code = _close(found, asked, chosen=bool(search or grid), json=json)
    if code == 2:
        names = ", ".join(f"{r.job.name} ({r.state}, {r.job.log})" for r in found if r.state not in ("done", "invalid"))
        raise CalotError(f"not trained: {names}. Run the same command again once the reason is gone.")
    if code:
        raise typer.Exit(code)


def _require_together(search: Sequence[str] | None, trials: int | None, grid: Sequence[str] | None) -> None:
    from calot.errors import CalotError
    from calot.sweeping.jobs import require_no_launcher
    from calot.sweeping.packages import required

    if bool(search) != (trials is not None):
        raise CalotError("--search and --trials go together: what to search, and how many settings to try")
    if search:
        required("optuna")
    if search and grid:
        raise CalotError("--sweep tries each of its values and --search draws them: give one of them")
    require_no_launcher("a sweep")


@dataclass(frozen=True)
class _Where:
    """Where jobs run, as asked for."""

    jobs: int | None
    gpus: str | None
    cluster: str | None
    partition: str | None
    hours: float
    gpus_per_job: int | None
    cpus_per_job: int | None
    memory_gb: float | None

    def require_together(self) -> None:
        """Raises CalotError for options that do not go together, and submitit missing where it is needed."""
        from calot.errors import CalotError
        from calot.sweeping.packages import required

        if self.cluster is None:
            if given := [n for n in ("partition", "gpus_per_job", "cpus_per_job", "memory_gb") if getattr(self, n)]:
                raise CalotError(f"--{given[0].replace('_', '-')} goes with --cluster slurm")
        elif self.cluster not in ("slurm", "local"):
            raise CalotError(f"--cluster {self.cluster}: expected slurm or local")
        elif self.gpus is not None:
            raise CalotError("--gpus names GPUs of this machine; with --cluster, use --gpus-per-job")
        else:
            required("submitit")
        names = self.names
        if names and (not all(names) or len(set(names)) < len(names) or (self.jobs or 0) > len(names)):
            raise CalotError(f"--gpus {self.gpus}: expected each GPU once, as in 0,1, and at least as many as --jobs")

    @property
    def names(self) -> list[str]:
        """The GPUs."""
        return [] if self.gpus is None else [name.strip() for name in self.gpus.split(",")]

    @property
    def at_once(self) -> int:
        """How many jobs at a time, on a cluster by default as many as it admits."""
        return self.jobs or len(self.names) or (1 if self.cluster is None else 1000)

    def runner(self, out: Path) -> Runner:
        """The same as what starts jobs."""
        if self.cluster is None:
            from calot.sweeping.local import LocalRunner

            return LocalRunner(self.names[: self.at_once] or [None] * self.at_once)
        from calot.sweeping.cluster import ClusterRunner

        return ClusterRunner.of(
            self.cluster,
            folder=out / "jobs" / "submitit",
            at_once=self.at_once,
            hours=self.hours,
            partition=self.partition,
            gpus=(1 if self.cluster == "slurm" else 0) if self.gpus_per_job is None else self.gpus_per_job,
            cpus=self.cpus_per_job,
            memory_gb=self.memory_gb,
        )


@dataclass(frozen=True)
class _Plan:
    """What was asked for, and the runs and jobs that it means."""

    what: list[str]
    data: Path
    out: Path
    results: Path
    scale: str
    seeds: str
    flags: tuple[str, ...]

    def asked(self, settings: Sequence[tuple[str, ...]]) -> list[tuple[Request, tuple[str, ...]]]:
        """Each run with the words that name it: where `calot train --sweep` puts it, alone or not."""
        from calot.config.overrides import is_override
        from calot.errors import CalotError

        changes = [word for word in self.what if is_override(word)]
        names = [word for word in self.what if not is_override(word)]
        found = []
        for name in names or [""]:
            for setting in settings:
                words = [*([name] if name else []), *changes, *setting]
                where = {"out": self.out, "results": self.results, "scale": self.scale, "seeds": self.seeds}
                for one in requests(words, data=self.data, **where):  # type: ignore[arg-type]
                    home = self.out / one.experiment.name / (setting_name(setting) if setting else "")
                    found.append((replace(one, folder=home / f"s{one.seed}", resume=True), tuple(words)))
        folders = [request.folder for request, _ in found]
        if twice := next((folder for folder in folders if folders.count(folder) > 1), None):
            raise CalotError(f"{twice}: two runs of this command would share it: name each experiment once")
        return found

    def job(self, request: Request, words: tuple[str, ...]) -> Job:
        """The run as `calot train` in a process of its own."""
        from calot.sweeping.jobs import train_job

        return train_job(request, words=words, flags=self.flags, out=self.out)


class _Work:
    """A sweep under way."""

    def __init__(self, plan: _Plan, where: _Where, *, retries: int, ui: Ui, stopper: Any) -> None:
        from calot.sweeping.complete import complete_state
        from calot.sweeping.jobs import JobBook
        from calot.sweeping.pool import Pool

        self.plan, self.where, self.ui = plan, where, ui
        self.book: JobBook = JobBook.opened(plan.out / "jobs.json")
        self.asked: dict[str, Request] = {}
        self.pool: Pool = Pool(
            runner=where.runner(plan.out),
            book=self.book,
            retries=retries,
            state_of=lambda job: complete_state(self.asked[job.name]),
            ui=ui,
            stopper=stopper,
        )

    @property
    def records(self) -> list[JobRecord]:
        """All jobs so far."""
        return self.book.records

    def grid(self, settings: Sequence[tuple[str, ...]]) -> list[Request]:
        """Every setting with every seed."""
        asked = self.plan.asked(settings)
        self.pool.run(self._added(asked))
        return [request for request, _ in asked]

    def _added(self, asked: Sequence[tuple[Request, tuple[str, ...]]]) -> list[JobRecord]:
        jobs = [self.plan.job(*one) for one in asked]
        self.asked |= {job.name: request for job, (request, _) in zip(jobs, asked, strict=True)}
        return self.book.add(jobs)

    def search(self, texts: Sequence[str], *, trials: int, seed: int) -> list[Request]:
        """Trials in batches; returns the runs of those that have a value."""
        from calot.errors import CalotError
        from calot.sweeping.search import Search
        from calot.sweeping.space import changes_of, read_space

        space = read_space(texts)
        first = self.plan.asked([changes_of({axis.key: axis.first for axis in space})])
        if len({request.experiment.name for request, _ in first}) > 1:
            raise CalotError("--search takes one experiment; search each in a folder of its own")
        if self.where.cluster and not self.where.jobs:
            raise CalotError(
                "--search on a cluster needs --jobs: trials that run at a time learn nothing of each other"
            )
        size = max(1, min(self.where.at_once, trials) // len(first))
        same = {"what": self.plan.what, "data": str(self.plan.data), "scale": self.plan.scale, "batch": size}
        search = Search.opened(
            self.plan.out / "study.db", space=space, seed=seed, asked=same | {"seeds": self.plan.seeds}
        )
        while batch := search.batch(size=size, total=trials):
            self._run_batch(search, batch)
        good = [trial for trial in search.trials[:trials] if trial.value is not None]
        settings = list(dict.fromkeys(changes_of(trial.params) for trial in good))
        asked = self.plan.asked(settings)
        self.pool.run(self._added(asked))  # complete ones of an earlier command: into the table
        return [request for request, _ in asked]

    def _run_batch(self, search: Search, batch: Sequence[SearchTrial]) -> None:
        """Run a batch of trials side by side and tell their values in order. Raises CalotError where a job died."""
        from calot.errors import CalotError
        from calot.sweeping.jobs import DIED, DONE, named
        from calot.sweeping.space import changes_of

        runs: dict[int, list[JobRecord]] = {}
        for trial in batch:
            try:
                runs[trial.number] = self._added(self.plan.asked([changes_of(trial.params)]))
            except CalotError as error:
                self.ui.say(f"trial {trial.number}: cannot be trained: {error}")
                runs[trial.number] = []
        unique = {record.job.name: record for records in runs.values() for record in records}
        self.pool.run(list(unique.values()))
        if died := named(list(unique.values()), state=DIED):
            raise CalotError(f"{died[0].job.name} died ({died[0].job.log}); the same command resumes its trial")
        for number, records in runs.items():
            maps = [record.map for record in records if record.state == DONE and record.map is not None]
            whole = bool(maps) and len(maps) == len(records)
            search.tell(number, sum(maps) / len(maps) if whole else None)


def _close(records: Sequence[JobRecord], asked: Sequence[Request], *, chosen: bool, json: bool) -> int:
    """Print the table, and the choice where there is one to make; returns the exit code."""
    from json import dumps

    states = {record.state for record in records}
    code = 2 if states - {"done", "invalid"} else 1 if "invalid" in states else 0
    wanted = {request.folder for request in asked}
    usable = all(r.state == "done" for r in records if r.job.folder in wanted)
    made = choices(asked) if chosen and asked and usable else {}
    if json:
        whole = {"jobs": [record.to_dict() for record in records]}
        print(dumps(whole | {"choices": {home.name: choice.to_dict() for home, choice in made.items()}}, indent=2))
        return code
    _print_table(records)
    for home, choice in made.items():
        print("\n".join([f"\n{home.name}, val mAP by setting:", *choice.lines()]))
    if invalid := [str(r.job.folder) for r in records if r.state == "invalid"]:
        print(f"INVALID, see receipt.json: {', '.join(invalid)}")
    if code == 0 and asked:
        best = [r.folder for home, c in made.items() for r in asked if r.folder.parent == home / c.chosen]
        say_next(*(("report", best[0]) if best else report_of([request.folder for request in asked])))
    return code


def _print_table(records: Sequence[JobRecord]) -> None:
    from calot.cli.printed import points, table_of_columns
    from calot.terminal import print_table

    table = table_of_columns("job", "state", "retries", "val mAP", "seconds")
    for r in records:
        shown = "–" if r.map is None else points(r.map)
        table.add_row(r.job.name, r.state, str(r.retries), shown, f"{r.seconds:.0f}")
    print_table(table)
