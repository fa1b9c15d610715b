"""`calot pretrain`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calot.cli.completing import pretraining_words
from calot.cli.next_step import say_next
from calot.cli.train import Log, Scale

if TYPE_CHECKING:
    from calot.experiment import Experiment
    from calot.processes import Processes
    from calot.progress import Ui
    from calot.run.request import Request

_DEFAULT = "p01_masked_prediction"


def pretrain(
    data: Annotated[Path, typer.Argument(help="A data set's folder; its training videos train, no label is read.")],
    out: Annotated[Path, typer.Option(help="The run's folder; the encoder comes to lie in its weights/.")],
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"A pretraining by name or .py ({_DEFAULT}), and key=value changes.", autocompletion=pretraining_words
        ),
    ] = None,
    scale: Scale = "full",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The seed of all draws.")] = 42,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start the run in --out again.")] = False,
    receipt: Annotated[
        bool, typer.Option(help="Prove before training that encoder and teacher do as they should.")
    ] = True,
    standardised: Annotated[
        bool, typer.Option("--standardised", help="Write standardised/, too: features of mean 0 and deviation 1.")
    ] = False,
    log: Log = None,
) -> None:
    """Pretrain an encoder on video alone by masked latent prediction; ends with a folder for backbone.weights."""
    from calot.errors import CalotError
    from calot.machine_errors import TRAINING_ADDRESSES, require_address_space
    from calot.provenance.pretraining_facts import epochs_of, kept_epoch
    from calot.provenance.receipt import Receipt
    from calot.run.device import join_processes
    from calot.run.standardising import STANDARDISED
    from calot.run.weights import WEIGHTS
    from calot.tracking.services import services_named

    require_address_space(TRAINING_ADDRESSES)
    if resume and overwrite:
        raise CalotError("--resume continues a run and --overwrite starts it again: give one of them")
    request = _request(what or [], data, out, scale=scale, seed=seed, resume=resume, overwrite=overwrite)
    request = replace(request, receipt=receipt, log=services_named(log))
    processes = join_processes(request.experiment.compute)
    with processes.ending_together():
        _train(request, processes=processes, standardised=standardised)
        rows, kept, weights = epochs_of(out), kept_epoch(out), out / (STANDARDISED if standardised else WEIGHTS)
        invalid = (made := Receipt.load(out)) is not None and made.failed
        processes.leave()
    said = print if processes.first else _unsaid
    said(f"{weights}: the encoder of epoch {kept['epoch']} of {len(rows)}, val loss {float(kept['val_loss']):.4g}")
    if any(float(row.get("collapsed") or 0) for row in (kept, rows[-1])):
        said("collapse: the features say nearly the same of every token; do not use these weights (see metrics.csv)")
        raise typer.Exit(1)
    if invalid:
        said(f"INVALID, see receipt.json: {out}")
        raise typer.Exit(1)
    small = () if scale == "full" else ("--scale", scale)
    if processes.first:
        say_next("train", "e02_frozen_probe", f"backbone.weights={weights}", "--data", data, *small)


def _unsaid(text: str) -> None:
    """What another process than the first has to say."""


def _train(request: Request, *, processes: Processes, standardised: bool) -> None:
    """The run, alone or with processes that a launcher started, of which the first writes what it ends with."""
    from calot.pipeline import train_run
    from calot.progress import Silent, Ui
    from calot.run.signals import stop_on_signal

    ui, out = Ui() if processes.first else Silent(), request.folder
    with stop_on_signal() as stopper:
        stopper.saying = f"{out}: stopped. Continue with --resume --out {out}."
        ui.say(f"{request.experiment.name} seed {request.seed} -> {out}")
        train_run(request, ui=ui, stopper=stopper, processes=processes)
        processes.once(lambda: _finish(out, standardised=standardised, ui=ui))


def _finish(folder: Path, *, standardised: bool, ui: Ui) -> None:
    """The folders of weights, the run's seal, pictures of its masks, then the page."""
    from calot.pipeline import load_run
    from calot.provenance.custody import seal, unseal
    from calot.report.page import write_report
    from calot.run import folder as run_folder
    from calot.run.data import OpenData
    from calot.run.standardising import write_standardised
    from calot.run.weights import write_weights

    experiment, model, _ = load_run(folder)
    unseal(folder)
    write_weights(folder, backbone=model.backbone)
    if standardised:
        data = OpenData.of(run_folder.data_root(folder), experiment=experiment, ui=ui)
        write_standardised(folder, model, data=data)
    seal(folder)
    draw_masks(folder, experiment=experiment, ui=ui)
    ui.say(f"report: {write_report(folder)}")


def draw_masks(folder: Path, *, experiment: Experiment, ui: Ui) -> None:
    """Pictures of a validation clip under each kind of mask, for a run's page."""
    from calot.report.mask_pictures import write_mask_strips
    from calot.run.hidden_clip import hidden_clip

    clip = hidden_clip(folder, experiment=experiment, ui=ui)
    write_mask_strips(folder, video=clip.video, frame=clip.frame, frames=clip.frames, tokens=clip.tokens)


def _request(
    words: list[str], data: Path, out: Path, *, scale: str, seed: int, resume: bool, overwrite: bool
) -> Request:
    """The run that a command line asks for. Raises CalotError for what trains on labels or leaves no weights."""
    from calot.config.overrides import is_override
    from calot.errors import CalotError
    from calot.experiments import resolve
    from calot.run.request import Request

    named = [word for word in words if not is_override(word)]
    if len(named) > 1:
        raise CalotError(f"{named[1]}: one pretraining per command; {named[0]} is the first")
    resolved = resolve(
        named[0] if named else _DEFAULT, overrides=[word for word in words if is_override(word)], scale=scale
    )
    experiment = resolved.experiment
    if experiment.objective.reads_labels:
        raise CalotError(f"{experiment.name} trains on labels: calot train {experiment.name} --data {data}")
    if not experiment.backbone.predicts:
        raise CalotError(f"{experiment.name}: no weights could be written, for {experiment.backbone.unpredictable}")
    return Request(
        found=resolved.found,
        experiment=experiment,
        scale=scale,
        overrides=resolved.overrides,
        data=data,
        folder=out,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
    )
