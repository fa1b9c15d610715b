"""The `calot` command: its groups, and how an error ends."""

from __future__ import annotations

import sys

import typer

from calot.cli import bench, data, demo, doctor, experiments, importing, report, statistics, train
from calot.errors import CalotError, Stopped
from calot.writing import disk_message

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
        app()
    except Stopped as stop:
        print(f"calot: {stop}", file=sys.stderr)
        sys.exit(75)
    except CalotError as error:
        if debug:
            raise
        print(f"calot: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        message = disk_message(error)
        if message is None and error.filename is not None:
            message = f"{error.filename}: {error.strerror}. Check the path."
        if debug or message is None:
            raise
        print(f"calot: {message}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if debug or error.name is None or error.name.split(".")[0] == "calot":
            raise
        print(f"calot: this command needs the package {error.name!r}: pip install 'calot[train]'", file=sys.stderr)
        sys.exit(2)
