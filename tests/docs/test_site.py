"""The documentation as a site: it builds with every link and anchor checked, holds every page, and asks nobody else."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import calot

pytest.importorskip("mkdocs", reason="`make docs` installs what builds the site")
pytest.importorskip("mkdocstrings")

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def _build(root: Path, out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "-f", str(root / "mkdocs.yml"), "-d", str(out), *flags]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, env=env)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = _build(ROOT, out, "--strict")
    assert done.returncode == 0, done.stderr
    return out


class _Page(HTMLParser):
    """What a page loads by itself, where its links lead, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        if tag == "a":
            self.links.append(held.get("href") or "")
        elif tag == "link" and held.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(held.get("href") or "")
        elif tag in ("script", "img", "iframe", "source", "video", "object", "embed", "form"):
            self.loads += [held[name] or "" for name in ("src", "data", "action") if name in held]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_every_page_is_in_the_navigation(site: Path) -> None:
    links = set(_Page(site / "index.html").links)
    pages = [path for path in (ROOT / "docs").rglob("*.md") if "site" not in path.parts]
    expected = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in pages}
    assert expected - links == set()
    assert {"changelog.html", "contributing.html", "notebook.html"} <= links


def test_no_page_asks_another_machine(site: Path) -> None:
    outside = re.compile(r"^(https?:)?//")
    pages = [path for path in site.rglob("*.html") if path.name != "sample_report.html"]
    assert len(pages) > 20
    assert [(path.name, one) for path in pages for one in _Page(path).loads if outside.match(one)] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?https?://[^)]*", styles) == []


def test_the_reference_names_every_function_of_the_api(site: Path) -> None:
    page = _Page(site / "api.html")
    anchors = {link.partition("#")[2] for link in page.links}
    names = {name for name in dir(calot) if name in calot._API}
    assert {f"calot.api.{name}" for name in names} <= anchors
    assert "average precision" in page.words.lower()


def test_the_readme_is_the_first_page_with_its_links(site: Path) -> None:
    page = _Page(site / "index.html")
    assert "every result it prints is one you can defend" in " ".join(page.words.split())
    assert {"statistics.html", "decisions/index.html", "sample_report.html"} <= set(page.links)
    assert "report.png" in page.loads


def test_a_new_page_is_in_the_navigation_and_what_leads_nowhere_ends_the_build(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md"):
        shutil.copy(ROOT / name, copy)
    (copy / "docs" / "brand_new.md").write_text(
        "# Brand new\n\n[nowhere](nowhere.md) [there](data.md#no-such-heading)\n"
    )
    readme = (copy / "README.md").read_text()
    planted = "\n[a](docs/gone.md) [b](src/calot/gone.py) [c](docs/run_folder.md#gone) [d](src/calot/api.py)\n"
    (copy / "README.md").write_text(readme + planted)
    done = _build(copy, tmp_path / "out")
    told = done.stderr
    for fault in ("gone.md", "src/calot/gone.py", "#gone", "nowhere.md", "#no-such-heading"):
        assert fault in told, (fault, told)
    assert "api.py" not in told
    assert told.count("WARNING") == 5
    assert "brand_new.html" in _Page(tmp_path / "out" / "index.html").links
