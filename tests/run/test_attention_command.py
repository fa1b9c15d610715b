"""`calot attention` on runs as a user has them: its files, its page, its seal, and a test split that is counted."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from command_line import calot
from run_requests import requested, trained

from calot.provenance.custody import require_sealed, seal
from calot.report.attention_files import AttentionFiles

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A frozen probe, and the same encoder with adapters, both sealed."""
    root, made = tmp_path_factory.mktemp("attention_runs"), {}
    for name in ("e02_frozen_probe", "e10a_lora_r16"):
        made[name] = trained(requested(phantom, root / name, name, changes=("train.epochs=1",)))
        seal(made[name])
    return made


class _Page(HTMLParser):
    """What a page asks of the network, and which pictures and charts have no words."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.wordless: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        self.outside += [str(v) for k, v in attrs if k in ("src", "href") and not str(v).startswith(("data:", "#"))]
        if tag in ("img", "svg") and (tag == "svg" or held.get("src")):
            self.pictures += 1
            if not (held.get("alt") or held.get("aria-label") or held.get("aria-hidden")):
                self.wordless.append(tag)


def test_one_run_against_another_writes_tables_and_one_page(runs: dict[str, Path], tmp_path: Path) -> None:
    run, other = runs["e10a_lora_r16"], runs["e02_frozen_probe"]
    done = calot("attention", run, "--against", other, "--clips", "4", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = run / "analysis" / "attention_val"
    told = json.loads(done.stdout)
    assert told["folder"] == str(folder)
    assert len(told["clips"]) == 4
    assert {row["variant"] for row in told["layers"]} == {"run", "against", "random", "shuffled", "uniform"}
    files = AttentionFiles.read(folder)
    assert files.heads.filter(pl.col("variant") == "run").height == 4 * 4 * 2
    assert pl.read_csv(folder / "heads.csv").height == files.heads.height
    assert files.changes is not None
    assert files.changes["apart"].min() > 0.0
    assert files.weights is not None
    moved = dict(files.weights.group_by("target").agg(pl.col("relative").max()).iter_rows())
    assert {target for target, most in moved.items() if most > 1e-6} == {"q", "v"}, "e10a adapts these alone"
    require_sealed(run)
    assert calot("audit", run, cwd=tmp_path).returncode == 0
    text = (folder / "attention.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert (page.outside, page.wordless) == ([], [])
    assert page.pictures > 10
    assert "Phantom data" in text


def test_without_another_run_nothing_of_it_is_left(runs: dict[str, Path], tmp_path: Path) -> None:
    out, run = tmp_path / "out", runs["e02_frozen_probe"]
    for words in (("--against", runs["e10a_lora_r16"]), ()):
        done = calot("attention", run, *words, "--clips", "2", "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (out / "weights.csv").exists() == bool(words)
        assert ("Against the other run" in (out / "attention.html").read_text(encoding="utf-8")) == bool(words)
    assert "synthetic" in done.stdout
    assert not (run / "analysis" / "attention_test").exists()


def _openings(said: str) -> int:
    found = re.search(r"test opened for this data set: (\d+) times?, wherever results go", said)
    assert found, said
    return int(found[1])


def test_every_opening_of_test_is_counted(runs: dict[str, Path], tmp_path: Path) -> None:
    """One more each time: the phantom is the session's, so that other test files may have opened it before."""
    words = ("--split", "test", "--clips", "1", "--results", tmp_path / "results", "--out", tmp_path / "out")
    counts = []
    for _ in range(2):
        done = calot("attention", runs["e02_frozen_probe"], *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        counts.append(_openings(done.stderr))
    assert counts[1] == counts[0] + 1


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    done = calot("attention", tmp_path / "nothing", cwd=tmp_path)
    assert done.returncode == 2
    assert "nothing" in done.stderr
