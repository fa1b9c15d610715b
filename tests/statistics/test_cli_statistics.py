"""The two commands as a person and as a program meet them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from made_receipts import make_receipt
from prediction_tables import clustered
from typer.testing import CliRunner, Result

from calot.cli import statistics as commands
from calot.errors import CalotError
from calot.provenance.data_ledger import DataLedger
from calot.provenance.ledger import PREDICTED
from calot.statistics import compare as comparing
from calot.statistics.schema import LABELS, LOGITS

app = typer.Typer()
app.command()(commands.metrics)
app.command()(commands.compare)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def run_folder(
    root: Path, *, name: str, seed: int, model: int, lr: float = 1e-3, receipt: dict[str, Any] | None = None
) -> Path:
    """A run's folder with val predictions, and a receipt where its knobs are given."""
    folder = root / name / f"run_s{seed}_{lr}"
    made = clustered(model=model, run=seed)
    replace(made, fingerprint=f"{name}{seed}{lr}").write(folder / "predictions" / "val.parquet")
    value = {"name": name, "seed": seed, "scale": "tiny", "experiment": {"name": name, "seed": seed, "lr": lr}}
    (folder / "experiment.json").write_text(json.dumps(value))
    if receipt is not None:
        make_receipt(**{"fingerprint": f"{name}{seed}{lr}", **receipt}).write(folder)
    return folder


def test_metrics_for_a_person_names_protocol_coverage_and_the_next_command(tmp_path: Path) -> None:
    clustered().frame.write_csv(tmp_path / "p.csv")
    found = call("metrics", tmp_path / "p.csv")
    assert found.exit_code == 0
    for text in (
        "protocol keyframes",
        "C2 hepatocystic triangle",
        "simulated intervals with the truth inside",
        "positive videos:",
        "optimistic",
    ):
        assert text in found.stdout
    assert found.stdout.splitlines()[-1] == f"Next: calot metrics {tmp_path / 'p.csv'} --by-video"


def test_an_undefined_interval_leaves_the_numbers_their_room(tmp_path: Path) -> None:
    """On 80 columns: a reason in the table once squeezed the AP itself out of it."""
    for model in (1, 2):
        made = clustered(videos=2, model=model)
        replace(made, fingerprint=str(model)).write(tmp_path / f"{model}.parquet")
    narrow = {"COLUMNS": "80"}
    found = CliRunner().invoke(app, ["metrics", str(tmp_path / "1.parquet")], env=narrow).stdout
    assert re.search(r"C1 two structures +\d+\.\d\d undefined +– +\d+\.\d", found)
    assert "No interval for C1 two structures, " in found
    found = CliRunner().invoke(app, ["compare", *(str(tmp_path / f"{m}.parquet") for m in (1, 2))], env=narrow).stdout
    assert re.search(r"C1 two structures +-?\d+\.\d\d undefined", found)
    assert "mAP: 2 videos" in found


def test_metrics_for_a_program_prints_json_only(tmp_path: Path) -> None:
    run = run_folder(tmp_path, name="e02", seed=0, model=1)
    fields = json.loads(call("metrics", run, "--json").stdout)
    assert fields["videos"] == 20
    assert len(fields["per_video"]["rows"]) == 20
    assert fields["test_openings"] is None


def test_metrics_says_how_the_result_came_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALOT_STATE", str(tmp_path / "state"))
    run = run_folder(tmp_path, name="e02", seed=0, model=1)
    text = " ".join(call("metrics", run, "--results", tmp_path).stdout.split())
    assert "Causality: unknown" in text
    assert "Selection: unknown" in text
    assert "Candidates: unknown: no ledger here has a result of this data set" in text
    facts = {"causal": True, "window": "16 frames ending on the keyframe", "label_rule": "two of three raters"}
    (run / "data.json").write_text(json.dumps(facts))
    (run / "metrics.csv").write_text("epoch,val_map\n1,0.2\n2,0.3\n")
    for name, digest in (("e02", "a"), ("e02", "b"), ("e03", "c"), ("e03", "c")):
        DataLedger(manifest_hash="m" * 64, results=tmp_path).record(
            PREDICTED, split="val", fingerprint=name, digest=digest
        )
    text = " ".join(call("metrics", run, "--results", tmp_path).stdout.split())
    for said in (
        "Causal: no frame after the scored one; window: 16 frames ending on the keyframe",
        "Labels: scored by majority of raters (mean >= 0.5), trained on two of three raters",
        "Selection: best epoch by val macro mAP: val is optimistic; 2 epochs",
        "Candidates: 2 settings in 3 val results recorded for this data set",
        "Thresholds: frozen on val; the rule maximises F1",
    ):
        assert said in text
    fields = json.loads(call("metrics", run, "--results", tmp_path, "--json").stdout)
    assert (fields["causal"], fields["epochs"], fields["trained_on"]) == (True, 2, "two of three raters")
    assert fields["candidates"]["settings"] == 2
    assert "chosen on these same frames" in fields["thresholds_source"]


def test_metrics_prints_each_figure_with_its_interval_as_json_has_it(tmp_path: Path) -> None:
    """Once each, with no coverage claimed where none was simulated."""
    run = run_folder(tmp_path, name="e02", seed=0, model=1)
    text, fields = call("metrics", run).stdout, json.loads(call("metrics", run, "--json").stdout)

    def shown(item: dict[str, Any], *, digits: int = 3) -> str:
        bounds = " to ".join(f"{item[end]:.2f}" for end in ("low", "high"))
        return f"{item['value']:.{digits}f} ({bounds})"

    for name, fit in fields["calibration"].items():
        rates = fields["decisions"][name]["intervals"]
        items = [fields["brier"][name]["intervals"]["value"], fit["ece_debiased"], rates["sensitivity"], rates["ppv"]]
        items.append(next(p["model"] for p in fields["decision_curve"][name] if p["probability"] == 0.2))
        assert all(shown(item) in text for item in items)
        assert f"{fit['ece_perfect']:.3f}" in text
        first = fit["reliability"][0]
        assert f"{first['forecast']:.3f} {first['observed']:.3f} {first['frames']:>6}" in text
    ceiling = fields["rater_ceiling"]["map"]
    assert f"mAP: raters {100 * ceiling['ceiling']['value']:.1f}, model" in text  # alike in each of these videos
    assert f"model {100 * ceiling['model']['value']:.1f} (" in text
    flips = fields["per_video"]["rates"]["two_structures"]["flips_per_minute"]
    assert f"{flips['value']:.1f} ({flips['low']:.1f} to {flips['high']:.1f})" in text
    decided = fields["per_video"]["operations"]["sensitivity"]
    assert f"sensitivity: {shown(decided)}" in text
    assert text.count("coverage not simulated") == 1


def test_test_predictions_take_the_thresholds_of_val_and_show_openings(tmp_path: Path) -> None:
    run = run_folder(tmp_path, name="e02", seed=0, model=1)
    made = clustered(seed=5)
    on_test = made.frame.with_columns(pl.lit("test").alias("split"))
    own = "e0200.001"  # of the same run, or values frozen on val would be another model's
    replace(made, frame=on_test, fingerprint=own).write(run / "predictions" / "test.parquet")
    fields = json.loads(call("metrics", run, "--split", "test", "--results", tmp_path, "--json").stdout)
    assert fields["test_openings"] == 0
    assert fields["thresholds"]["split"] == "val"
    (run / "predictions" / "val.parquet").unlink()
    alone = json.loads(call("metrics", run, "--split", "test", "--results", tmp_path, "--json").stdout)
    assert alone["thresholds"] is None
    assert "decisions are not scored" in alone["notes"][-1]


def test_compare_groups_seeds_of_one_experiment(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path, name="e02", seed=s, model=1) for s in (0, 1)]
    runs += [run_folder(tmp_path, name="e03", seed=s, model=2) for s in (0, 1)]
    (found,) = json.loads(call("compare", *runs, "--json").stdout)["comparisons"]
    assert (found["a"]["name"], found["a"]["seeds"]) == ("e02", [0, 1])
    assert (found["b"]["name"], found["b"]["seeds"]) == ("e03", [0, 1])
    assert found["about"] == "these checkpoints"
    text = call("compare", *runs).stdout
    assert "seed 0:" in text
    assert "This is about these checkpoints" in text
    assert "Next: calot report" in text.splitlines()[-1]


def test_an_override_makes_another_side_whose_name_tells_the_change(tmp_path: Path) -> None:
    """Neither is called by the experiment's name alone; runs of calot 0.1 did not record what was typed."""
    runs = [
        run_folder(tmp_path, name="e02", seed=0, model=1),
        run_folder(tmp_path, name="e02", seed=0, model=2, lr=1e-2),
    ]
    (found,) = json.loads(call("compare", *runs, "--json").stdout)["comparisons"]
    assert (found["a"]["name"], found["b"]["name"]) == ("e02 lr=0.001", "e02 lr=0.01")
    record = json.loads((runs[1] / "experiment.json").read_text())
    change = {"typed": "lr=1e-2", "field": "train.lr", "value": 0.01, "scaled": True}
    (runs[1] / "experiment.json").write_text(json.dumps(record | {"overrides": [change]}))
    (found,) = json.loads(call("compare", *runs, "--json").stdout)["comparisons"]
    assert (found["a"]["name"], found["b"]["name"]) == ("e02", "e02 train.lr=1e-2")
    alone = [run_folder(tmp_path, name="e03", seed=0, model=3), runs[1]]
    assert "e02 train.lr=1e-2 −" not in call("compare", *alone).stdout
    assert "e03 − e02 train.lr=1e-2:" in call("compare", *alone).stdout


def test_another_baseline_or_other_compute_settings_make_no_other_treatment(tmp_path: Path) -> None:
    """Two seeds of one treatment are one side, whatever they are held against and computed with."""
    runs = [run_folder(tmp_path, name="e02", seed=s, model=1) for s in (0, 1)]
    record = json.loads((runs[1] / "experiment.json").read_text())
    record["experiment"] |= {"baseline": "e00_finetune", "compute": {"_type": "Compute", "workers": 7}}
    changes = [{"typed": "baseline=e00_finetune"}, {"typed": "workers=7", "field": "compute.workers"}]
    (runs[1] / "experiment.json").write_text(json.dumps(record | {"overrides": changes}))
    other = run_folder(tmp_path, name="e03", seed=0, model=2)
    (found,) = json.loads(call("compare", other, *reversed(runs), "--json").stdout)["comparisons"]
    assert (found["b"]["name"], found["b"]["seeds"]) == ("e02", [1, 0])


def test_sides_of_one_name_and_value_at_two_scales_are_told_apart(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / str(m), name="e02", seed=0, model=m) for m in (1, 2)]
    record = json.loads((runs[1] / "experiment.json").read_text())
    (runs[1] / "experiment.json").write_text(json.dumps(record | {"scale": "full"}))
    (found,) = json.loads(call("compare", *runs, "--json").stdout)["comparisons"]
    assert (found["a"]["name"], found["b"]["name"]) == ("e02 scale=tiny", "e02 scale=full")


def test_three_experiments_are_compared_with_the_first_and_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "permutation_holds", lambda positive_videos: True)  # else no p is shown
    runs = [run_folder(tmp_path, name=f"e0{m}", seed=0, model=m) for m in (2, 3, 4)]
    rows = json.loads(call("compare", *runs, "--json").stdout)["comparisons"]
    assert [(row["a"]["name"], row["b"]["name"]) for row in rows] == [("e02", "e03"), ("e02", "e04")]
    assert all(row["map_p_holm_over_comparisons"] >= row["map"]["p"] for row in rows)


def test_equal_predictions_end_with_exit_code_1(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path, name="e02", seed=0, model=1), run_folder(tmp_path, name="e06", seed=0, model=1)]
    found = call("compare", *runs)
    assert found.exit_code == 1
    assert "INVALID: e02 and e06 hold equal predictions" in found.stdout


def test_seeds_of_one_experiment_alone_are_no_comparison(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path, name="e02", seed=s, model=1) for s in (0, 1)]
    found = call("compare", *runs)
    assert isinstance(found.exception, CalotError)
    assert "2 runs of one experiment (e02)" in str(found.exception)


def test_a_run_without_predictions_names_what_it_has(tmp_path: Path) -> None:
    run = run_folder(tmp_path, name="e02", seed=0, model=1)
    found = call("metrics", run, "--split", "test")
    assert isinstance(found.exception, CalotError)
    with pytest.raises(CalotError, match=r"no predictions/test\.parquet; have \['val'\]"):
        raise found.exception


def test_a_failed_receipt_is_named_in_place_of_the_comparison(tmp_path: Path) -> None:
    good = run_folder(tmp_path, name="e02", seed=0, model=1, receipt={})
    seeds = [run_folder(tmp_path, name="e06", seed=s, model=2, receipt={}) for s in (0, 1)]
    assert call("compare", good, *seeds).exit_code == 0
    bad = run_folder(tmp_path, name="e06", seed=2, model=2, receipt={"failed": "dose"})
    found = call("compare", good, *seeds, bad)
    assert found.exit_code == 1
    why = f"receipt check dose failed (share of batches under mixup is 0, declared 0.2 to 0.4) in {bad}"
    assert f"INVALID: e06: {why}" in found.stdout
    assert "e06: no result" in found.stdout
    assert "e02: mAP" in found.stdout
    assert "95 % interval" not in found.stdout
    told = call("compare", good, *seeds, bad, "--json")
    (row,) = json.loads(told.stdout)["comparisons"]
    assert told.exit_code == 1
    assert row["invalid"] == f"e06: {why}"
    assert row["b"]["treatment"] == {"status": "invalid", "why": why}
    assert (row["map"]["value"], row["b"]["mean"], row["map_p_holm_over_comparisons"]) == (None, None, None)


def test_only_the_comparison_with_the_failed_receipt_is_invalid(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path, name=f"e0{m}", seed=0, model=m, receipt={}) for m in (2, 3)]
    runs.append(run_folder(tmp_path, name="e04", seed=0, model=4, receipt={"failed": "gradients"}))
    found = call("compare", *runs, "--json")
    rows = json.loads(found.stdout)["comparisons"]
    assert [row["invalid"] is None for row in rows] == [True, False]
    assert rows[0]["map"]["value"] is not None
    assert found.exit_code == 1


def test_without_a_receipt_the_comparison_is_stamped_per_side(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path, name="e02", seed=0, model=1, receipt={})]
    runs.append(run_folder(tmp_path, name="e03", seed=0, model=2))
    runs.append(run_folder(tmp_path, name="e04", seed=0, model=3, receipt={"pending": ("ledger",)}))
    clustered(model=5).write(tmp_path / "theirs.parquet")
    found = call("compare", *runs, tmp_path / "theirs.parquet")
    assert found.exit_code == 0
    text = " ".join(found.stdout.split())
    assert "); treatment verified" in text
    assert text.count("treatment unverified: no receipt") == 2
    assert "treatment unverified: receipt check ledger not made" in text
    assert text.count("Treatment unverified: ") == 3
    rows = json.loads(call("compare", *runs, tmp_path / "theirs.parquet", "--json").stdout)["comparisons"]
    assert {row["a"]["treatment"]["status"] for row in rows} == {"verified"}
    assert {row["b"]["treatment"]["status"] for row in rows} == {"unverified"}


def test_a_twin_that_the_ledger_told_the_receipt_is_invalid_against_any_run(tmp_path: Path) -> None:
    twin = {"failed": "ledger", "why": "another treatment gave the very same predictions (results/e02/s0)"}
    runs = [run_folder(tmp_path, name="e06", seed=0, model=1, receipt=twin)]
    runs.append(run_folder(tmp_path, name="e03", seed=0, model=2, receipt={}))
    found = call("compare", *runs)
    assert found.exit_code == 1
    assert "receipt check ledger failed (another treatment gave the very same predictions" in found.stdout


def test_the_receipt_of_another_experiment_neither_proves_nor_disproves(tmp_path: Path) -> None:
    run = run_folder(tmp_path, name="e06", seed=0, model=1, receipt={"failed": "dose", "fingerprint": "a" * 64})
    found = call("metrics", run)
    assert found.exit_code == 0
    assert "Note: treatment unverified: the receipt is of another experiment (aaaaaaaaaaaa" in found.stdout


def test_metrics_says_the_failed_check_in_place_of_the_numbers(tmp_path: Path) -> None:
    run = run_folder(tmp_path, name="e06", seed=0, model=1, receipt={"failed": "dose"})
    found = call("metrics", run)
    assert found.exit_code == 1
    assert "INVALID: receipt check dose failed (share of batches under mixup is 0" in found.stdout
    assert "mAP" not in found.stdout
    told = call("metrics", run / "predictions" / "val.parquet", "--json")
    fields = json.loads(told.stdout)
    assert told.exit_code == 1
    assert fields["invalid"].startswith("receipt check dose failed")
    assert fields["videos"] == 20
    for name in ("map", "ap", "brier", "calibration", "decisions", "per_seed", "thresholds"):
        assert fields[name] is None
    assert set(fields) == set(
        json.loads(call("metrics", run_folder(tmp_path, name="e02", seed=0, model=1), "--json").stdout)
    )


def test_metrics_notes_an_unverified_treatment_and_is_silent_about_a_verified_one(tmp_path: Path) -> None:
    run = run_folder(tmp_path, name="e02", seed=0, model=1)
    clustered().write(tmp_path / "theirs.parquet")
    for given in (run, tmp_path / "theirs.parquet"):
        found = call("metrics", given)
        assert found.exit_code == 0
        assert found.stdout.count("Note: treatment unverified: no receipt") == 1
    proven = run_folder(tmp_path, name="e03", seed=0, model=1, receipt={})
    assert "unverified" not in call("metrics", proven).stdout
    assert json.loads(call("metrics", proven, "--json").stdout)["treatment"] == {"status": "verified", "why": ""}


def write_without_labels(path: Path) -> Path:
    clustered().frame.drop(LABELS).write_csv(path)
    return path


def test_predictions_without_labels_are_described_and_not_scored(tmp_path: Path) -> None:
    bare = write_without_labels(tmp_path / "bare.csv")
    found = call("metrics", bare)
    assert found.exit_code == 2
    assert "20 videos, 800 frames\n" in found.stdout
    assert "No labels: nothing can be scored" in found.stdout
    told = call("metrics", bare, "--json")
    fields = json.loads(told.stdout)
    assert told.exit_code == 2
    assert fields["unscored"].startswith("no labels: nothing can be scored")
    assert (fields["videos"], fields["frames"], fields["map"], fields["ap"]) == (20, 800, None, None)
    clustered().frame.write_csv(tmp_path / "full.csv")
    full = json.loads(call("metrics", tmp_path / "full.csv", "--json").stdout)
    assert set(full) == set(fields)
    assert full["unscored"] is None


def test_compare_refuses_a_side_without_labels(tmp_path: Path) -> None:
    clustered(model=1).frame.write_csv(tmp_path / "full.csv")
    bare = write_without_labels(tmp_path / "bare.csv")
    for pair in ((tmp_path / "full.csv", bare), (bare, tmp_path / "full.csv")):
        error = call("compare", *pair).exception
        assert isinstance(error, CalotError)
        assert re.match(r"compare refused: .*bare\.csv holds no labels", str(error))


def test_by_video_scores_each_operation_of_a_bare_table(tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    clustered().frame.drop("split").write_csv(bare)
    text = call("metrics", bare, "--by-video").stdout
    rows = re.findall(r"^(\d+) +(two_structures|hepatocystic_triangle|cystic_plate) +\d+/40 +(\S+)", text, re.M)
    assert len(rows) == 60
    assert "frame rate unknown (give it with --fps)" in text
    assert call("metrics", bare).stdout.splitlines()[-1] == f"Next: calot metrics {bare} --by-video"
    fields = json.loads(call("metrics", bare, "--json", "--fps", "25").stdout)
    assert len(fields["per_video"]["rows"]) == 20
    assert fields["per_video"]["rows"][0]["seconds"] == 40.0
    assert fields["per_video"]["notes"] == ["no thresholds: flips, alarms and delays are undefined"]


def test_a_frame_rate_that_the_table_contradicts_is_refused(tmp_path: Path) -> None:
    clustered().write(tmp_path / "p.parquet")
    for rate, said in (
        ("30", "states 25 frame numbers per second itself"),
        ("0", "more than 0"),
        ("nan", "than 0"),
    ):
        error = call("metrics", tmp_path / "p.parquet", "--fps", rate).exception
        assert isinstance(error, CalotError)
        assert said in str(error)


def test_logits_and_probabilities_are_compared_as_what_they_are(tmp_path: Path) -> None:
    clustered(model=1).frame.write_csv(tmp_path / "logits.csv")
    scores = {name: 1 / (1 + (-pl.col(name).cast(pl.Float64)).exp()) for name in LOGITS}
    clustered(model=2).frame.with_columns(**scores).write_csv(tmp_path / "probs.csv")
    both = (tmp_path / "logits.csv", tmp_path / "probs.csv")
    assert "these look like probabilities" in str(call("compare", *both).exception)
    found = call("compare", *both, "--scores", "probabilities")
    assert found.exit_code == 0
    assert f"Note on {both[1]}: probabilities converted to logits" in found.stdout
    assert f"Note on {both[0]}: prob" not in found.stdout
    plain = tmp_path / "plain.csv"
    clustered(model=2).frame.write_csv(plain)
    expected = json.loads(call("compare", both[0], plain, "--json").stdout)["comparisons"][0]
    (row,) = json.loads(call("compare", *both, "--scores", "probabilities", "--json").stdout)["comparisons"]
    assert row["map"]["value"] == pytest.approx(expected["map"]["value"], abs=1e-6)


def test_own_column_names_on_the_command_line(tmp_path: Path) -> None:
    made = clustered()
    theirs = {name: f"score_c{k}" for k, name in enumerate(LOGITS, 1)}
    made.frame.rename(theirs).write_csv(tmp_path / "theirs.csv", separator=";")
    maps = [word for ours, name in theirs.items() for word in ("--map", f"{name}={ours}")]
    found = call("metrics", tmp_path / "theirs.csv", *maps)
    assert found.exit_code == 0
    assert found.stdout.splitlines()[-1] == "Next: calot metrics " + " ".join(
        [str(tmp_path / "theirs.csv"), *maps, "--by-video"]
    )
    for wrong in ("score_c1", "=seed", "score_c1=logit_c1"):
        assert isinstance(call("metrics", tmp_path / "theirs.csv", "--map", wrong).exception, CalotError)
