"""The site's pages and their order: README and its neighbours, every docs/*.md, lists of folders, the notebook.

A hook of mkdocs. Every page is in the navigation because it is there; links are those of the repository, rewritten.
What a link names outside the site (source files) must exist, and becomes plain text. With `--strict` a link or an
anchor that leads nowhere ends the build.
"""

from __future__ import annotations

import json
import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
LOG = logging.getLogger("mkdocs.hooks.pages")
#: Files of the repository's root that are pages.
BESIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
}
#: Pages that stand elsewhere than among the guides.
PYTHON = ("api.md", "notebook.md")
PROJECT = ("contributing.md", "releasing.md", "changelog.md", "security.md", "code_of_conduct.md", "LAB_LOG.md")
FOLDERS = {"results": "What was measured", "decisions": "Why it is built so"}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```.*?^```|~~~.*?^~~~)", re.M | re.S)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not files of docs/, and put all in order."""
    for name, page in BESIDE.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    if (notebook := ROOT / "docs" / "notebook.ipynb").exists():
        files.append(File.generated(config, "notebook.md", content=page_of(json.loads(notebook.read_text()))))
    for folder, title in FOLDERS.items():
        inside = sorted(f.src_uri for f in files.documentation_pages() if f.src_uri.startswith(f"{folder}/"))
        lines = [f"- [{heading(ROOT / 'docs' / uri)}]({uri.partition('/')[2]})" for uri in inside]
        content = "\n".join([f"# {title}: every page", "", *lines, ""])
        files.append(File.generated(config, f"{folder}/index.md", content=content))
    every = sorted(f.src_uri for f in files.documentation_pages())
    config.nav = navigation(every)
    return files


def navigation(pages: list[str]) -> list[Any]:
    """Where each page stands; a new guide needs no line anywhere."""
    guides = [p for p in pages if "/" not in p and p not in (*PYTHON, *PROJECT, "index.md")]
    folders = [{title: [p for p in pages if p.startswith(f"{name}/")]} for name, title in FOLDERS.items()]
    python, project = ([p for p in group if p in pages] for group in (PYTHON, PROJECT))
    return [{"Start": "index.md"}, {"Guides": guides}, {"Python": python}, *folders, {"Project": project}]


def heading(path: Path) -> str:
    """A page's title."""
    return next(
        (line[2:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line[:2] == "# "), path.stem
    )


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as the site has them."""
    own = {page_: name for name, page_ in BESIDE.items()}
    source = own.get(page.file.src_uri) or f"docs/{page.file.src_uri}"
    parts = FENCE.split(markdown)
    return "".join(
        part if FENCE.match(part) else rewritten(part, source=source, page=page.file.src_uri) for part in parts
    )


def rewritten(text: str, *, source: str, page: str) -> str:
    """The links of one stretch of text in the repository's file `source`, which is the site's `page`."""

    def link(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        path, sign, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:") or not path:
            return found[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if place in BESIDE:
            to = BESIDE[place]
        elif place.startswith("docs/"):
            inner = place.removeprefix("docs/")
            to = f"{inner}/index.md" if inner in FOLDERS else inner
            to = "notebook.md" if to == "notebook.ipynb" else to
        else:
            if not (ROOT / place).exists():
                LOG.warning("%s: links to %s, which is not there", source, target)
            return words
        return f"{picture}[{words}]({posixpath.relpath(to, posixpath.dirname(page) or '.')}{sign}{anchor})"

    return LINK.sub(link, text)


def page_of(notebook: dict[str, Any]) -> str:
    """An executed notebook as a page: text, code, and what each cell gave."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        parts += [shown(output) for output in cell["outputs"]]
    return "\n\n".join(part for part in parts if part) + "\n"


def shown(output: dict[str, Any]) -> str:
    """One output: its table where it has one, else its text."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "text/html" in data:
        return f'<div class="output">{"".join(data["text/html"])}</div>'
    text = "".join(data.get("text/plain", "")).rstrip()
    return f"```text\n{text}\n```" if text else ""
