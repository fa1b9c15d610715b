"""The `calot` command: its groups, and how an error ends."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated, Any

import typer

from calot import __version__
from calot.cli import (
    assess,
    attention,
    audit,
    bench,
    caches,
    combine,
    data,
    demo,
    distill,
    doctor,
    experiments,
    explain,
    export,
    importing,
    pretrain,
    report,
    statistics,
    study,
    sweep_command,
    train,
    transfer,
)
from calot.cli.paths import at_home
from calot.errors import CalotError, Stopped, first_line
from calot.machine_errors import before_torch, machine_message, may_pass, require_address_space
from calot.run.signals import MACHINE_FAILED, SWEEP, last_words, never_deaf, stop_on_signal
from calot.terminal import Unheard, guarded_streams

#: How the message of an unforeseen error begins.
UNFORESEEN = "a bug in calot, not in your input:"
#: How typer ends a command at Ctrl-C.
INTERRUPTED = 130

app = typer.Typer(
    name="calot",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(demo.demo)
app.command()(doctor.doctor)
data.app.command("cache")(caches.cache)
app.add_typer(data.app, name="data", help="Data sets: phantom, statistics, frame store.")
app.add_typer(experiments.app, name="experiments", help="The experiments: list, show, diff.")
app.command()(train.train)
app.command()(sweep_command.sweep)
app.command()(study.study)
app.command()(pretrain.pretrain)
app.command()(train.evaluate)
app.command()(train.predict)
app.command()(transfer.transfer)
app.command()(combine.ensemble)
app.add_typer(importing.app, name="import", help="Other groups' checkpoints and predictions.")
app.command()(export.export)
app.command()(distill.distill)
app.command()(statistics.metrics)
app.command()(statistics.compare)
app.command()(report.report)
app.command()(attention.attention)
app.command()(explain.explain)
app.command()(assess.assess)
app.command()(assess.review)
app.command()(audit.audit)
app.add_typer(bench.app, name="bench", help="Speed, each part beside the naive way, exactness first.")


def _show_version(asked: bool) -> None:
    if asked:
        print(f"calot {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train, test and explain Critical View of Safety classifiers, with results you can defend."""


def main() -> None:
    """Run the command line. Exit codes: 0 ok, 1 finding, 2 usage or bad input, 75 stopped by a signal and resumable;
    130 interrupted, 141 broken pipe."""
    words = [word for word in sys.argv[1:] if word != "--debug"]
    with guarded_streams(), never_deaf(), last_words():
        sys.exit(run_words(words, debug="--debug" in sys.argv))


def run_words(words: list[str], *, debug: bool = False) -> int:
    """The exit code of one command, with what went wrong printed on standard error."""
    before_torch()
    try:
        require_address_space()
        with stop_on_signal():
            code = app(args=at_home(words), prog_name="calot", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return _ended(INTERRUPTED, "interrupted") if code == INTERRUPTED else int(code or 0)
    except Stopped as stop:
        return _ended(75, str(stop))
    except Unheard:
        _mute()
        return 141
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # a Rust library's panic is not an Exception, and 1 would mean a finding
        if isinstance(getattr(error, "exit_code", None), int):  # typer's own: a command line that it cannot read
            return _ended(getattr(error, "exit_code", 2), _usage(error))
        if debug:
            raise
        return _ended(MACHINE_FAILED if SWEEP in os.environ and may_pass(error) else 2, _message(error))


def _ended(code: int, message: str) -> int:
    """Report how a command ended; if standard error cannot be written, the exit code still says it."""
    if message:
        with contextlib.suppress(OSError):
            print(f"calot: {message}", file=sys.stderr, flush=True)
    return code


def _usage(error: Any) -> str:
    """A command line that typer cannot read, in one line with the help to ask for; help itself is already printed."""
    context, text = getattr(error, "ctx", None), error.format_message().rstrip(".")
    return f"{text}. `{context.command_path} --help` shows what is available." if text and context is not None else text


def _mute() -> None:
    """Standard output is no longer read: give Python's own last flush something to write to."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _message(error: BaseException) -> str:
    """What a person should know and do; an unforeseen error is reported as a bug in calot."""
    if isinstance(error, CalotError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.split(".")[0] != "calot":
        return f"this command needs the package {error.name!r}: pip install 'calot[train]'"
    return machine_message(error) or (
        f"{UNFORESEEN} {type(error).__name__}: {first_line(error)}. Run it again with --debug, which shows where, and "
        f"report it."
    )
