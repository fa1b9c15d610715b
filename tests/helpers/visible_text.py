"""A page as its reader sees it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

#: Writes the page of a run's or a folder's runs and gives its text.
Words = Callable[[Path], str]


def visible(page: str) -> str:
    """Text of a page without markup, styles, scripts and figures."""
    text = re.sub(r"<style>.*?</style>|<script>.*?</script>|<svg.*?</svg>", " ", page, flags=re.DOTALL)
    text = html.unescape(re.sub(r"<[^>]+>", " ", text)).replace("\N{NO-BREAK SPACE}", " ")
    return re.sub(r"\s+([.,:;])", r"\1", re.sub(r"\s+", " ", text))
