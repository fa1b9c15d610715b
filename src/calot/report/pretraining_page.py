"""What the page of a pretraining shows: no scores, as no label was read, but whether its encoder may be used."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from calot.errors import CalotError
from calot.provenance.checkpoint_files import STATE
from calot.provenance.custody import require_sealed
from calot.provenance.pretraining_facts import CURVES, kept_epoch, pretraining_facts
from calot.provenance.receipt import Receipt
from calot.provenance.run_files import DataFile, EnvironmentFile, ExperimentFile, read_file
from calot.provenance.treatment import Treatment, treatment_of
from calot.report.mask_pictures import mask_views
from calot.report.pretraining_figures import collapsed_epochs, pretraining_curves
from calot.report.receipt_view import ReceiptView, receipt_view
from calot.report.tables import Column, Fact, Row, Table
from calot.report.verdict import Reason, Stamp, Verdict

BANNER = "Phantom data: this encoder means nothing clinically"
_CAPTION = (
    "Upright line: the epoch kept. The loss may rise while features get better, as the teacher's are then harder to "
    "guess: it ranks no encoders. Spread: of each feature, deviation over tokens by root mean square, then their mean. "
    "Effective rank: exp of the entropy of the singular values (Roy & Vetterli 2007). Shaded: epochs that collapsed."
)
_MASKS = (
    "Frames are those that the encoder sees. Dark within a line: tokens to be predicted, which the encoder is not "
    "shown. Grey: neither seen nor predicted, so that all clips of a batch have as many. In training each batch draws "
    "others; these are the ones that every epoch's val loss is of."
)


@dataclass(frozen=True, kw_only=True)
class PretrainingRun:
    """A pretraining's files; `kept` is the row of `metrics` whose weights are the result, None before there is one."""

    path: Path
    experiment: Mapping[str, Any]
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    metrics: pl.DataFrame
    kept: int | None

    @property
    def complete(self) -> bool:
        return self.kept is not None and (self.path / "weights" / "config.json").is_file()

    @property
    def collapsed(self) -> bool:
        """Whether the epoch kept or the last one did: both make the weights useless."""
        rows = collapsed_epochs(self.metrics)
        return self.metrics.height in rows or (self.kept is not None and self.kept + 1 in rows)


def read_pretraining(path: Path) -> PretrainingRun:
    """Read a pretraining's folder. Raises CalotError naming file and remedy for what is corrupt."""
    require_sealed(path)
    file = path / "metrics.csv"
    try:
        metrics = pl.read_csv(file.read_bytes(), null_values=["", "nan", "NaN"], infer_schema_length=None)
        metrics = metrics.with_columns(pl.all().cast(pl.Float64)).with_columns(pl.all().fill_null(float("nan")))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CalotError(f"{file} is not a readable CSV ({error}). Restore it from a copy, or train again.") from error
    kept = None
    if (path / "checkpoints" / "best" / STATE).is_file():
        row = kept_epoch(path)
        at = [float(row["stage"]), float(row["epoch"])]
        kept = metrics.select("stage", "epoch").rows().index(tuple(at))
    return PretrainingRun(
        path=path,
        experiment=read_file(path / "experiment.json", ExperimentFile),
        environment=read_file(path / "environment.json", EnvironmentFile),
        data=read_file(path / "data.json", DataFile),
        metrics=metrics,
        kept=kept,
    )


def pretraining_context(path: Path) -> dict[str, Any]:
    """The values of `pretraining.html`."""
    run = read_pretraining(path)
    views, clip = mask_views(path)
    name, seed = run.experiment["name"], run.experiment.get("seed")
    resolved, packages = run.experiment.get("experiment"), run.environment.get("packages") or {}
    started = str(run.environment.get("started", ""))[:16].replace("T", " ")
    sections = [("verdict", "Verdict"), ("curves", "Learning curves"), ("masks", "Masks"), ("facts", "What it is")]
    sections.append(("receipt", "Receipt"))
    return {
        "title": f"{name}, seed {seed}: calot report",
        "kicker": " · ".join(part for part in ("calot report", path.name, started) if part),
        "heading": name,
        "banners": [BANNER] if run.data.get("synthetic") else [],
        "stamps": _stamps(run),
        "verdict": _verdict(run),
        "contents": [*sections, ("environment", "Environment"), ("repeat", "Repeat it")],
        "header": run.experiment.get("header"),
        "curves": pretraining_curves(run.metrics, best_row=run.kept) if run.metrics.height else [],
        "curves_caption": _CAPTION,
        "epochs": _epochs_table(run),
        "masks": views,
        "masks_caption": f"{clip[0].upper()}{clip[1:]}. {_MASKS}" if views else "",
        "facts": _facts(run),
        "receipt": _receipt(run),
        "packages": "\n".join(f"{name}=={version}" for name, version in sorted(packages.items())),
        "resolved": json.dumps(resolved, indent=2, ensure_ascii=False) if resolved else "",
        "command": run.environment.get("command"),
        "footer": f"Written by calot {run.environment.get('calot', '')} from {path.name}. One file, no network.",
    }


def _receipt(run: PretrainingRun) -> ReceiptView | None:
    receipt = Receipt.load(run.path)
    return None if receipt is None else receipt_view(receipt, treatment=_treatment(run, receipt))


def _treatment(run: PretrainingRun, receipt: Receipt | None) -> Treatment:
    return treatment_of(receipt, fingerprint=str(run.experiment.get("fingerprint")), combination=None)


def _stamps(run: PretrainingRun) -> list[Stamp]:
    found = [] if run.complete else [Stamp("unfinished", warn=True)]
    found += [Stamp("collapsed", warn=True)] if run.collapsed else []
    treatment = _treatment(run, Receipt.load(run.path))
    found.append(Stamp(f"treatment {treatment.status}", warn=treatment.status != "verified"))
    return [
        *found,
        Stamp("pretraining: no labels"),
        Stamp(f"protocol: {run.data.get('protocol')}"),
        Stamp(f"seed {run.experiment.get('seed')}"),
        Stamp(f"scale {run.experiment.get('scale')}"),
    ]


def _verdict(run: PretrainingRun) -> Verdict:
    if run.collapsed:
        text = "<strong>Collapsed</strong>: the features say nearly the same of every token. Do not use these weights."
        return Verdict(headline=Markup(text), reasons=[_monitored(run), _never_a_score(run)])
    if not run.complete or run.kept is None:
        text = f"Unfinished: {run.metrics.height} epochs so far, none of them collapsed."
        return Verdict(headline=Markup(text), reasons=[_never_a_score(run)])
    row = run.metrics.row(run.kept, named=True)
    text = "The encoder of epoch <strong>{}</strong> did not collapse: its features span {} directions, val loss {}."
    headline = Markup(text).format(f"{row['epoch']:.0f}", f"{row['effective_rank']:.3g}", f"{row['val_loss']:.4g}")
    return Verdict(headline=headline, reasons=[_monitored(run), _never_a_score(run)])


def _monitored(run: PretrainingRun) -> Reason:
    rows = collapsed_epochs(run.metrics)
    said = f"collapsed: {', '.join(map(str, rows))}" if rows else "none collapsed"
    return Reason("Monitors.", f"Features of all validation clips after each epoch ({run.metrics.height}); {said}.")


def _never_a_score(run: PretrainingRun) -> Reason:
    scale = run.experiment.get("scale", "full")
    command = ["calot", "train", "e02_frozen_probe", f"backbone.weights={run.path / 'weights'}"]
    command += ["--data", str(run.data.get("root")), *(() if scale == "full" else ("--scale", scale))]
    text = "Whether this encoder is any better shows when a probe of it is trained on labels and scored:"
    return Reason("A loss is not a score.", text, shlex.join(command))


def _epochs_table(run: PretrainingRun) -> Table:
    shown = [column for column in (*CURVES, "train_guided", "val_guided") if column in run.metrics.columns]
    rows = [
        Row(
            cells=[f"{row['epoch']:.0f}", *(_cell(column, row[column]) for column in shown)],
            strong=number == run.kept,
        )
        for number, row in enumerate(run.metrics.iter_rows(named=True))
    ]
    columns = [Column(name="epoch", number=False), *(Column(name=column.replace("_", " ")) for column in shown)]
    return Table(title="Every epoch; the one kept is bold", columns=columns, rows=rows)


def _cell(column: str, value: float) -> str:
    return ("yes" if value else "no") if column == "collapsed" else f"{value:.4g}"


def _facts(run: PretrainingRun) -> list[Fact]:
    if run.kept is None:
        return []
    found = {k: str(v).strip("`") for k, v in pretraining_facts(run.path).items()}
    coded = ("command", "pretraining", "data")
    return [
        Fact(name=f"{name[0].upper()}{name[1:]}", text=text, wide=name in coded, code=name == "command")
        for name, text in found.items()
    ]
