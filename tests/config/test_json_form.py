import sys
from dataclasses import dataclass, replace
from typing import Annotated

import pytest

from calot.config.component import Component, field_types
from calot.config.fields import Count, Since, marks
from calot.config.fingerprint import fingerprint
from calot.config.json_form import from_json, to_json
from calot.errors import CalotError
from calot.experiment import Experiment
from calot.experiments import find, names
from calot.models.heads import Head, MLPHead
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


def _rules() -> tuple[type, type]:
    """A component as it was, and as it is with a field more."""

    @dataclass(frozen=True, kw_only=True)
    class Rule(Component):
        length: Count = 16

    before = Rule

    @dataclass(frozen=True, kw_only=True)
    class Rule(Component):  # type: ignore[no-redef]
        length: Count = 16
        pads_with: Annotated[str, Since("0.2.0", before="first")] = "last"

    return before, Rule


def test_a_field_added_later_leaves_old_fingerprints_as_they_are() -> None:
    before, after = _rules()
    assert fingerprint(after(pads_with="first")) == fingerprint(before())
    assert fingerprint(after()) != fingerprint(before()), "another default is another treatment"


def test_a_file_from_before_a_field_is_read_with_what_calot_did_then() -> None:
    data = to_json(MLPHead(hidden=64))
    assert marks(field_types(MLPHead)["name"], Since)
    del data["name"]
    assert from_json(data, Head) == MLPHead(hidden=64)
    del data["hidden"]
    with pytest.raises(CalotError, match=r"MLPHead lacks \['hidden'\]"):
        from_json(data, Head)


def test_a_component_is_found_wherever_its_module_went() -> None:
    data = to_json(E02)
    data["backbone"]["_type"] = "calot.models.vjepa2.VJEPA2"  # where 0.1.0 had it
    assert from_json(data, Experiment) == E02


def test_no_module_is_imported_because_a_file_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "calot.cli.demo", raising=False)
    for tag in ("calot.cli.demo.BCE", "antigravity.BCE", "this.BCE"):
        assert from_json({"_type": tag, "pos_weight": None}, Loss) == BCE()
    assert not {"calot.cli.demo", "antigravity", "this"} & set(sys.modules)


@pytest.mark.parametrize(
    "value",
    [
        {"_type": 5},
        {"_type": None},
        {"_type": ["x"]},
        {},
        [],
        [[]],
        "BCE",
        5,
        None,
        {"_type": "calot.train.losses.Loss"},
    ],
)
def test_whatever_stands_for_a_component_is_one_or_a_clear_error(value: object) -> None:
    with pytest.raises(CalotError):
        from_json(value, Loss)
    with pytest.raises(CalotError):
        from_json(to_json(E02) | {"loss": value}, Experiment)


def test_what_has_no_json_form_is_named_before_anything_is_trained() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Local(Loss):
        def __call__(self, outputs: object, batch: object) -> None: ...

    with pytest.raises(CalotError, match="loss: Local is defined inside a function"):
        to_json(replace(E02, loss=Local()))
