"""The page of a pretraining: its numbers, the masks as the run drew them, a collapse, and one safe, offline file."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, FITS, WIDTHS, probed, visit
from command_line import calot
from PIL import Image
from visible_text import visible

from calot.errors import CalotError
from calot.pretraining.masks import LONG_RANGE, SHORT_RANGE, MultiBlock, draw_places
from calot.report.page import write_report

QUICK = ("protocol=keyframes", "train.epochs=2", "train.batch=8", "train.lr=1e-3", "train.adaptation.lr=1e-3")
SIDE, GAP = 192, 4


@pytest.fixture(scope="module")
def run(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    done = calot("pretrain", phantom, *QUICK, "--scale", "tiny", "--seed", "0", "--out", folder, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert f"report: {folder / 'report.html'}" in done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def test_the_page_is_one_offline_file_with_a_text_for_every_picture(page: str) -> None:
    assert not re.search(r"https?:|@import|url\((?!#)", re.sub(r"base64,[^\"]*", "", page))
    pictures = re.findall(r'<img src="[^"]*"( alt="[^"]+")?', page)
    assert len(pictures) == 3
    assert all(pictures), "the clip, short and long"
    drawings = re.findall(r'<svg class="figure" role="img" aria-label="([^"]+)"', page)
    assert [text.split(" over")[0] for text in drawings] == [
        *("Loss", "Val loss by kind of mask", "Spread of features", "Standard deviation of features"),
        *("Effective rank", "Cosine to the teacher"),
    ]
    assert len(page.encode()) < 1_000_000


def test_it_shows_the_numbers_of_metrics_and_says_what_they_do_not(run: Path, page: str) -> None:
    text = visible(page)
    for row in csv.DictReader((run / "metrics.csv").open()):
        for column in ("train_loss", "val_loss", "feature_std", "effective_rank", "teacher_cosine"):
            assert f"{float(row[column]):.4g}" in text, column
    assert "Phantom data: this encoder means nothing clinically" in text
    assert "A loss is not a score." in text
    assert "no label was read" in text


def test_the_same_run_gives_the_same_page(run: Path, page: str) -> None:
    assert write_report(run).read_text(encoding="utf-8") == page


@pytest.mark.parametrize("kind", [SHORT_RANGE, LONG_RANGE], ids=lambda kind: kind.name)
def test_hidden_tokens_are_dark_where_the_runs_own_draw_hides_them(run: Path, kind: MultiBlock) -> None:
    """The draw is made again here, for the group of val clips that the middle one is in."""
    grid, count = (4, 8, 8), int(json.loads((run / "data.json").read_text())["splits"]["val"]["keyframes"])
    group = count // 2 // 16 * 16
    members = range(group, min(group + 16, count))
    places = draw_places(kind, grid=grid, clips=members, where=(1, group))
    hidden = np.zeros(np.prod(grid), bool)
    hidden[places.targets[count // 2 - group]] = True
    strips = (run / "figures" / "masks" / f"{name}.jpg" for name in ("clip", kind.name))
    whole, marked = (np.asarray(Image.open(strip).convert("L"), float) for strip in strips)
    for at, tokens in enumerate(hidden.reshape(grid)):
        left = at * (SIDE + GAP)
        for (row, column), dark in np.ndenumerate(tokens):
            inner = np.s_[24 * row + 8 : 24 * row + 16, left + 24 * column + 8 : left + 24 * column + 16]
            assert (marked[inner].mean() < 0.4 * whole[inner].mean() + 4) == dark or whole[inner].mean() < 12


def test_a_collapse_is_the_headline_and_named_in_the_drawings(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (folder / "seal.json").unlink()
    lines = (folder / "metrics.csv").read_text().splitlines()
    place = lines[0].split(",").index("collapsed")
    cells = lines[-1].split(",")
    cells[place] = "1.0"
    (folder / "metrics.csv").write_text("\n".join([*lines[:-1], ",".join(cells)]) + "\n")
    page = write_report(folder).read_text()
    assert "Do not use these weights" in visible(page)
    assert "collapsed in epochs 2" in page


def test_a_run_that_has_not_ended_says_so(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    for name in ("checkpoints", "weights", "figures"):
        shutil.rmtree(folder / name)
    (folder / "seal.json").unlink()
    text = visible(write_report(folder).read_text())
    assert "Unfinished: 2 epochs so far" in text
    assert "the run has not written them" in text


def test_a_changed_file_and_a_broken_table_are_refused(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    with (folder / "metrics.csv").open("a") as file:
        file.write("1,3,x\n")
    with pytest.raises(CalotError, match=r"metrics\.csv"):
        write_report(folder)
    (folder / "seal.json").unlink()
    with pytest.raises(CalotError, match=r"metrics\.csv is not a readable CSV"):
        write_report(folder)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")
class TestInABrowser:
    @pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
    def test_the_page_fits_the_screen(self, page: str, tmp_path: Path, width: int) -> None:
        assert probed(page, FITS, folder=tmp_path, width=width) == "true "

    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    def test_it_draws_in_light_and_dark(self, run: Path, page: str, tmp_path: Path, dark: bool) -> None:
        picture = tmp_path / "page.png"
        assert visit(run / "report.html", dark=dark, picture=picture).console == []
        assert picture.stat().st_size > 50_000

    def test_a_strip_enlarges(self, page: str, tmp_path: Path) -> None:
        code = """
          const button = document.querySelector(".enlarge"), dialog = document.querySelector("dialog.enlarged");
          button.click(); return `${dialog.open} ${dialog.querySelector("img").alt.length > 20}`;
        """
        assert probed(page, code, folder=tmp_path) == "true true"
