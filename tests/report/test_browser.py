"""The page in a real browser: it runs without a word on the console, sorts, enlarges, and fits each width."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import CHROMIUM, FITS, WIDTHS, probed, visit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
]


def test_a_table_sorts_by_the_heading_chosen_and_back(page: str, tmp_path: Path) -> None:
    code = """
      const table = [...document.querySelectorAll("table.sortable")].find(t => t.textContent.includes("prevalence"));
      const column = [...table.tHead.rows[0].cells].findIndex(c => c.textContent.includes("prevalence"));
      const shown = () => [...table.tBodies[0].rows].map(r => parseFloat(r.cells[column].textContent)).filter(isFinite);
      const button = table.tHead.rows[0].cells[column].querySelector("button");
      button.click(); const down = shown(); button.click(); const up = shown();
      const ordered = [down, up.reverse()].every(list => list.every((v, i) => i === 0 || list[i - 1] >= v));
      return `${ordered} ${down.length > 2} ${table.tHead.rows[0].cells[column].ariaSort}`;
    """
    assert probed(page, code, folder=tmp_path) == "true true ascending"


def test_a_clips_frames_enlarge(page: str, tmp_path: Path) -> None:
    code = """
      const button = document.querySelector(".enlarge"), dialog = document.querySelector("dialog.enlarged");
      const small = button.getBoundingClientRect().width; button.click();
      return `${dialog.open} ${dialog.querySelector("img").getBoundingClientRect().width > small}`;
    """
    assert probed(page, code, folder=tmp_path) == "true true"


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_page_is_no_wider_than_the_screen_and_no_text_is_below_11_pixels(
    page: str, tmp_path: Path, width: int
) -> None:
    assert probed(page, FITS, folder=tmp_path, width=width) == "true "


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_draws_in_light_and_dark(run: Path, page: str, tmp_path: Path, dark: bool) -> None:
    picture = tmp_path / "page.png"
    assert visit(run / "report.html", dark=dark, picture=picture).console == []
    assert picture.stat().st_size > 50_000
