"""The page of one run: what it says in each case, and that it is one safe, offline file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from make_run import MANIFEST, make_run
from visible_text import Words, visible

from calot.criteria import CRITERIA, label
from calot.errors import CalotError
from calot.provenance import ledger
from calot.provenance.receipt import CHECKS
from calot.report.page import write_report
from calot.report.results import openings_text
from calot.report.run_folder import read_run
from calot.statistics.calibration import choose_thresholds
from calot.statistics.summary import summarise
from calot.statistics.videos import per_video


class Resources(HTMLParser):
    """Every address that a browser would fetch, and every id."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "data", "action", "srcset", "poster"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")


def test_the_page_is_one_file_without_any_outside_resource(page: str) -> None:
    found = Resources()
    found.feed(page)
    assert all(address.startswith(("#", "data:image/jpeg;base64,")) for address in found.addresses)
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\((?!#)", re.sub(r"base64,[^\"]*", "", page))
    assert not found.tags & {"iframe", "link", "object"}
    assert page.count("<script") == page.count("<script>") == 1
    assert len(page.encode()) < 3_000_000


def test_every_contents_link_leads_somewhere_and_no_id_stands_twice(page: str) -> None:
    found = Resources()
    found.feed(page)
    assert {address[1:] for address in found.addresses if address.startswith("#")} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_the_same_run_gives_the_same_bytes(run: Path, page: str) -> None:
    assert write_report(run).read_text(encoding="utf-8") == page


def test_the_numbers_shown_are_those_of_summarise(run: Path, page: str) -> None:
    text = visible(page)
    for split, predictions in read_run(run).predictions.items():
        fields = summarise(predictions).to_dict()
        total = fields["map"]
        assert f"average precision in points, {split}" in text
        assert f"{100 * total['value']:.2f} {100 * total['low']:.1f} to {100 * total['high']:.1f}" in text
        for criterion in CRITERIA:
            ap, shown = fields["ap"][criterion], label(criterion)
            value, low, high, chance = (100 * ap[name] for name in ("value", "low", "high", "prevalence"))
            assert f"{shown} {value:.2f} {low:.1f} to {high:.1f} {chance:.1f} %" in text


def _row(name: str, items: Sequence[Mapping[str, float]], *, digits: int = 3, scale: float = 1.0) -> str:
    """A row of figures by criterion: each value, then its interval."""
    cells = []
    for item in items:
        value, low, high = (f"{round(scale * item[end], digits) + 0.0:.{digits}f}" for end in ("value", "low", "high"))
        cells.append(f"{value} {low} to {high}")
    return f"{name} {' '.join(cells)}".replace("-", "−")


def test_each_figure_stands_over_its_interval_and_both_are_those_of_summarise(run: Path, page: str) -> None:
    text, tables = visible(page), read_run(run).predictions
    thresholds = choose_thresholds(tables["val"])
    for predictions in tables.values():
        fields = summarise(predictions, thresholds=thresholds).to_dict()
        brier, fit, made = (list(fields[name].values()) for name in ("brier", "calibration", "decisions"))
        assert _row("Brier", [item["intervals"]["value"] for item in brier]) in text
        assert _row("skill", [item["intervals"]["skill"] for item in brier]) in text
        assert _row("ECE, debiased", [item["ece_debiased"] for item in fit]) in text
        assert "ECE, plain " + " ".join(f"{item['ece']:.3f}" for item in fit) in text
        assert "ECE of a perfect model " + " ".join(f"{item['ece_perfect']:.3f}" for item in fit) in text
        assert _row("slope", [item["intervals"]["slope"] for item in fit], digits=2) in text
        assert _row("sensitivity", [item["intervals"]["sensitivity"] for item in made]) in text
        ceiling = fields["rater_ceiling"]
        every = [*ceiling["ap"].values(), ceiling["map"]]
        assert _row("other raters", [item["ceiling"] for item in every], digits=1, scale=100) in text
        assert _row("model", [item["model"] for item in every], digits=1, scale=100) in text
        rates = per_video(predictions, thresholds=thresholds).rates.values()
        assert _row("flips per minute", [asdict(item.flips_per_minute) for item in rates], digits=2) in text
        assert f"Decision curve of C2 hepatocystic triangle, {predictions.split}, with its interval" in page
    assert text.count("coverage not simulated") == 1


def test_what_has_no_interval_says_so_in_its_place_and_why_beneath(tmp_path: Path, words: Words) -> None:
    text = words(make_run(tmp_path / "run", videos=2, pictures=False))
    assert re.search(r"Brier 0\.\d{3} no interval 0\.\d{3} no interval", text)
    assert re.search(r"No interval for Brier C1, .*: 2 videos: an interval over videos needs 3\.", text)


def test_candidates_and_selection_stand_in_the_header(page: str, tmp_path: Path, words: Words) -> None:
    assert "Candidates unknown: no ledger here has a result of this data set" in visible(page)
    for seed in (0, 1):
        entry = ledger.make_entry(ledger.PREDICTED, manifest_hash=MANIFEST, fingerprint="f" * 64, digest=str(seed))
        ledger.append(tmp_path, entry)
    text = words(make_run(tmp_path / "e02/run_s0", pictures=False))
    assert "Candidates 1 setting in 2 val results recorded for this data set" in text


def test_a_run_above_chance_says_so_with_its_interval_first(page: str) -> None:
    text = visible(page)
    assert re.search(
        r"Val mAP is \d\d\.\d\d, above chance \(20\.\d\d\): the 95 % interval over videos is \d\d\.\d to", text
    )
    assert text.index("Val mAP is") < text.index("Protocol keyframes")


def test_phantom_data_is_said_in_a_banner_and_real_data_is_not(page: str, tmp_path: Path, words: Words) -> None:
    assert "Phantom data: these scores mean nothing clinically" in page[: page.index('<div class="page">')]
    assert "Phantom" not in words(make_run(tmp_path / "real", synthetic=False, pictures=False))


def test_a_model_without_skill_is_not_distinguishable_from_chance(tmp_path: Path, words: Words) -> None:
    text = words(make_run(tmp_path / "run", skill=0.0, pictures=False))
    assert re.search(r"Val mAP is \d\d\.\d\d, not distinguishable from chance \(20\.\d\d\)", text)


def test_two_videos_give_a_value_without_an_interval_and_the_reason(tmp_path: Path, words: Words) -> None:
    text = words(make_run(tmp_path / "run", videos=2, pictures=False))
    assert re.search(r"Val mAP is \d\d\.\d\d \(chance \d\d\.\d\d\), without an interval: ", text)
    assert "above chance" not in text.split("Protocol")[0]


def test_an_unfinished_run_says_how_far_it_came_and_how_to_go_on(tmp_path: Path, words: Words) -> None:
    text = words(make_run(tmp_path / "run", finished=False))
    assert "Unfinished: this run has no result yet." in text
    assert "2 epochs in metrics.csv" in text
    assert "--resume" in text
    assert "Val mAP is" not in text


def test_a_run_that_wrote_only_its_experiment_is_unfinished_too(tmp_path: Path, words: Words) -> None:
    folder = make_run(tmp_path / "run", finished=False)
    for name in ("environment.json", "data.json", "model.json", "receipt.json", "metrics.csv"):
        (folder / name).unlink()
    assert "Unfinished: this run has no result yet." in words(folder)


def test_random_frozen_weights_are_a_control_and_not_a_result(tmp_path: Path, words: Words, page: str) -> None:
    text = words(make_run(tmp_path / "frozen", weights="random", pictures=False))
    assert "As a control, val mAP is" in text
    assert "the backbone has never been trained, so this is a control, not a result" in text
    text = words(make_run(tmp_path / "trained", weights="random", trained=True, pictures=False))
    assert "Val mAP is" in text
    assert "control: backbone" not in text
    assert "this is a control" not in text
    assert "never been trained" not in visible(page)


def test_a_run_without_a_receipt_is_stamped(tmp_path: Path, words: Words, page: str) -> None:
    assert "treatment unverified" in words(make_run(tmp_path / "run", receipt=False, pictures=False))
    assert "treatment unverified" not in visible(page)


def test_the_receipt_is_a_table_of_checks_with_its_evidence_folded_away(page: str) -> None:
    text = visible(page)
    for number, (name, holds) in enumerate(CHECKS.items(), start=1):
        assert f"{number} {name} {holds} holds {name}: as declared" in text
    assert "11 hold." in text
    assert "treatment verified" in text
    folded = re.search(r'<details class="evidence">.*?</details>', page, flags=re.DOTALL)
    assert folded is not None
    assert "share of batches under mixup 0.1235 0.2 0.4" in visible(folded[0])
    assert "0.1235" not in visible(page.replace(folded[0], ""))
    for raw in ("&#34;", "evidence:", "{"):
        assert raw not in visible(page.split('id="receipt"')[1].split("<h2")[0])


def test_a_failed_check_is_a_warning_on_top_in_place_of_the_scores(tmp_path: Path, words: Words) -> None:
    folder = make_run(tmp_path / "run", name="e03_focal", failed="dose", splits=("val", "test"))
    text = words(folder)
    assert "INVALID: receipt check dose failed" in text.split("Invalid:")[0]
    assert "Invalid: receipt check dose failed." in text
    assert "Dose. the figures of dose are not as declared." in text
    assert "6 dose what is applied lies in its declared band failed the figures of dose are not as declared" in text
    assert text.index("11 checks") < text.index("Frame manifest")
    assert text.count("11 checks") == 1
    predictions = read_run(folder).predictions
    for split in ("val", "test"):
        total = summarise(predictions[split]).to_dict()["map"]["value"]
        assert f"{total:.3f}" not in text
    for section in (
        "Val mAP is",
        "Average precision",
        "Calibration",
        "Decisions",
        "Worst clips",
        "Against its baseline",
    ):
        assert section not in text
    assert "Logged while it trained; none of it is a result" in text


def test_the_page_of_a_failed_run_is_whole_and_marks_no_epoch(tmp_path: Path) -> None:
    found = Resources()
    folder = make_run(tmp_path / "run", failed="gradients", pictures=False)
    page = write_report(folder).read_text(encoding="utf-8")
    found.feed(page)
    assert "Macro mAP over epochs" in page
    assert f"{read_run(folder).metrics['val_map'].max():.3f}" not in page
    assert {address[1:] for address in found.addresses if address.startswith("#")} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_checks_not_made_and_a_receipt_of_another_experiment_leave_the_treatment_unverified(
    tmp_path: Path, words: Words
) -> None:
    text = words(make_run(tmp_path / "pending", pending=("ledger", "controls"), pictures=False))
    assert (
        "Treatment unverified. Not everything that this run declares is proven: receipt check ledger, controls not"
        in text
    )
    assert "9 hold, 2 not made." in text
    assert "Val mAP is" in text
    folder = make_run(tmp_path / "other", failed="dose", pictures=False)
    receipt = json.loads((folder / "receipt.json").read_text())
    (folder / "receipt.json").write_text(json.dumps(receipt | {"fingerprint": "a" * 64}))
    text = words(folder)
    assert "the receipt is of another experiment (aaaaaaaaaaaa, here ffffffffffff)" in text
    assert "Val mAP is" in text


def test_masks_and_loss_terms_are_drawn_where_they_were_logged(tmp_path: Path, page: str) -> None:
    made = write_report(make_run(tmp_path / "run", masks=True, pictures=False)).read_text(encoding="utf-8")
    for described in ("Intersection over union of the masks", "Each term of the training loss"):
        assert described in made
        assert described not in page
    text = visible(made)
    assert "segmentation in 75 % to 100 % of an epoch's batches; attention in 50 % of an epoch's batches." in text
    assert "criteria in" not in text
    assert "train 6,960 human 493, synthetic 3,071 51.2 % 7.1 %" in text
    assert "masks by source" not in visible(page)


def test_a_criterion_without_positives_is_undefined_and_never_zero(tmp_path: Path, words: Words) -> None:
    text = words(make_run(tmp_path / "run", without="cystic_plate", pictures=False))
    assert "Val mAP is undefined: no positive label for C3 cystic plate." in text
    assert "C3 cystic plate undefined: no positive label undefined 0.0 %" in text
    assert "The mean AP over C1 two structures, C2 hepatocystic triangle alone is" in text
    assert "C3 cystic plate 0.00" not in text
    assert "No epoch is marked: val macro mAP is undefined" in text


def test_names_from_files_are_text_and_never_markup(tmp_path: Path) -> None:
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(2)>$x$'
    folder = make_run(tmp_path / "run", name=evil, baseline="<b>base</b>", pictures=False)
    for path in (folder, tmp_path):
        page = write_report(path).read_text(encoding="utf-8")
        assert page.count("<script") == 1  # the page's own
        assert "<img src=x" not in page
        assert "<b>base</b>" not in page
        assert "&lt;script&gt;" in page


def test_predictions_of_another_checkpoint_than_the_best_are_found_out(tmp_path: Path, words: Words) -> None:
    folder = make_run(tmp_path / "run", pictures=False)
    table = (folder / "metrics.csv").read_text().splitlines()
    (folder / "metrics.csv").write_text("\n".join(table[:3]) + "\n")
    assert "they do not come from the same checkpoint" in words(folder)


def test_test_openings_are_counted_from_the_ledger(page: str, tmp_path: Path, words: Words) -> None:
    assert "how often test was opened is unknown" in visible(page)
    ledger.append(tmp_path, ledger.make_entry(ledger.TEST_OPENED, manifest_hash="other"))
    assert openings_text(tmp_path, manifest_hash=MANIFEST) == "Test has never been opened on this manifest."
    for _ in range(2):
        ledger.append(tmp_path, ledger.make_entry(ledger.TEST_OPENED, manifest_hash=MANIFEST))
    assert "Test has been opened 2 times on this manifest." in words(make_run(tmp_path / "e02/run_s0", pictures=False))


@pytest.mark.parametrize(
    "name", ["experiment.json", "data.json", "receipt.json", "metrics.csv", "predictions/val.parquet"]
)
def test_a_corrupt_file_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    folder = make_run(tmp_path / "run", pictures=False)
    (folder / name).write_bytes(b'{"half": ')
    with pytest.raises(CalotError, match=re.escape(name)):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_a_file_missing_from_a_finished_run_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", pictures=False)
    (folder / "model.json").unlink()
    with pytest.raises(CalotError, match=r"model\.json is missing"):
        write_report(folder)


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CalotError, match="holds no run"):
        write_report(tmp_path)


def test_the_declared_difference_and_the_command_are_shown(tmp_path: Path, words: Words) -> None:
    folder = make_run(tmp_path / "e03/run", name="e03_focal", baseline="e02_frozen_probe", pictures=False)
    text = words(folder)
    assert "loss BCE(pos_weight=none) FocalLoss(gamma=2.0)" in text
    assert json.loads((folder / "environment.json").read_text())["command"] in text
    assert "No run of e02_frozen_probe at this scale stands in the results root" in text
