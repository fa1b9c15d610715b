"""The order of a study's runs, and the time that is said to be left."""

from pathlib import Path

from run_requests import requested

from calot.experiments import find, names
from calot.run.request import Request
from calot.studying.listed import BESIDE, LISTS, STUDY
from calot.studying.order import in_order
from calot.studying.progress import TimeLeft
from calot.sweeping.jobs import DONE, RUNNING, Job, JobRecord


def asked(*experiments: str, seeds: tuple[int, ...] = (0,)) -> list[Request]:
    return [requested(Path("P"), Path(name), name, seed=seed) for name in experiments for seed in seeds]


def order(requests: list[Request]) -> list[tuple[str, int]]:
    return [(r.experiment.name, r.seed) for r in in_order(requests)]


def test_every_listed_experiment_exists_once_and_the_study_holds_its_baselines() -> None:
    assert set(LISTS["all"]) <= set(names())
    assert len(set(LISTS["all"])) == len(STUDY) + len(BESIDE)
    assert {find(name).experiment.baseline for name in STUDY} - {None} <= set(STUDY)


def test_a_baseline_comes_before_what_names_it_and_seeds_come_one_after_the_other() -> None:
    found = order(asked("e10b_lora_r32_qkv", "e03_focal", "e10a_lora_r16", "e02_frozen_probe", seeds=(4, 1)))
    assert [seed for _, seed in found] == [4, 4, 4, 4, 1, 1, 1, 1]
    for seed in (4, 1):
        mine = [name for name, own in found if own == seed]
        assert mine.index("e02_frozen_probe") < mine.index("e03_focal")
        assert mine.index("e10a_lora_r16") < mine.index("e10b_lora_r32_qkv")


def test_those_of_one_frozen_backbone_stand_together() -> None:
    found = [name for name, _ in order(asked("e02_frozen_probe", "e08_multitask", "e03_focal", "e04_balanced"))]
    assert found == ["e02_frozen_probe", "e03_focal", "e04_balanced", "e08_multitask"]


def record(experiment: str, seed: int, *, state: str, seconds: float = 0.0) -> JobRecord:
    folder = Path(experiment, f"s{seed}")
    job = Job(name=str(folder), folder=folder, command=(), log=folder)
    return JobRecord(job=job, state=state, seconds=seconds)


def test_time_left_is_that_of_the_same_experiment_or_the_plan_in_proportion() -> None:
    records = [record("a", 0, state=DONE, seconds=100), record("a", 1, state=RUNNING), record("b", 0, state="waiting")]
    assert TimeLeft(1, {})(records[:2]) == ", about 2 min left"
    assert TimeLeft(2, {})(records[:2]) == ", about 50 s left"
    assert TimeLeft(1, {"a": 200.0, "b": 400.0})(records) == ", about 5 min left"  # a took half of what was planned
    assert TimeLeft(1, {})(records[:1]) == ""
    assert TimeLeft(1, {})([record("a", 0, state=RUNNING)]) == ""
