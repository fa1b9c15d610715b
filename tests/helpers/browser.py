"""Headless Chromium, driven from the command line: a page's DOM after its scripts ran, its console, and pictures."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = {"desktop": 1440, "tablet": 820, "phone": 390}

#: Whether the page is no wider than the screen ("true"), and texts that are drawn smaller than 11 pixels.
FITS = """
  const texts = [...document.querySelectorAll("body *")].filter(e => e.checkVisibility()
    && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
  const size = e => { const own = parseFloat(getComputedStyle(e).fontSize), svg = e.ownerSVGElement;
    const drawn = svg ? svg.viewBox.baseVal.width : 0;
    return drawn ? own * svg.getBoundingClientRect().width / drawn : own; };
  const small = texts.map(e => [size(e), e.textContent.trim()]).filter(([pixels]) => pixels < 11);
  return `${document.documentElement.scrollWidth <= innerWidth} ${small.slice(0, 3)}`;
"""


@dataclass(frozen=True)
class Visit:
    """What a browser made of a page: the DOM once scripts ran, and what it wrote to the console."""

    dom: str
    console: list[str]


def visit(page: Path, *, width: int = 1440, dark: bool = False, picture: Path | None = None) -> Visit:
    """Open a page; `picture` is then a screenshot of its first screens."""
    shot = [f"--screenshot={picture}"] if picture else ["--dump-dom"]
    colours = ["--force-dark-mode", "--enable-features=WebContentsForceDark:inversion_method/none"] if dark else []
    assert CHROMIUM is not None
    command = [
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"),
        *("--v=0", "--virtual-time-budget=3000", f"--window-size={width},2400"),
        *(*colours, *shot, page.resolve().as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Visit(dom=done.stdout, console=[line for line in done.stderr.splitlines() if ":CONSOLE" in line])


def probed(page: str, code: str, *, folder: Path, width: int = 1440) -> str:
    """What a script of the test's own, which the page's policy is told to allow, returns within a page."""
    script = f"document.title = String((() => {{ {code} }})());"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = page.replace("script-src '", f"script-src 'sha256-{digest}' '", 1)
    path = folder / "probed.html"
    path.write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    seen = visit(path, width=width)
    assert seen.console == []
    found = re.search(r"<title>(.*?)</title>", seen.dom, re.S)
    assert found is not None
    return found[1]
