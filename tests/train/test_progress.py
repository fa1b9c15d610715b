"""What a checkpoint says of where its run stands must be possible, or it is refused by field and value."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calot.errors import CalotError
from calot.train.progress import Progress
from calot.train.stage import Stage

STAGES = (Stage(epochs=3, batch=8, patience=2), Stage(epochs=2, batch=8))
CLIPS = 20  # three batches per epoch: 8, 8, 4
WITHIN = Progress(
    epoch=1,
    batch=2,
    step=5,
    loss_sum=3.0,
    clips=16,
    terms={"criteria": [1.5, 2]},
    best_score=0.5,
    best_epoch=0,
    rows=[{"stage": 1, "epoch": 1, "val_map": 0.5}],
)
WHERE = Path("state.json")


def required(progress: Progress) -> None:
    progress.require_possible(stages=STAGES, clips=CLIPS, skipping=False, selected_by="val_map", where=WHERE)


def test_a_run_within_an_epoch_at_its_start_and_complete_is_possible() -> None:
    required(WITHIN)
    required(Progress())
    rows = [{"stage": s, "epoch": e, "val_map": 0.5} for s, e in ((1, 1), (1, 2), (1, 3), (2, 1), (2, 2))]
    required(Progress(stage=2, rows=rows, starts=[{"stage": 2}]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch": 4, "step": 7, "clips": 20}, "batch=4"),
        ({"batch": 10**9}, "batch=1000000000"),
        ({"epoch": 4}, "epoch=4"),
        ({"stage": 3}, "stage=3"),
        ({"step": 4}, "step=4"),
        ({"step": 6}, "step=6"),
        ({"clips": 15}, "clips=15"),
        ({"terms": {"criteria": [1.5, 3]}}, "terms="),
        ({"best_epoch": 1}, "best_epoch=1"),
        ({"best_score": None}, "best_score=None"),
        ({"best_score": 0.75}, "best_score=0.75"),
        ({"rows": []}, "rows="),
        ({"rows": [{"stage": 1, "epoch": 2, "val_map": 0.5}]}, "rows="),
        ({"starts": [{"stage": 2}]}, "starts="),
        ({"stage": 1, "starts": [{"stage": 2}]}, "rows="),
    ],
)
def test_what_no_run_could_have_reached_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(CalotError, match=rf"state\.json: progress\.{named}.* is impossible.*--overwrite"):
        required(replace(WITHIN, **change))


def test_an_epoch_without_its_loss_must_be_at_its_start() -> None:
    with pytest.raises(CalotError, match=r"progress\.loss_sum=3\.0"):
        required(replace(WITHIN, batch=0, step=3, clips=0, terms={}))


@pytest.mark.parametrize("value", ["1", 1.5, True, None, float("nan"), -1, [], {}])
@pytest.mark.parametrize("name", ["stage", "epoch", "batch", "step", "clips"])
def test_counts_are_whole_numbers(name: str, value: object) -> None:
    with pytest.raises(CalotError, match=rf"state\.json: progress\.{name}="):
        Progress.from_dict({**WITHIN.to_dict(), name: value}, where=WHERE)


def test_another_versions_progress_is_named() -> None:
    data = WITHIN.to_dict()
    with pytest.raises(CalotError, match="progress has 'later'"):
        Progress.from_dict({**data, "later": 1}, where=WHERE)
    del data["terms"]
    with pytest.raises(CalotError, match="progress lacks 'terms'"):
        Progress.from_dict(data, where=WHERE)
