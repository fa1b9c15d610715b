"""`python docs/site/execute.py [OUT]`: execute docs/notebook.py and keep it, with what its cells gave, as a notebook.

The outputs are those of this code: the SHA-256 of the text is kept with them, and a test executes it again. What goes
to standard error is progress, and is left out; so are times and the machine's own facts.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

SOURCE = Path(__file__).parents[1] / "notebook.py"
LONGEST_S = 1200


def executed(source: Path = SOURCE) -> Any:
    """The notebook, every cell run in order in a kernel of this Python."""
    notebook = jupytext.read(source)
    client = NotebookClient(notebook, timeout=LONGEST_S, kernel_name="python3", resources={"metadata": {"path": "."}})
    client.execute()
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", nbformat.NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    notebook.metadata = nbformat.NotebookNode(kernelspec=kernel, calot={"source_sha256": digest})
    return notebook


if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE.with_suffix(".ipynb")
    nbformat.write(executed(), out)
    print(out)
