"""Headless Chromium, driven from the command line: a page's DOM after its scripts ran, its console, and pictures."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = {"desktop": 1440, "tablet": 820, "phone": 390}


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
