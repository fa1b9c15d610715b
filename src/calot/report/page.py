"""`write_report`: one offline HTML file for a run, or for every run below a folder."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from calot.errors import CalotError
from calot.provenance.pretraining_facts import without_scores
from calot.report.pretraining_page import pretraining_context
from calot.report.run_folder import find_runs, read_run
from calot.report.run_page import run_context
from calot.report.runs_page import runs_context
from calot.writing import write_text

NAME = "report.html"


def write_report(folder: Path, *, results: Path | None = None) -> Path:
    """Write `report.html` into `folder`: a run, or a folder that holds runs at any depth, which are then compared.

    `results` is the results root, where the ledger and the baseline's runs are looked for; by default the nearest
    folder above a run that holds a ledger, else the run's grandparent. A pretraining's page is another one, as it has
    no scores. Raises CalotError for what cannot be read.
    """
    folder = Path(folder)
    if (folder / "experiment.json").is_file() and without_scores(folder):
        return _write(folder, template="pretraining.html", context=pretraining_context(folder))
    if (folder / "experiment.json").is_file():
        return _write(folder, template="run.html", context=run_context(read_run(folder), results=results))
    if not folder.is_dir():
        raise CalotError(f"{folder} is not a folder. Give a run, or a folder that holds runs.")
    paths = find_runs(folder)
    if not paths:
        raise CalotError(
            f"{folder} holds no run: there is no experiment.json at any depth. Train one with `calot train`."
        )
    context = runs_context([read_run(path) for path in paths], folder=folder, results=results)
    return _write(folder, template="runs.html", context=context)


def page_templates() -> Environment:
    """Every page's templates."""
    return Environment(
        loader=PackageLoader("calot.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def template_source(name: str, *, environment: Environment) -> Markup:
    """A style sheet or script among the templates, as it stands."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def render(template: str, *, context: dict[str, Any]) -> str:
    """The page as text. Autoescape is on for every template: what a file says is never markup."""
    environment = page_templates()
    style, script = (template_source(name, environment=environment) for name in ("style.css", "page.js"))
    return environment.get_template(template).render(
        style=style, script=script, script_digest=_digest(script), **context
    )


def _digest(script: str) -> str:
    """As a Content-Security-Policy names the one script that a page may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _write(folder: Path, *, template: str, context: dict[str, Any]) -> Path:
    """Whole or not at all: a reader never meets half a page."""
    return write_text(folder / NAME, render(template, context=context))
