"""What a reader of the project sees is plain English: phrases that made its sentences hard to read stay out."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

UNIT = (
    "seed|clip|run|video|epoch|head|criterion|class|layer|file|frame|second|split|operation|step|stage|group|row|line|"
    "image|core|keyframe|side|process|family|reason|term|pixel|token|unit|check|batch|query|output|minute|hour"
)
#: Words after which "a" begins an object or a clause: "2 of a run", "1 when a row lies outside".
OTHERWISE = (
    "of|in|is|as|from|by|to|for|with|at|on|over|has|than|or|and|that|when|where|within|if|are|be|into|makes?|not|once|"
    "until|after|before|but|per|under|without"
)
FORBIDDEN = {
    "fix": r"\bmend(s|ed|ing)?\b",
    "continue, resume": r"\bgo(es|ing)? on (with|from|where)\b|\b(it|call|command) goes on\b",
    "is not a ...": r"(?<!there )\b(is|are) no (?!longer|more|less|such|one)\w+",
    "again": r"\banew\b",
    "anyway": r"\ball the same\b(?! to)",
    "available, missing": r"\bat hand\b|\bbe had\b",
    "depends on": r"\bhangs? (up)?on\b",
    "reaches": r"\bcomes? by (its?|the|them|an?)\b",
    "that is, what is wrong": r"\bthat is to say\b|\bwhat is the matter\b",
    "one per ...": r"\b(?:one|two|three|four|five|six|eight|ten|\d+(?:[.,]\d+)*|numbers?)"
    rf"(?: (?:[\w-]+ )?(?!(?:{OTHERWISE})\b)\w+)? an? (?:{UNIT})\b(?! apart)",
}


def faults(text: str) -> list[str]:
    """The forbidden phrases with the words to write instead; a line's end inside a sentence counts as a space."""
    flat = re.sub(r'"?\s*\n\s*(?:#:? |f?")?', " ", text)
    return [f"{m[0]!r}: write {new!r}" for new, old in FORBIDDEN.items() for m in re.finditer(f"(?i){old}", flat)]


def test_nothing_a_reader_sees_uses_a_forbidden_phrase() -> None:
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.html")]
    pages = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]
    read = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in [*sources, *pages]}
    assert len(read) > 250
    found = {name: faults(text) for name, text in read.items() if name != "docs/LAB_LOG.md"}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_no_line_of_the_changelog_has_150_characters() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) >= 150] == []
