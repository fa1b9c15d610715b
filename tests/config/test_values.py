import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calot.config.difference import flatten
from calot.config.json_form import from_json, to_json
from calot.config.overrides import apply_overrides
from calot.criteria import PerCriterion
from calot.data.augmentations import Rotation
from calot.data.clips import AllFrames
from calot.data.mixing import Mixing
from calot.data.sampling import AnyPositive
from calot.errors import CalotError
from calot.experiment import Experiment
from calot.experiments import find, names
from calot.train.losses import BCE, FocalLoss, Loss

E02 = find("e02_frozen_probe").experiment
E06 = find("e06_c2_weighted").experiment


@pytest.mark.parametrize("name", names())
def test_every_experiment_survives_json_unchanged(name: str) -> None:
    experiment = find(name).experiment
    assert from_json(to_json(experiment), Experiment) == experiment


def test_only_calots_own_frozen_dataclasses_are_rebuilt() -> None:
    for evil in ("os.system", "calot.config.to_json", "subprocess.Popen", "calot.nowhere.Thing", "None"):
        with pytest.raises(CalotError, match="_type"):
            from_json({"_type": evil, "args": "x"}, Experiment)


def test_a_field_of_another_version_is_named() -> None:
    data = to_json(FocalLoss()) | {"delta": 1}
    with pytest.raises(CalotError, match=r"FocalLoss has no field \['delta'\]"):
        from_json(data, Loss)


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
        ("loss.gamma=1", "BCE has no field 'gamma'"),
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
        ("loss=__import__('os').system('true')", "belongs here. There are: BCE"),
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


def test_a_difference_names_fields_and_both_values() -> None:
    assert [(d.field, d.baseline, d.value) for d in E06.difference(E02)] == [
        ("loss.pos_weight", None, "PerCriterion"),
        ("loss.pos_weight.two_structures", None, 1.0),
        ("loss.pos_weight.hepatocystic_triangle", None, 5.0),
        ("loss.pos_weight.cystic_plate", None, 1.0),
    ]


def test_the_fingerprint_ignores_names_and_compute_and_nothing_else() -> None:
    renamed = replace(E02, name="other", compute=replace(E02.compute, workers=4, micro_batch=2))
    assert renamed.fingerprint() == E02.fingerprint()
    assert replace(E02, clip=replace(E02.clip, stride=2)).fingerprint() != E02.fingerprint()
    assert len({find(n).experiment.fingerprint() for n in names()}) == len(names())
