"""A study that goes on with fewer experiments than it began with: nothing of the others is forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import complete
from make_run import make_run
from run_requests import requested, trained

from calot.report.study.folder import read_study
from calot.studying.outcome import outcome_rows
from calot.sweeping.jobs import DONE, Job, JobBook, JobRecord


def job(name: str, home: Path) -> Job:
    return Job(name=name, folder=home / name, log=home / f"{name}.log", command=())


@pytest.mark.parametrize(("keeps", "listed"), [(True, ["e02/s0", "e03/s0"]), (False, ["e03/s0"])])
def test_jobs_of_an_earlier_command_stay_listed_where_they_are_to_be_kept(
    tmp_path: Path, keeps: bool, listed: list[str]
) -> None:
    path = tmp_path / "jobs.json"
    JobBook.opened(path, keeps=keeps).add([job("e02/s0", tmp_path)])
    found = JobBook.opened(path, keeps=keeps).add([job("e03/s0", tmp_path)])
    assert [record.job.name for record in found] == ["e03/s0"], "only what is asked for is run"
    assert [one["name"] for one in json.loads(path.read_text())["jobs"]] == listed


def test_the_documents_order_is_the_studys_whatever_was_trained_first(tmp_path: Path) -> None:
    for name in ("frames5_global", "e10a_lora_r16", "e06_c2_weighted", "e02_frozen_probe"):
        make_run(tmp_path / name / "s0", name=name, pictures=False)
    names = [*read_study(tmp_path).experiments]
    assert names == ["e02_frozen_probe", "e06_c2_weighted", "e10a_lora_r16", "frames5_global"]


def test_a_baseline_that_lies_there_is_compared_with_though_it_was_not_asked_for(phantom: Path, tmp_path: Path) -> None:
    home = tmp_path / "e02_frozen_probe"
    home.mkdir()
    complete(phantom, home / "s0")
    asked = requested(phantom, tmp_path / "e03_focal" / "s0", "e03_focal")
    trained(asked)
    records = {str(asked.folder): JobRecord(job=job("e03_focal/s0", tmp_path), state=DONE, map=0.3)}
    (row,) = outcome_rows([asked], records)
    assert row.refusal is None, row.refusal
    assert row.against is not None
    assert row.experiment == "e03_focal"
