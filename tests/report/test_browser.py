"""The page in a real browser: it runs without a word on the console, sorts, enlarges, and fits each width."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest
from browser import CHROMIUM, WIDTHS, visit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
]


def _with_script(page: str, code: str) -> str:
    """The page with a script of the test's own, allowed by its policy."""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    page = page.replace("script-src '", f"script-src 'sha256-{digest}' '", 1)
    return page.replace("</body>", f"<script>{code}</script></body>")


def _report(page: str, code: str, *, folder: Path, width: int = 1440) -> str:
    """What the test's script writes into the page's title."""
    path = folder / "probed.html"
    path.write_text(_with_script(page, f"document.title = String((() => {{ {code} }})());"), encoding="utf-8")
    seen = visit(path, width=width)
    assert seen.console == []
    found = re.search(r"<title>(.*?)</title>", seen.dom, re.S)
    assert found is not None
    return found[1]


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
    assert _report(page, code, folder=tmp_path) == "true true ascending"


def test_a_clips_frames_enlarge(page: str, tmp_path: Path) -> None:
    code = """
      const button = document.querySelector(".enlarge"), dialog = document.querySelector("dialog.enlarged");
      const small = button.getBoundingClientRect().width; button.click();
      return `${dialog.open} ${dialog.querySelector("img").getBoundingClientRect().width > small}`;
    """
    assert _report(page, code, folder=tmp_path) == "true true"


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_page_is_no_wider_than_the_screen_and_no_text_is_below_11_pixels(
    page: str, tmp_path: Path, width: int
) -> None:
    code = """
      const texts = [...document.querySelectorAll("body *")].filter(e => e.checkVisibility()
        && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
      const size = e => { const own = parseFloat(getComputedStyle(e).fontSize), svg = e.ownerSVGElement;
        const drawn = svg ? svg.viewBox.baseVal.width : 0;
        return drawn ? own * svg.getBoundingClientRect().width / drawn : own; };
      const small = texts.map(e => [size(e), e.textContent.trim()]).filter(([pixels]) => pixels < 11);
      return `${document.documentElement.scrollWidth <= innerWidth} ${small.slice(0, 3)}`;
    """
    assert _report(page, code, folder=tmp_path, width=width) == "true "


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_draws_in_light_and_dark(run: Path, page: str, tmp_path: Path, dark: bool) -> None:
    picture = tmp_path / "page.png"
    assert visit(run / "report.html", dark=dark, picture=picture).console == []
    assert picture.stat().st_size > 50_000
