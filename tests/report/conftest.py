"""Runs written once and shared: reading them is cheap, writing their pages is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from make_run import make_run
from markupsafe import Markup
from visible_text import Words, visible

from calot.report import figures, timelines
from calot.report.page import write_report


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
