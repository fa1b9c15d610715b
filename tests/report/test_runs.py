"""Several runs on one page, and a run against its baseline."""

from __future__ import annotations

import json
import re
from pathlib import Path

from make_run import make_run, summarised, write_trivial
from typer.testing import CliRunner
from visible_text import Words

from calot.cli.main import app
from calot.report.page import write_report
from calot.report.run_folder import read_run
from calot.statistics.compare import compare
from calot.statistics.summary import summarise


def test_a_run_is_held_against_its_baseline_of_the_same_seed(tmp_path: Path, words: Words) -> None:
    results = tmp_path / "results"
    bases = [make_run(results / f"e02/run_s{seed}", seed=seed, pictures=False) for seed in (0, 1)]
    folder = make_run(
        results / "e03/run_s1",
        name="e03_focal",
        baseline="e02_frozen_probe",
        seed=1,
        skill=0.9,
        noise=7,
        pictures=False,
    )
    result = compare(
        read_run(folder).predictions["val"],
        read_run(bases[1]).predictions["val"],
        names=("e03_focal", "e02_frozen_probe"),
    )
    text = words(folder)
    assert "This is about these checkpoints, not about the treatment" in text
    assert "Seeds 1 against 1." in text
    value, low, high = (100 * v for v in (result.map.value, result.map.low, result.map.high))
    shown = f"macro mAP {value:+.2f} {low:+.1f} to {high:+.1f}".replace("-", "−")
    assert shown in text


def test_equal_predictions_under_another_treatment_are_invalid(tmp_path: Path, words: Words) -> None:
    make_run(tmp_path / "e02/run_s0", pictures=False)
    folder = make_run(tmp_path / "e03/run_s0", name="e03_focal", baseline="e02_frozen_probe", pictures=False)
    assert "INVALID" in words(folder)


def test_a_baseline_that_cannot_be_read_is_said_and_does_not_stop_the_page(tmp_path: Path, words: Words) -> None:
    broken = make_run(tmp_path / "e02/run_s0", pictures=False)
    (broken / "data.json").write_text("{")
    folder = make_run(tmp_path / "e03/run_s0", name="e03_focal", baseline="e02_frozen_probe", pictures=False)
    text = words(folder)
    assert "No comparison:" in text
    assert "data.json: not JSON that calot wrote" in text
    assert str(tmp_path) not in text


def test_runs_of_other_frames_are_not_compared_and_the_page_says_why(tmp_path: Path, words: Words) -> None:
    make_run(tmp_path / "e02/run_s0", manifest="a" * 64, pictures=False)
    folder = make_run(tmp_path / "e03/run_s0", name="e03_focal", baseline="e02_frozen_probe", pictures=False, noise=7)
    refusal = "Refused: e02_frozen_probe was scored on other frames"
    assert refusal in words(folder)
    text = words(tmp_path)
    assert "2 different sets of frames: they cannot be ranked together" in text
    assert refusal in text


def test_a_folder_of_runs_lists_every_seed_and_compares_with_the_baseline(tmp_path: Path, words: Words) -> None:
    for seed in (0, 1):
        make_run(tmp_path / f"e02/run_s{seed}", seed=seed, pictures=False)
        make_run(
            tmp_path / f"e03/run_s{seed}",
            name="e03_focal",
            baseline="e02_frozen_probe",
            seed=seed,
            noise=7 + seed,
            receipt=seed == 0,
            pictures=False,
        )
    make_run(tmp_path / "e04/run_s0", name="e04_lora", baseline="e02_frozen_probe", finished=False)
    text = words(tmp_path)
    assert "calot report · 5 runs of 3 experiments" in text
    for name in ("e02_frozen_probe", "e03_focal"):
        for seed in (0, 1):
            assert f"{name}, seed {seed}" in text
    assert "between e03_focal and e02_frozen_probe" in text or "e03_focal scores" in text
    assert "about these checkpoints" in text
    assert "Seeds 0, 1 against 0, 1." in text
    assert "treatment unverified: 1 of 5" in text
    assert "No val predictions yet: e04_lora seed 0." in text


def test_a_run_whose_receipt_failed_shows_the_check_and_counts_nowhere(tmp_path: Path, words: Words) -> None:
    for seed in (0, 1):
        make_run(tmp_path / f"e02/run_s{seed}", seed=seed, pictures=False)
        failed = "dose" if seed else None
        folder = make_run(
            tmp_path / f"e03/run_s{seed}",
            name="e03_focal",
            baseline="e02_frozen_probe",
            seed=seed,
            noise=7 + seed,
            failed=failed,
            pictures=False,
        )
    good, bad = (summarised(read_run(folder.parent / f"run_s{s}").predictions["val"])["map"] for s in (0, 1))
    text = words(tmp_path)
    assert "INVALID: 1 of 4" in text
    assert "Invalid. e03_focal seed 1, receipt check dose failed (the figures of dose are not as declared)." in text
    assert "e03_focal, seed 1 INVALID: receipt check dose failed failed" in text
    assert f"{100 * bad:.2f}" not in text
    assert f"e03_focal (tiny) 0, not 1: receipt failed {100 * good:.2f}" in text
    assert "Seeds 0 against 0, 1. Left out: e03_focal seed 1, receipt check dose failed" in text
    assert text.count("e03_focal, seed 1") == 2  # in the table and under Repeat: no dot
    assert write_report(tmp_path).read_text(encoding="utf-8").count("Macro mAP over epochs on clean") == 3


def test_where_no_receipt_holds_nothing_is_compared(tmp_path: Path, words: Words) -> None:
    make_run(tmp_path / "e02/run_s0", pictures=False)
    folder = make_run(
        tmp_path / "e03/run_s0",
        name="e03_focal",
        baseline="e02_frozen_probe",
        noise=7,
        failed="gradients",
        pictures=False,
    )
    text = words(tmp_path)
    assert "Invalid: receipts failed, and nothing is compared." in text
    assert "e03_focal (tiny) none INVALID: every receipt failed (seed 0)" in text
    assert "e03_focal. INVALID: e03_focal against e02_frozen_probe: e03_focal seed 0, receipt check gradients" in text
    assert "Invalid: every run of e03_focal failed its receipt." in words(folder.parent)


def test_a_baseline_whose_receipt_failed_is_no_baseline(tmp_path: Path, words: Words) -> None:
    make_run(tmp_path / "e02/run_s0", failed="ledger", pictures=False)
    folder = make_run(tmp_path / "e03/run_s0", name="e03_focal", baseline="e02_frozen_probe", noise=7, pictures=False)
    text = words(folder)
    assert "INVALID: e03_focal against e02_frozen_probe: e02_frozen_probe seed 0, receipt check ledger failed" in text
    assert "Val mAP is" in text
    make_run(tmp_path / "e02/run_s1", seed=1, pictures=False)
    assert "Seeds 0 against 1." in words(folder)


def test_an_unverified_treatment_is_said_beside_each_difference(tmp_path: Path, words: Words) -> None:
    make_run(tmp_path / "e02/run_s0", pictures=False)
    make_run(
        tmp_path / "e03/run_s0",
        name="e03_focal",
        baseline="e02_frozen_probe",
        noise=7,
        pending=("ledger",),
        pictures=False,
    )
    text = words(tmp_path)
    assert "Treatment unverified: e03_focal. Seeds 0 against 0." in text
    assert "Treatment unverified. e03_focal seed 0: receipt check ledger not made." in text
    assert "treatment unverified: 1 of 2" in text


def test_of_many_comparisons_the_verdict_names_how_each_ended(tmp_path: Path, words: Words) -> None:
    make_run(tmp_path / "e02/run_s0", pictures=False, videos=2)
    facts = {"baseline": "e02_frozen_probe", "videos": 2, "pictures": False}
    for place in range(4):
        make_run(tmp_path / f"x{place}/run_s0", name=f"x{place}", noise=5 + place, **facts)
    make_run(tmp_path / "x4/run_s0", name="x4", noise=9, failed="dose", **facts)
    text = words(tmp_path)
    assert "Comparisons. undefined: x0, x1, x2 and x3; invalid: x4. Each stands under Differences." in text
    assert "No interval for all runs: 2 videos" in text


def test_the_seeds_of_one_experiment_have_a_mean_with_an_interval(tmp_path: Path, words: Words) -> None:
    for seed in (0, 1):
        make_run(tmp_path / f"run_s{seed}", seed=seed, pictures=False)
    text = words(tmp_path)
    assert "e02_frozen_probe: val mAP over 2 runs is " in text
    assert re.search(r"e02_frozen_probe \(tiny\) 0, 1 \d\d\.\d\d", text)


def test_a_folder_of_runs_links_to_the_page_of_each(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path / f"a run #{seed}", seed=seed, pictures=False)
    write_report(tmp_path / "a run #0")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert 'href="a%20run%20%230/report.html"' in page
    assert "a%20run%20%231" not in page


def test_only_unfinished_runs_make_an_unfinished_page(tmp_path: Path, words: Words) -> None:
    make_run(tmp_path / "run_s0", finished=False)
    assert "Unfinished: no run here has a result yet." in words(tmp_path)


def test_the_command_prints_each_run_with_its_interval_or_the_check_that_failed(tmp_path: Path) -> None:
    make_run(tmp_path / "good", name="e03_focal", pictures=False)
    make_run(tmp_path / "bad", name="e06_c2_weighted", failed="declared difference", pictures=False)
    make_run(tmp_path / "bare", name="e04_balanced", receipt=False, pictures=False)
    made = CliRunner().invoke(app, ["report", str(tmp_path)])
    lines = {words[0]: words for words in map(str.split, made.stdout.splitlines()) if words}
    assert lines["e03_focal"][-1] == "verified"
    assert lines["e03_focal"][4] == "to"
    assert lines["e04_balanced"][-1] == "unverified"
    assert lines["e06_c2_weighted"] == ["e06_c2_weighted", "0", "INVALID", "failed"]
    assert "declared difference" in made.stdout
    rows = json.loads(CliRunner().invoke(app, ["report", str(tmp_path), "--json"]).stdout)["scores"]
    assert {r["experiment"]: "value" in r for r in rows} == {
        "e03_focal": True,
        "e06_c2_weighted": False,
        "e04_balanced": True,
    }


def test_the_command_says_where_a_run_stands_against_trivial_baselines_where_it_has_them(tmp_path: Path) -> None:
    write_trivial(make_run(tmp_path / "beside", seed=0))
    make_run(tmp_path / "alone", seed=1)
    said = " ".join(CliRunner().invoke(app, ["report", str(tmp_path)]).stdout.split())
    assert "e02_frozen_probe seed 0, at " in said
    assert "is above the best of them, time in the operation: +" in said
    assert "e02_frozen_probe seed 1, at" not in said
    rows = json.loads(CliRunner().invoke(app, ["report", str(tmp_path), "--json"]).stdout)["scores"]
    found = {row["seed"]: row.get("trivial_baselines") for row in rows}
    assert (found[0]["best"], found[0]["standing"], found[1]) == ("clock", "above", None)


def test_a_changed_run_is_neither_called_by_its_parents_name_nor_averaged_with_its_seeds(
    tmp_path: Path, words: Words
) -> None:
    plain = make_run(tmp_path / "e02/run_s0", pictures=False)
    changed = make_run(tmp_path / "e02/run_s1", seed=1, noise=9, pictures=False)
    record = json.loads((changed / "experiment.json").read_text())
    change = {"typed": "lr=1e-2", "field": "train.lr", "value": 0.01, "scaled": False}
    (changed / "experiment.json").write_text(json.dumps(record | {"overrides": [change]}))
    text = words(tmp_path)
    assert "2 runs of 2 experiments" in text
    for folder, name in ((plain, "e02_frozen_probe"), (changed, "e02_frozen_probe train.lr=1e-2")):
        value = 100 * (summarise(read_run(folder).predictions["val"]).intervals.map.value or 0)
        seed = 0 if folder == plain else 1
        assert f"{name} (tiny) {seed} {value:.2f}" in text
        assert f"{name}, seed {seed} {value:.2f}" in text
    assert "e02_frozen_probe train.lr=1e-2, seed 1: calot report" in words(changed)
