"""Runs written once and shared: reading them is cheap, writing their pages is not."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from make_run import make_run
from markupsafe import Markup

from calot.report import figures, timelines
from calot.report.page import write_report

Words = Callable[[Path], str]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on phantom data, scored on val and on test, with pictures."""
    return make_run(tmp_path_factory.mktemp("plain") / "results/e02_frozen_probe/run_s0", splits=("val", "test"))


@pytest.fixture(scope="session")
def page(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def words() -> Words:
    """What a reader sees of a run's or a folder's page, as one line of text."""

    def read(folder: Path) -> str:
        with pytest.MonkeyPatch.context() as patch:  # what is drawn is not read here, and takes most of the time
            for module in (figures, timelines):
                patch.setattr(module, "svg", lambda figure, **_: Markup(""))
            return visible(write_report(folder).read_text(encoding="utf-8"))

    return read


def visible(page: str) -> str:
    """Text of a page without markup, styles and figures."""
    text = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", page, flags=re.DOTALL)
    text = html.unescape(re.sub(r"<[^>]+>", " ", text)).replace("\N{NO-BREAK SPACE}", " ")
    return re.sub(r"\s+([.,:;])", r"\1", re.sub(r"\s+", " ", text))
