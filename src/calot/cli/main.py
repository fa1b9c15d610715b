"""The `calot` command: its groups, and how an error ends."""

from __future__ import annotations

import sys

import typer

from calot.cli import bench, data, demo, doctor, experiments, importing, report, statistics, train
from calot.cli.paths import at_home
from calot.errors import CalotError, Stopped, first_line
from calot.writing import disk_message

#: How the message of an error begins that no check of ours foresaw.
UNFORESEEN = "a fault of calot, not of your input:"

app = typer.Typer(
    name="calot",
    help="Train, test and explain Critical View of Safety classifiers, with results you can defend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(demo.demo)
app.command()(doctor.doctor)
app.add_typer(data.app, name="data", help="Data sets: phantom, statistics, frame store.")
app.add_typer(experiments.app, name="experiments", help="The experiments: list, show, diff.")
app.command()(train.train)
app.command()(train.evaluate)
app.command()(train.predict)
app.command("import")(importing.import_)
app.command()(statistics.metrics)
app.command()(statistics.compare)
app.command()(report.report)
app.add_typer(bench.app, name="bench", help="Speed, each part beside the naive way, exactness first.")


def main() -> None:
    """Run the command line. Exit codes: 0 ok, 1 finding, 2 usage or bad input, 75 stopped by a signal and resumable."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        sys.argv[1:] = at_home(sys.argv[1:])
        app()
    except Stopped as stop:
        print(f"calot: {stop}", file=sys.stderr)
        sys.exit(75)
    except Exception as error:
        if debug:
            raise
        print(f"calot: {_message(error)}", file=sys.stderr)
        sys.exit(2)


def _message(error: Exception) -> str:
    """What a person should know and do; an error that nobody foresaw is owned as calot's fault."""
    if isinstance(error, CalotError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.split(".")[0] != "calot":
        return f"this command needs the package {error.name!r}: pip install 'calot[train]'"
    if isinstance(error, OSError):
        message = disk_message(error)
        if message is None and error.filename is not None:
            message = f"{error.filename}: {error.strerror}. Check the path."
        if message is not None:
            return message
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported
        return f"out of memory ({first_line(error)}). Give a smaller compute.micro_batch or compute.evaluation_batch."
    return (
        f"{UNFORESEEN} {type(error).__name__}: {first_line(error)}. Run the same with --debug, which shows where, and "
        f"report it."
    )
