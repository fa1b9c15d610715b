"""Tables and words as LaTeX (booktabs), every character that LaTeX would read as a command escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from calot.report.tables import Cell, Table, in_sentence

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{NO-BREAK SPACE}": "~",
    "\N{EN DASH}": "--",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
_CITED = re.compile(r"\[@([\w, @]+)\]")


def latex_escaped(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def latex_paragraph(text: str) -> str:
    """A paragraph whose `[@key]` become citations."""
    parts = _CITED.split(text)
    out = [latex_escaped(part) if place % 2 == 0 else _cite(part) for place, part in enumerate(parts)]
    return "".join(out)


def _cite(keys: str) -> str:
    return rf"\cite{{{','.join(key.strip(' @') for key in keys.split(','))}}}"


#: A table that is wider than the text is drawn smaller; a narrower one stays. Closed behind the table.
_AS_WIDE_AS_THE_TEXT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"


def latex_table(table: Table, *, label: str, caption: str) -> str:
    """One `table` environment; names to the left, numbers to the right."""
    shape = "".join("r" if column.number else "l" for column in table.columns)
    heads = " & ".join(latex_escaped(column.name) for column in table.columns)
    lines = [" & ".join(_cell(cell) for cell in row.cells) + r" \\" for row in table.rows]
    note = [rf"\par\smallskip\footnotesize {latex_escaped(table.note)}"] if table.note else []
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{latex_escaped(caption)}}}",
            rf"\label{{tab:{label}}}",
            _AS_WIDE_AS_THE_TEXT,
            rf"\begin{{tabular}}{{@{{}}{shape}@{{}}}}",
            r"\toprule",
            heads + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            *note,
            r"\end{table}",
            "",
        ]
    )


def latex_document(inputs: Sequence[str], *, title: str) -> str:
    """A file that compiles alone, to look at the tables and figures."""
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage[utf8]{inputenc}",
            r"\usepackage[T1]{fontenc}",
            r"\usepackage{booktabs,graphicx}",
            r"\usepackage[margin=2cm]{geometry}",
            rf"\title{{{latex_escaped(title)}}}",
            r"\begin{document}",
            r"\maketitle",
            *inputs,
            r"\bibliographystyle{plain}",
            r"\bibliography{references}",
            r"\end{document}",
            "",
        ]
    )


def _cell(cell: Cell) -> str:
    return latex_escaped(in_sentence(cell))
