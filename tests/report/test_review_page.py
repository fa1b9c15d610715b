"""The review page in a real browser: it plays, seeks, jumps, keeps marks and exports them, and asks nobody anything."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, FITS, WIDTHS
from command_line import calot
from devtools import Browser, browsing
from make_assessment import SECONDS, make_assessment, recording

from calot.data.digests import file_digest
from calot.errors import CalotError
from calot.report.review_marks import COLUMNS, Mark, read_marks
from calot.report.review_page import write_review

in_chromium = pytest.mark.skipif(
    CHROMIUM is None or os.name == "nt", reason="needs Chromium and pipes that it inherits"
)
NAME = "operation-1a2b3c4d"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An assessed operation beside its recording, and another one in two files."""
    home = tmp_path_factory.mktemp("review")
    one = recording(home / "videos" / "opération #1.webm")
    write_review(make_assessment(home / "one"), recordings=[one])
    halves = [recording(home / f"half {i}.webm", start=i * SECONDS / 2, seconds=SECONDS / 2) for i in range(2)]
    write_review(make_assessment(home / "two", files=2, seeds=False, name="op 7"), recordings=halves)
    return home


@pytest.fixture(scope="module")
def browser(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(profile=tmp_path_factory.mktemp("profile"), downloads=place / "downloads") as found:
        yield found


def opened(browser: Browser, page: Path) -> Browser:
    """The page with its recording loaded and no marks left from before."""
    browser.open(page.as_uri())
    browser.run("localStorage.clear()")
    browser.console.clear()
    browser.requests.clear()
    browser.open(page.as_uri())
    browser.until("document.querySelector('video').readyState >= 2")
    return browser


def at(browser: Browser, second: float) -> None:
    """Wait until the picture on the screen is that of a second."""
    browser.until(f"Math.abs(document.querySelector('video').currentTime - {second}) < 0.3")
    browser.until("!document.querySelector('video').seeking")


@in_chromium
@pytest.mark.slow
class TestInTheBrowser:
    """One browser for all: starting it takes longest."""

    def test_seek_by_mouse_and_by_keys(self, browser: Browser, place: Path) -> None:
        opened(browser, place / "one" / "review.html")
        browser.click("#seek .bars", share=0.75)
        at(browser, 45)
        assert browser.run("document.getElementById('now').textContent") == "00:45"
        assert float(browser.run("document.getElementById('seek').getAttribute('aria-valuenow')")) == pytest.approx(
            45, abs=0.5
        )
        browser.key("ArrowLeft")
        at(browser, 40)
        browser.key("Home")
        at(browser, 0)

    def test_jump_to_where_all_held_to_changes_and_to_faults(self, browser: Browser, place: Path) -> None:
        opened(browser, place / "one" / "review.html")
        browser.click(".headline .jump")
        at(browser, 34)
        browser.key("p", text="p")  # the change before: the third criterion abstains from 31 on
        at(browser, 31)
        browser.key("n", text="n")
        at(browser, 34)
        browser.click("#faults li:nth-child(3) .jump")
        at(browser, 26)
        browser.click("#after")
        at(browser, 27)

    def test_it_plays_and_stops(self, browser: Browser, place: Path) -> None:
        opened(browser, place / "one" / "review.html")
        browser.click("#play")
        browser.until("document.querySelector('video').currentTime > 0.5")
        assert browser.run("document.getElementById('play').textContent") == "Pause"
        browser.key(" ", text=" ")  # on the button: the browser presses it
        browser.until("document.querySelector('video').paused")

    def test_marks_are_added_changed_kept_deleted_and_exported(self, browser: Browser, place: Path) -> None:
        opened(browser, place / "one" / "review.html")
        browser.click(".headline .jump")
        at(browser, 34)
        browser.key("3", text="3")
        browser.click(".add[data-criterion=two_structures]")
        browser.click("#seek .bars", share=0.5)
        at(browser, 30)
        browser.key("2", text="2")
        assert browser.run("document.querySelectorAll('.mark').length") == 3
        set_value = "(e, v) => { e.value = v; e.dispatchEvent(new Event('change', {bubbles: true})); }"
        for number, value in ((0, "not achieved"),):
            browser.run(
                f"({set_value})(document.querySelectorAll('.mark')[{number}].querySelectorAll('select')[1], '{value}')"
            )
        browser.run(f"""({set_value})(document.querySelector('.mark input[type=text]'), '=1+1, "so", sagte Jürgen')""")
        browser.run(f"({set_value})(document.querySelectorAll('.mark input[type=number]')[1], 44.5)")
        browser.run(f"({set_value})(document.querySelectorAll('.mark input[type=number]')[0], 50)")  # after its end
        assert browser.run("document.querySelector('.mark input[type=number]').validity.valid") is False
        browser.click(".mark:nth-child(3) .drop")
        browser.open((place / "one" / "review.html").as_uri())  # kept over a new visit
        assert browser.run("document.querySelectorAll('.mark').length") == 2
        browser.click("#export")
        path = place / "downloads" / f"{NAME}-marks.csv"
        end = time.monotonic() + 30
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.05)
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
        assert tuple(rows[0]) == COLUMNS
        assert [(r["criterion"], r["verdict"]) for r in rows] == [
            ("hepatocystic_triangle", "not achieved"),
            ("cystic_plate", "achieved"),
        ]
        assert float(rows[0]["start"]) == pytest.approx(30, abs=0.3)
        assert float(rows[0]["end"]) == 44.5
        assert rows[0]["note"] == """'=1+1, "so", sagte Jürgen""", "no spreadsheet runs it"
        assert [mark.criterion for mark in read_marks(path, operation=NAME)] == [
            "hepatocystic_triangle",
            "cystic_plate",
        ]

    def test_several_files_are_one_time(self, browser: Browser, place: Path) -> None:
        opened(browser, place / "two" / "review.html")
        browser.click(".headline .jump")  # second 34 lies 4 s into the second file
        browser.until("document.querySelector('video').src.includes('half%201')")
        at(browser, 4)
        assert browser.run("document.getElementById('now').textContent") == "00:34"
        browser.key("ArrowRight")  # within the second file
        at(browser, 9)
        browser.key("Home")
        browser.until("document.querySelector('video').src.includes('half%200')")

    def test_a_recording_that_cannot_be_played_is_said_and_may_be_picked(self, browser: Browser, place: Path) -> None:
        gone = Path(shutil.copytree(place / "one", place / "gone"))
        write_review(gone, recordings=None)
        browser.open((gone / "review.html").as_uri())
        assert "does not say where" in browser.run("document.getElementById('problem').textContent")
        root = browser.send("DOM.getDocument")["root"]["nodeId"]
        node = browser.send("DOM.querySelector", nodeId=root, selector="#pick")["nodeId"]
        browser.send("DOM.setFileInputFiles", nodeId=node, files=[str(next((place / "videos").iterdir()))])
        browser.until("document.querySelector('video').readyState >= 2")
        assert browser.run("document.getElementById('problem').hidden") is True
        (gone / "broken.webm").write_bytes(b"no video")
        write_review(gone, recordings=[gone / "broken.webm"])
        browser.open((gone / "review.html").as_uri())
        browser.until("!document.getElementById('problem').hidden")
        assert "cannot play" in browser.run("document.getElementById('problem').textContent")

    def test_it_asks_nobody_anything_and_its_console_is_empty(self, browser: Browser, place: Path) -> None:
        opened(browser, place / "one" / "review.html")
        for selector in (".headline .jump", "#play", "#after", "#before", "#export", ".add"):
            browser.click(selector)
        browser.until("document.querySelector('video').currentTime > 1")
        assert browser.console == []
        foreign = [a for a in browser.requests if not a.startswith(("file://", "data:", "blob:"))]
        assert foreign == []
        assert any(a.endswith(".webm") for a in browser.requests), "requests are seen at all"
        browser.run("fetch('http://127.0.0.1:9/x').catch(() => 0)")
        assert any("Content Security Policy" in line for line in browser.console), "and would be refused"

    @pytest.mark.parametrize("dark", [False, True])
    @pytest.mark.parametrize("screen", WIDTHS)
    def test_it_fits_every_screen(self, screen: str, dark: bool, browser: Browser, place: Path) -> None:
        browser.resize(WIDTHS[screen], 900, dark=dark)
        opened(browser, place / "one" / "review.html")
        assert browser.run(f"(() => {{ {FITS} }})()") == "true "
        if screen != "phone":  # player and all tracks without scrolling on a desktop, the player on a tablet
            below = browser.run("document.querySelector('.controls').getBoundingClientRect().bottom")
            assert below < 900
        browser.resize(1280, 900)


def test_the_page_is_one_file_that_names_no_address(place: Path) -> None:
    page = (place / "one" / "review.html").read_text()
    assert re.findall(r"(?:src|href)=\"(?!data:)[^\"]+\"", page) == []
    assert "http" not in page.replace("http-equiv", "")
    assert "Not a medical device" in page
    assert '"source": "../videos/op%C3%A9ration%20%231.webm"' in page
    unlinked = Path(shutil.copytree(place / "one", place / "unlinked"))
    write_review(unlinked, recordings=None)
    assert "op%C3%A9ration" not in (unlinked / "review.html").read_text()


def test_marks_of_raters_stand_on_the_page_and_text_is_never_markup(place: Path) -> None:
    folder = Path(shutil.copytree(place / "one", place / "raters"))
    mark = Mark(criterion="cystic_plate", verdict="achieved", start=3, end=9, note="</script><b>x", rater="A & B")
    write_review(folder, recordings=None, marks=[mark])
    page = (folder / "review.html").read_text()
    assert "</script><b>x" not in page
    assert "\\u003c/script>\\u003cb>x" in page


GOOD = {"operation": NAME, "criterion": "cystic_plate", "verdict": "achieved", "start": "1", "end": "2.5"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"operation": "other"}, "line 2: of operation 'other'"),
        ({"criterion": "cystic plate"}, "line 2: criterion 'cystic plate'. Did you mean \"cystic_plate\"?"),
        ({"verdict": "yes"}, "line 2: verdict 'yes'"),
        ({"start": "3"}, "line 2: start '3' and end '2.5'"),
        ({"end": "nan"}, "end 'nan'"),
        ({"start": ""}, "start ''"),
    ],
)
def test_marks_that_are_not_whole_are_named(wrong: dict[str, str], message: str, tmp_path: Path) -> None:
    row = GOOD | wrong
    path = tmp_path / "marks.csv"
    path.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    with pytest.raises(CalotError, match=re.escape(message)):
        read_marks(path, operation=NAME)


def test_review_is_written_again_by_its_command(place: Path, tmp_path: Path) -> None:
    folder: Any = Path(shutil.copytree(place / "one", tmp_path / "moved"))
    film = Path(shutil.copy(next((place / "videos").iterdir()), tmp_path / "film.webm"))
    facts = json.loads((folder / "assess.json").read_text())
    facts["plan"]["recordings"] = [file_digest(film)]
    (folder / "assess.json").write_text(json.dumps(facts))
    assert calot("review", folder, film, cwd=tmp_path).returncode == 0
    assert '"source": "../film.webm"' in (folder / "review.html").read_text()
    for words, message in (
        ((folder,), "or --unlinked"),
        ((folder, film, film), "1 recordings were assessed and 2 given"),
        ((folder, tmp_path / "none.webm"), "No such file"),
        ((tmp_path, "--unlinked"), "not a finished assessment"),
    ):
        done = calot("review", *words, cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
    (folder / "scores.parquet").write_bytes((folder / "scores.parquet").read_bytes()[:-9] + b"x" * 9)
    assert "not those that calot wrote" in calot("review", folder, "--unlinked", cwd=tmp_path).stderr
