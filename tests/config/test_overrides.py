import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calot.config.difference import flatten
from calot.config.json_form import from_json, to_json
from calot.config.overrides import apply_overrides, is_override
from calot.criteria import PerCriterion
from calot.data.augmentations import Rotation
from calot.data.clips import AllFrames
from calot.data.mixing import Mixing
from calot.data.sampling import AnyPositive
from calot.errors import CalotError
from calot.experiment import Experiment
from calot.experiments import find
from calot.train.losses import BCE, FocalLoss

E02 = find("e02_frozen_probe").experiment
E06 = find("e06_c2_weighted").experiment


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("train.lr=1e-4", lambda e: e.train.lr == 1e-4),
        ("train.epochs=3", lambda e: e.train.epochs == 3),
        ("train.clip_norm=2", lambda e: e.train.clip_norm == 2.0),
        ("loss=FocalLoss(gamma=1)", lambda e: e.loss == FocalLoss(gamma=1.0)),
        ("loss=focal-loss", lambda e: e.loss == FocalLoss()),
        ("loss=FocalLoss(alpha=[0.2,0.3,0.4])", lambda e: e.loss == FocalLoss(alpha=PerCriterion(0.2, 0.3, 0.4))),
        ("loss.pos_weight=[1,5,1]", lambda e: e.loss == BCE(pos_weight=PerCriterion(1, 5, 1))),
        ("loss.pos_weight=None", lambda e: e.loss == BCE()),
        ("protocol=all-frames", lambda e: e.protocol == AllFrames()),
        ("sampler=AnyPositive(share=0.25)", lambda e: e.sampler == AnyPositive(share=0.25)),
        ("augment=[]", lambda e: e.augment == ()),
        ("augment.0.probability=0.25", lambda e: e.augment[0].probability == 0.25),
        ("augment=[Rotation(degrees=5)]", lambda e: e.augment == (Rotation(degrees=5.0),)),
        ("mixing=Mixing(per_clip=True)", lambda e: e.mixing == Mixing(per_clip=True)),
        ("mixing=mixing", lambda e: e.mixing == Mixing()),
        ("label_smoothing=0.1", lambda e: e.label_smoothing == 0.1),
        ("backbone.weights=some/model", lambda e: e.backbone.weights == "some/model"),
        ("backbone.weights=None", lambda e: e.backbone.weights is None),
        ("train.adaptation=LoRA(targets=[q,v])", lambda e: e.train.adaptation.targets == ("q", "v")),
        ("train.adaptation=FullFineTune(lr=1e-5)", lambda e: e.train.adaptation.lr == 1e-5),
    ],
)
def test_a_key_sets_its_field(text: str, check: object) -> None:
    assert check(apply_overrides(E02, [text]))


def test_a_list_of_names_is_set_as_a_list() -> None:
    changed = apply_overrides(find("e10b_lora_r32_qkv").experiment, ["train.adaptation.targets=[q,v]"])
    assert changed.train.adaptation == find("e10b_documented").experiment.train.adaptation


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.rl=1", "Stage has no field 'rl'. Did you mean \"lr\""),
        ("los=1", "no field 'los'. Did you mean \"loss\""),
        ("train.lr=fast", "train.lr='fast': expected a number above 0"),
        ("train.lr=1e999", "train.lr=inf: expected a number above 0 and at most 100"),
        ("train.lr=-1e999", "train.lr=-inf: expected a number above 0"),
        ("name=../elsewhere", "letters, digits, _, - and . only"),
        ("name=", "letters, digits, _, - and . only"),
        ("compute.workers=-1", "compute.workers=-1: expected a whole number from 0"),
        ("compute.threads=0", "compute.threads=0: expected a whole number from 1"),
        ("train.epochs=1.5", "train.epochs=1.5: expected a whole number"),
        ("train.epochs=True", "train.epochs=True: expected a whole number"),
        ("train.epochs=0", "train.epochs=0: expected a whole number from 1"),
        ("loss=Focal", "expected BCE or FocalLoss"),
        ("loss=FocalLos(gamma=1)", "no component 'FocalLos' belongs here. Did you mean \"FocalLoss\""),
        ("loss=FocalLoss(gama=1)", "FocalLoss has no field 'gama'. Did you mean"),
        ("loss.pos_weight=[1,5]", r"loss.pos_weight=\(1, 5\): expected"),
        ("sampler=BCE", "expected .*Uniform"),
        ("augment.3.probability=1", "not a place in a list of 1"),
        ("augment.²=1", "not a place in a list of 1"),
        ("augment.0=5", "augment.0=5: expected .*HorizontalFlip"),
        ("backbone.size=250", "not a multiple of patch"),
        ("label_smoothing=1.5", "label_smoothing=1.5: expected a number at least 0 and below 1"),
        ("mixing=Mixing(mixup_probability=0.9)", "only one of the two"),
        ("clip.length=8", r"backbone\.frames=16: set both alike"),
        ("loss", "is not key=value"),
        # what would be dropped or taken for something else
        ("loss=BCE([1,5,1])", r"each setting of BCE is given by its name: BCE\(pos_weight=\[1, 5, 1\]\)"),
        ("loss=FocalLoss(0.25, 5)", r"FocalLoss\(alpha=0.25, gamma=5\)"),
        ("train.adaptation=LoRA(8)", r"LoRA\(rank=8\)"),
        ("loss=FocalLoss(*[0.25, 5])", "each setting of FocalLoss is given by its name"),
        ("loss=FocalLoss(**{'gamma': 5})", "each setting of FocalLoss is given by its name"),
        ("loss=FocalLoss(gamma=1, gamma=5)", "gamma is given twice"),
        ("loss=FocalLoss(gamma=1) # and alpha=None", "would be dropped"),
        ("loss=FocalLoss(gamma=1) and BCE()", "is not a setting"),
        ("loss=FocalLoss(gamma=1); loss=BCE()", "cannot be read"),
        ("loss=FocalLoss(gamma=1).neutral()", "belongs here"),
        ("loss=lambda: BCE()", "is not a setting"),
        ("loss=(x := BCE())", "is not a setting"),
        ("loss=[BCE()]", "a list of 1 does not belong here"),
        ("loss={'gamma': 1}", "is not a setting"),
        ("loss=FocalLoss(gamma=1+1)", "is not a setting"),
        ("loss=FocalLoss(gamma=1 < 2)", "is not a setting"),
        ("loss=FocalLoss(gamma=-'1')", "is not a setting"),
        ("loss=FocalLoss(gamma=--1)", "is not a setting"),
        ("loss=FocalLoss(gamma='x')", r"FocalLoss\.gamma='x': expected a number from 0 to 100"),
        ("loss=FocalLoss(gamma=nan)", r"FocalLoss\.gamma='nan': expected a number"),
        ("loss=FocalLoss(gamma=-1)", r"FocalLoss\.gamma=-1: expected a number from 0 to 100"),
        ("loss=FocalLoss(gamma=True)", r"FocalLoss\.gamma=True"),
        ("loss=FocalLoss(gamma=1e999)", r"FocalLoss\.gamma=inf"),
        ("loss=BCE(pos_weight=5)", r"BCE\.pos_weight=5: expected PerCriterion above 0"),
        ("loss=BCE(pos_weight=[1,-5,1])", r"BCE\.pos_weight=\(1, -5, 1\): expected PerCriterion above 0"),
        ("loss=BCE(pos_weight=PerCriterion(1, 5, 1))", "PerCriterion is given by its name"),
        ("train.adaptation=LoRA(targets='q')", r"LoRA\.targets='q': expected a list"),
        ("train.adaptation=LoRA(targets=[q, q])", "names one linear twice"),
        ("train.adaptation=LoRA(layers=(18, 24))", "there is no layer 24"),
        ("backbone.patch=0", "expected a whole number from 1 to 256"),
        ("backbone.heads=0", "expected a whole number from 1"),
        ("backbone.tubelet=0", "expected a whole number from 1"),
        ("backbone.size=-64", "expected a whole number from 1"),
        ("backbone.mlp_ratio=0", "expected a number from 0.01"),
        ("backbone.drop_path=2", "at least 0 and below 1"),
        ("pooling.heads=3", "heads=3 does not divide the width 1024"),
        ("pooling.dropout=1.5", "at least 0 and below 1"),
        ("head.hidden=-1", "expected a whole number from 1"),
        (f"train.epochs={10**70}", "expected a whole number from 1 to 100,000"),
        ("train.min_lr=1", "min_lr=1.0 is above lr=0.0005"),
        (f"name={'x' * 300}", "a folder's name on any system"),
        ("name=con", "none that Windows reserves"),
        ("name=LPT1.txt", "none that Windows reserves"),
        ("name=run.", "a folder's name on any system"),
        ("name=a\x1b[31mb", "a folder's name on any system"),
        # a key that stands elsewhere
        ("lr=1", r"Experiment has no field 'lr'. Did you mean head\.lr or train\.lr"),
        ("train.learning_rate=1", r"Stage has no field 'learning_rate'. Did you mean head\.lr or train\.lr"),
        ("wd=1", r"Did you mean train\.weight_decay"),
        ("dropout=0", r"Did you mean pooling\.dropout or head\.dropout"),
        ("loss.gamma=1", r"BCE has no field 'gamma'; FocalLoss, .* have: give FocalLoss\(gamma=...\)"),
        ("masking.strength=1", r"'strength' is inside None; give a component, such as AttentionBias\(strength=...\)"),
        ("train.lr.x=1", "'x' is inside 0.0005"),
        ("loss=__import__('os').system('true')", "belongs here. Available: BCE"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_the_remedy(text: str, message: str) -> None:
    with pytest.raises(CalotError, match=message):
        apply_overrides(E02, [text])


@given(key=st.text(max_size=12), raw=st.text(max_size=24))
def test_any_text_is_either_a_change_or_a_clear_error(key: str, raw: str) -> None:
    for whole in (f"{key}={raw}", f"loss={raw}", f"train.lr={raw}", f"augment={raw}", raw):
        with contextlib.suppress(CalotError):
            apply_overrides(E02, [whole])


NASTY = st.sampled_from(
    [
        *("", "0", "-1", "1e999", "-1e999", "nan", "True", "None", "[]", "()", "{}", "9" * 5000, "-" * 5000 + "1"),
        *("(" * 500, "\x00", "1 if 1 else 2", "[1e999, 1, 1]", "1j", "b''", "...", "BCE", "FocalLoss(gamma=1e999)"),
    ]
)


@given(key=st.sampled_from(sorted(flatten(E02))), raw=NASTY)
def test_any_value_of_any_field_is_refused_or_can_be_written_down(key: str, raw: str) -> None:
    with contextlib.suppress(CalotError):
        changed = apply_overrides(E02, [f"{key}={raw}"])
        assert len(changed.fingerprint()) == 64
        assert from_json(json.loads(json.dumps(to_json(changed), allow_nan=False)), Experiment) == changed


def test_the_order_of_changes_does_not_matter() -> None:
    changes = ["clip.length=1", "clip.pad_to=16", "train.min_lr=0.1", "train.lr=0.2", "pooling.heads=16"]
    assert apply_overrides(E02, changes) == apply_overrides(E02, changes[::-1])
    terms = "[Term(name='criteria', loss=BCE()), Term(name='segmentation', loss=SegmentationLoss())]"
    together = ["heads=[Segmentation()]", f"loss=CombinedLoss(terms={terms})"]
    assert apply_overrides(E02, together) == apply_overrides(E02, together[::-1])
    with pytest.raises(CalotError, match="no term of loss trains the head 'segmentation'"):
        apply_overrides(E02, together[:1])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["train.lr=0.1", "train.lr=0.2"], "train.lr=0.1 and train.lr=0.2: one field is given twice"),
        (["loss=FocalLoss()", "loss.gamma=1"], "has no field 'gamma'"),
        (
            ["loss=BCE()", "loss.pos_weight=[1,5,1]"],
            r"sets all of loss, and loss\.pos_weight=\[1,5,1\] changes part",
        ),
        (["augment.0.probability=0", "augment=[]"], "sets all of augment"),
    ],
)
def test_changes_that_contradict_each_other_are_refused(texts: list[str], message: str) -> None:
    for ordered in (texts, texts[::-1]):
        with pytest.raises(CalotError, match=message if ordered is texts else ""):
            apply_overrides(E02, ordered)


def test_one_change_typed_twice_is_one() -> None:
    assert apply_overrides(E02, ["train.lr=0.1", "train.lr=1e-1"]) == apply_overrides(E02, ["train.lr=0.1"])


@pytest.mark.parametrize(
    ("word", "is_one"),
    [("loss=BCE()", True), ("backbone.weights=a/b.pt", True), ("x=y.py", True), ("a/x=y.py", False), ("e02", False)],
)
def test_a_path_that_holds_an_equals_sign_is_a_path(word: str, is_one: bool) -> None:
    assert is_override(word) == is_one
