from pathlib import Path

import pytest
from typer.testing import CliRunner

from calot.cli.main import app
from calot.criteria import PerCriterion
from calot.errors import CalotError
from calot.experiment import scaled
from calot.experiments import find, names
from calot.models.checkpoints import EMBEDDED
from calot.receipts.reverting import changes
from calot.run.build import parameter_counts
from calot.train.losses import BCE

EXPECTED = {
    "e00_finetune",
    "e02_frozen_probe",
    "e03_focal",
    "e04_balanced",
    "e05_focal_balanced",
    "e06_c2_weighted",
    "e06_cystic_plate",
}


def test_the_probe_family_is_there() -> None:
    assert set(names()) >= EXPECTED


@pytest.mark.parametrize("name", names())
def test_a_file_and_its_experiment_share_their_name_and_the_baseline_exists(name: str) -> None:
    found = find(name)
    assert found.experiment.name == name
    assert found.header
    if found.experiment.baseline:
        assert found.experiment.difference(find(found.experiment.baseline).experiment)


#: Shipped experiments that differ from their baseline in more than one thing: in which, and why that is meant.
SEVERAL = {
    "clip5_majority": (
        "clip geometry label train.adaptation train.batch",
        "the study's later recipe, asked about as a whole",
    ),
    "e05_focal_balanced": ("loss sampler", "the question is about the two together"),
    "e08_multitask": (
        "heads loss train.adaptation train.epochs train.patience train.weight_decay",
        "the family's own recipe comes in with its decoder, as documented",
    ),
    "e09_stage_one": (
        "augment loss.terms train.adaptation train.batch train.epochs train.min_lr train.patience train.warmup",
        "the first stage of e09_staged, as documented",
    ),
    "e09_staged": (
        "augment loss.terms then train.adaptation train.batch train.epochs train.min_lr train.patience train.warmup",
        "the study changed augmentation, stages and recipe at once",
    ),
    "e10a_lora_r16": ("train.adaptation train.epochs train.warmup", "the family's recipe, as documented"),
    "e10b_recipe": ("train.epochs train.warmup", "the warm-up of a shorter run is shorter"),
    "e10b_ten_epochs": ("train.epochs train.warmup", "the recipe of e11, whose baseline it is"),
    "e10c_lora_low_lr": (
        "train.adaptation train.epochs train.lr train.patience train.warmup",
        "slower means both rates and more epochs",
    ),
    "e13_window_vit": (
        "backbone mixing train.adaptation train.epochs train.lr train.patience train.warmup train.weight_decay",
        "what is trained from scratch has its own recipe, as planned",
    ),
    "swincvs_e2e": ("heads loss", "a second head comes with its term"),
    "swincvs_frozen": ("loss.terms pooling then", "two stages in place of one joint training, as documented"),
    "e12_regularized": (
        "label_smoothing masking mixing train.warmup train.weight_decay",
        "the question is about regularisers together",
    ),
}


@pytest.mark.parametrize("name", names())
def test_one_question_is_one_difference_and_each_exception_has_its_reason(name: str) -> None:
    experiment = find(name).experiment
    if experiment.baseline is None:
        return
    found = changes(experiment, find(experiment.baseline).experiment)
    things = {".".join(path[: 2 if path[0] in ("train", "loss") else 1]) for path in found}
    stated, reason = SEVERAL.get(name, ("", ""))
    assert things == set(stated.split()) if stated else len(things) == 1, sorted(things)
    assert bool(reason) == bool(stated)
    assert len(things) != 1 or not stated


def test_e11_differs_from_its_baseline_in_the_loss_alone() -> None:
    e11 = find("e11_attention_supervision").experiment
    baseline = find("e10b_ten_epochs").experiment
    assert e11.baseline == baseline.name
    assert changes(e11, baseline) == [("loss", "terms", "attention")]
    assert e11.compute == baseline.compute


def test_e02_has_the_documented_settings() -> None:
    stage = find("e02_frozen_probe").experiment.train
    documented = {
        "lr": 5e-4,
        "weight_decay": 0.1,
        "epochs": 15,
        "warmup": 2.0,
        "min_lr": 1e-6,
        "batch": 32,
        "patience": 5,
    }
    assert {k: getattr(stage, k) for k in documented} == documented


def test_e06_weights_the_triangle_and_its_namesake_the_plate() -> None:
    assert find("e06_c2_weighted").experiment.loss == BCE(pos_weight=PerCriterion.of([1, 5, 1]))
    assert find("e06_cystic_plate").experiment.loss == BCE(pos_weight=PerCriterion.of([1, 1, 5]))


def test_full_size_counts_are_the_documented_ones() -> None:
    counts = parameter_counts(find("e02_frozen_probe").experiment)
    assert counts["groups"]["pooling"] == 4_201_472
    assert counts["groups"]["head"] == 528_387
    assert counts["trainable"] == 4_201_472 + 528_387


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_tiny_is_the_embedded_size(name: str) -> None:
    tiny = scaled(find(name).experiment, "tiny")
    assert tiny.backbone.grid == (4, 8, 8)
    assert tiny.clip.frames == 8
    assert tiny.backbone.weights == EMBEDDED
    assert tiny.loss == find(name).experiment.loss


def test_another_scale_is_refused() -> None:
    with pytest.raises(CalotError, match="full or tiny"):
        scaled(find("e03_focal").experiment, "small")


def test_a_misspelt_name_brings_the_nearest() -> None:
    with pytest.raises(CalotError, match='Did you mean "e03_focal"'):
        find("e03_focl")


def test_a_users_file_is_an_experiment_with_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        '"""Mine."""\nfrom dataclasses import replace\nfrom calot.experiments import e02_frozen_probe\n'
        'experiment = replace(e02_frozen_probe.experiment, name="mine", baseline="e02_frozen_probe")\n'
    )
    found = find(str(path))
    assert (found.experiment.name, found.header, len(found.source.digest)) == ("mine", "Mine.", 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = 1", "defines no `experiment"), ("raise OSError('no')", "OSError: no"), ("def", "SyntaxError")],
)
def test_a_users_file_that_is_none_says_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(CalotError, match=message):
        find(str(path))


def test_the_list_as_json_holds_name_baseline_and_difference() -> None:
    import json

    rows = json.loads(CliRunner().invoke(app, ["experiments", "list", "--json"]).stdout)
    by_name = {r["name"]: r for r in rows}
    assert set(by_name) >= EXPECTED
    assert set(rows[0]) == {"name", "baseline", "difference"}
    assert by_name["e05_focal_balanced"]["baseline"] == "e02_frozen_probe"
    fields = {d["field"].split(".")[0] for d in by_name["e05_focal_balanced"]["difference"]}
    assert fields == {"loss", "sampler"}


def test_each_stage_says_what_trains_in_it() -> None:
    counts = parameter_counts(find("e09_staged").experiment)
    heads, layer = 5_650_568, 12_596_224
    norm = 2 * 1024
    assert [s["trainable"] for s in counts["stages"]] == [heads, heads + layer + norm]
    assert counts["trainable"] == heads
