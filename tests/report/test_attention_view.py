"""Attention on the page: the run's entropy and its baseline's in one chart, or why the baseline's is missing."""

from __future__ import annotations

import re
from pathlib import Path

from make_run import make_run
from visible_text import Words

from calot.report.page import write_report

OWN, THEIRS = (0.9, 0.7, 0.5), (0.9, 0.88, 0.86, 0.85)


def _run(root: Path, *, entropy: tuple[float, ...] | None = OWN, baseline: str | None = "e02_frozen_probe") -> Path:
    return make_run(
        root / "e03/run_s0",
        name="e03_focal",
        baseline=baseline,
        skill=0.9,
        noise=7,
        entropy=entropy,
        pictures=False,
    )


def test_the_entropy_of_run_and_baseline_stands_in_one_chart(tmp_path: Path) -> None:
    make_run(tmp_path / "e02/run_s0", entropy=THEIRS, pictures=False)
    page = write_report(_run(tmp_path)).read_text(encoding="utf-8")
    (chart,) = re.findall(r"<svg[^>]*Entropy of the last layer.*?</svg>", page, flags=re.DOTALL)
    dots = re.findall(r"(?:this run|its baseline)</text>", chart)
    assert len(dots) == 2
    assert "Beside it: its baseline e02_frozen_probe, seed 0." in page
    assert page.index('id="receipt"') < page.index(chart)


def test_a_baseline_that_is_not_at_hand_is_said(tmp_path: Path, words: Words) -> None:
    assert "Its baseline’s is not shown. No run of e02_frozen_probe at this scale" in words(_run(tmp_path))


def test_a_baseline_without_such_readings_is_said(tmp_path: Path, words: Words) -> None:
    make_run(tmp_path / "e02/run_s0", pictures=False)
    said = "Its baseline’s is not shown: the receipt of e02_frozen_probe, seed 0, has no such readings."
    assert said in words(_run(tmp_path))


def test_a_run_without_a_baseline_has_its_own_alone_and_one_without_readings_has_none(
    tmp_path: Path, words: Words
) -> None:
    alone = words(_run(tmp_path / "alone", baseline=None))
    assert "Entropy of the last layer’s attention" in alone
    assert "baseline’s is not shown" not in alone
    assert "Entropy of the last layer’s attention" not in words(_run(tmp_path / "none", entropy=None))
