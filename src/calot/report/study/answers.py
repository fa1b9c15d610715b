"""The study's questions and its wrong conclusions, each answered from runs, or by what would have to be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from calot.report.study.blocks import DocumentBlock
from calot.report.study.causes import attention_block, supervision_table
from calot.report.study.folder import StudyFolder
from calot.report.study.questions import QUESTIONS, WRONG, Contrast, StudyQuestion
from calot.report.study.tables import contrast_table
from calot.report.verdict import spoken_list
from calot.statistics.decisions import Decision

_SUPERVISION = "supervision"
_FEW = 4


def question_blocks(study: StudyFolder) -> list[DocumentBlock]:
    """The four questions."""
    return [block for question in QUESTIONS for block in _question(study, question)]


def conclusion_blocks(study: StudyFolder) -> list[DocumentBlock]:
    """The three wrong conclusions: what was claimed, what the audit found, what these runs say."""
    found = []
    for wrong in WRONG:
        found.append(DocumentBlock(heading=wrong.title, anchor=wrong.anchor, text=f"Claimed: {wrong.claimed}"))
        found.append(DocumentBlock(text=f"Audit: {wrong.audit}"))
        found += _answer(study, wrong)
        if wrong.anchor == _SUPERVISION:
            own = [study.experiments[c.a] for c in wrong.contrasts[:2] if c.a in study.experiments]
            table = supervision_table(own)
            found += [DocumentBlock(table=table)] if table is not None else []
    return found


def _question(study: StudyFolder, question: StudyQuestion) -> list[DocumentBlock]:
    head = DocumentBlock(heading=question.title, anchor=question.anchor, text=question.asked)
    return [head, *_answer(study, question)]


def _answer(study: StudyFolder, question: StudyQuestion) -> list[DocumentBlock]:
    """The contrasts that were run in a table and each in words, then what was not run and how to."""
    decisions = {contrast: study.against(contrast.a, contrast.b) for contrast in question.contrasts}
    run = [contrast for contrast, found in decisions.items() if found.kind != "not run"]
    found = []
    if run:
        found += [DocumentBlock(text=text) for text in _words({c: decisions[c] for c in run})]
        found.append(DocumentBlock(table=contrast_table(study, run, title="Contrasts that were run")))
    absent = [c for c in question.contrasts if c not in run]
    if absent:
        found.append(_to_run(study, absent, whole=not run))
    if question.attention and run:
        named = [name for name in question.attention if name in study.experiments and study.experiments[name].sound]
        found += [attention_block(study, named)] if named else []
    return found


def _words(decisions: Mapping[Contrast, Decision]) -> list[str]:
    """Each contrast in a sentence if they are few; if many, grouped by verdict, as the table has the rest."""
    if len(decisions) <= _FEW:
        return [f"These runs, {answered(contrast, found)}" for contrast, found in decisions.items()]
    by_verdict: dict[str, list[str]] = {}
    for contrast, found in decisions.items():
        by_verdict.setdefault(found.called, []).append(f"{contrast.about} ({contrast.a} minus {contrast.b})")
    notes = list(dict.fromkeys(note for found in decisions.values() for note in found.notes))
    said = [f"{verdict}: {'; '.join(abouts)}" for verdict, abouts in by_verdict.items()]
    return [f"These runs, {line}." for line in said] + ([f"Notes: {'; '.join(notes)}."] if notes else [])


def answered(contrast: Contrast, found: Decision) -> str:
    """What is put to the test, the decision in words, and which seeds are not in it."""
    notes = f" Notes: {'; '.join(found.notes)}." if found.notes else ""
    return f"{contrast.about}: {found.words}{notes}"


def missing_of(study: StudyFolder, contrasts: Sequence[Contrast]) -> list[str]:
    """The experiments without a finished run that these contrasts need."""
    names = dict.fromkeys(name for contrast in contrasts for name in (contrast.a, contrast.b))
    return [n for n in names if n not in study.experiments or not study.experiments[n].runs]


def study_command(study: StudyFolder, names: Sequence[str]) -> str:
    """The command that trains these into the study's folder, typed beside it, with all its seeds, scale and changes."""
    runs = study.finished
    scale = str(runs[0].experiment.get("scale", "tiny")) if runs else "tiny"
    seeds = ",".join(map(str, sorted(set().union(*(one.seeds for one in study.experiments.values()))))) or "5"
    changes = "".join(f" {word}" for word in study.changes)
    where = f"--data ROOT --out {study.path.resolve().name} --scale {scale} --seeds {seeds}"
    return f"calot study{changes} {where} --experiments {','.join(names)} --resume"


def _to_run(study: StudyFolder, absent: Sequence[Contrast], *, whole: bool) -> DocumentBlock:
    missing = missing_of(study, absent)
    lead = "Not run" if whole else "Not run of it"
    about = "; ".join(f"{c.about} ({c.a} minus {c.b})" for c in absent)
    text = f"{lead}: {about}. Needs {spoken_list(missing)}:"
    return DocumentBlock(text=text, code=study_command(study, missing))
