"""What the page shows beyond scores: the numbers of `behaviour_of`, with their intervals, frozen on val."""

from __future__ import annotations

import json
from pathlib import Path

from make_run import make_run
from visible_text import Words, visible

from calot.criteria import CRITERIA
from calot.report.run_folder import read_run
from calot.statistics.appearance import appearance_file
from calot.statistics.behaviour import behaviour_of
from calot.statistics.frozen import freeze
from calot.statistics.intervals import Interval
from calot.statistics.rounding import rounded
from calot.statistics.summary import summarise
from calot.statistics.videos import per_video
from calot.writing import write_json


def shown(item: Interval, *, digits: int = 3, scale: float = 1.0) -> str:
    """A value, then its interval, as a cell has them."""
    value, low, high = (rounded(scale * (end or 0.0), digits=digits) for end in (item.value, item.low, item.high))
    return f"{value} {low} to {high}".replace("-", "\N{MINUS SIGN}")


def test_the_page_shows_what_was_frozen_on_val_for_both_splits(run: Path, page: str) -> None:
    text, tables = visible(page), read_run(run).predictions
    frozen = freeze(tables["val"])
    for split, table in tables.items():
        found = behaviour_of(summarise(table, thresholds=frozen.thresholds), frozen=frozen)
        how = "fitted on the other videos" if split == "val" else "with the temperatures frozen on val"
        assert f"Temperature scaling, {split} split, " in text
        assert how in text
        for name in CRITERIA:
            after = found.scaling[name].after
            assert after is not None
            for item in (
                after.brier.value,
                found.scaling[name].brier_change,
                found.sensitive[name]["specificity"],
                found.sets[name].coverage,
                found.sets[name].abstained,
                found.drift[name].last_minus_first,
            ):
                assert shown(item) in text, (split, name, item)
            assert found.own == (split == "val")
        late = next(part for part in found.subgroups.found if part.name == "last third").criteria["cystic_plate"]
        assert f"{shown(late.ap, digits=1, scale=100)}; chance {100 * (late.chance or 0):.2f}, " in text
        assert shown(late.difference, digits=1, scale=100) in text
    floor = f"{100 * (0.9 - 0.5 / 9):.1f} % is guaranteed by 8 calibration videos"
    assert text.count(floor) == 2


def test_the_decision_on_whole_operations_stands_for_each_time_held(run: Path, page: str) -> None:
    text, tables = visible(page), read_run(run).predictions
    frozen = freeze(tables["val"])
    for split, table in tables.items():
        made = [
            per_video(table, thresholds=frozen.thresholds, held_seconds=seconds).operations for seconds in (0, 10, 30)
        ]
        known = [one for one in made if one is not None]
        assert len(known) == 3
        called = [f"{one.true_positives} of {one.true_positives + one.false_negatives}" for one in known]
        heads = f"Decision on whole operations, {split} split: all three criteria held in one frame for 10 s for 30 s"
        assert f"{heads} called {' '.join(called)} called wrongly" in text
        assert f"specificity {' '.join(shown(one.specificity, digits=2) for one in known)}" in text


def test_the_ceiling_stands_in_the_table_of_aps(run: Path, page: str) -> None:
    text = visible(page)
    for table in read_run(run).predictions.values():
        summary = summarise(table)
        on, item = summary.ceiling.ap["cystic_plate"], summary.criteria["cystic_plate"]
        row = f"{100 * item.prevalence:.1f} % {100 * (on.ceiling.value or 0):.2f} {100 * (on.model.value or 0):.2f}"
        assert row in text


def test_a_run_of_a_sweep_says_among_how_many_settings_it_was_chosen(tmp_path: Path, words: Words, page: str) -> None:
    assert "this run belongs to no sweep" in visible(page)
    folder = make_run(tmp_path / "e02" / "lr_1" / "run_s0", pictures=False)
    settings = [{"setting": name, "map_by_seed": [0.4], "mean_map": 0.4} for name in ("lr_0", "lr_1", "lr_2")]
    optimism = {"value": 0.021, "reason": None}
    write_json(tmp_path / "e02" / "sweep.json", {"settings": settings, "chosen": "lr_1", "optimism": optimism})
    said = "among the 3 settings of its sweep (sweep.json) flatters the best by about 2.1 points; this run's setting is"
    assert said in words(folder)


def test_frames_looked_at_beside_their_data_set_make_two_more_subgroups(tmp_path: Path, words: Words) -> None:
    folder = make_run(tmp_path / "results" / "run_s0", pictures=False)
    assert "None by brightness or sharpness: the data set of this table is not on this disk" in words(folder)
    data, root = json.loads((folder / "data.json").read_text()), tmp_path / "data"
    root.mkdir()
    (folder / "data.json").write_text(json.dumps(data | {"root": str(root)}))
    assert "None by brightness or sharpness: the frames were not looked at yet" in words(folder)
    table = read_run(folder).predictions["val"]
    kept = appearance_file(root, manifest_hash=table.manifest_hash, split="val")
    kept.parent.mkdir(parents=True)
    rows = table.frame.select("video", "frame").with_row_index("brightness")
    rows.with_columns(sharpness=-rows["brightness"].cast(float)).write_parquet(kept)
    text = words(folder)
    for name in ("dark frame", "bright frame", "blurred frame", "sharp frame"):
        assert name in text
    assert "None by brightness" not in text
