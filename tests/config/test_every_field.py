"""Every field of every component against every nasty value: a clear error, or a value that really builds and runs."""

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from calot.config.component import Component, field_types
from calot.config.fields import Range, marks
from calot.config.holding import component_classes, takes_text
from calot.config.json_form import from_json, to_json
from calot.config.overrides import Override, apply_overrides, with_overrides
from calot.criteria import PerCriterion
from calot.data.masks import MaskSource
from calot.errors import CalotError, FieldError
from calot.experiment import Experiment, scaled
from calot.experiments import find, names, pretraining_names
from calot.run.build import build_classifier
from calot.run.trainer import stage_schedule
from calot.train.optim import build_adamw
from calot.types import Batch, Masks


class Odd(float):
    """A number that is more than one."""


NASTY: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 10**70, -(10**70), 2**63, 2**31, 10**5000, True, False, None),
    *(0.0, -0.0, 0.5, 1.0, -1.0, 1e-320, 1e-30, 1e30, 1e308, math.nan, math.inf, -math.inf, Odd(0.5), Odd("nan")),
    *("", "x", "None", "nan", "\x00", "\x1b[2J", "\u202e", "\ud800", "CON", "aux.txt", "x" * 300, "x" * 10**6, "../x"),
    *(
        (),
        [],
        (0,),
        [1],
        (-1,),
        (1.0, 2.0),
        (2.0, 1.0),
        ("q",),
        ((),),
        [[[[]]]],
        (None,),
        (math.nan,),
        (1e-320, 1e-320),
    ),
    *(1j, b"", {}, {"_type": "x"}, set(), object(), ..., int, abs, np.float32(0.5), np.int64(1), np.zeros(2)),
)


def _component_types(hint: Any, seen: set[type]) -> Iterator[type]:
    for cls in component_classes(hint):
        if cls in seen or not cls.__module__.startswith("calot."):
            continue
        seen.add(cls)
        yield cls
        for inner in field_types(cls).values():
            yield from _component_types(inner, seen)


EVERY = sorted(_component_types(Experiment, set()), key=lambda cls: cls.__name__)
SHIPPED = [find(name).experiment for name in (*names(), *pretraining_names())]


def _places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every component inside an experiment, with its path."""
    if isinstance(value, tuple):
        for place, part in enumerate(value):
            yield from _places(part, (*path, str(place)))
    elif is_dataclass(value):
        yield path, value
        for f in fields(value):
            yield from _places(getattr(value, f.name), (*path, f.name))


@dataclass(frozen=True)
class _Host:
    """A shipped experiment in which a component stands, and where."""

    experiment: Experiment
    path: tuple[str, ...]
    component: Any

    def with_component(self, component: Any) -> Any:
        return _changed(self.experiment, self.path, component)


def _changed(experiment: Experiment, path: tuple[str, ...], value: Any) -> Any:
    return value if not path else with_overrides(experiment, [Override("it", path, value, True)])


def _least(cls: type) -> Any:
    """A component with nothing given but what must be, which is text."""
    needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    return cls(**dict.fromkeys(needed, "given"))


def _host(cls: type) -> _Host:
    """Where a component stands in a shipped experiment, or could stand."""
    for experiment in SHIPPED:
        for path, component in _places(experiment):
            if type(component) is cls:
                return _Host(experiment, path, component)
    for experiment in SHIPPED:
        for path, component in _places(experiment):
            for name, hint in field_types(type(component)).items():
                if cls not in component_classes(hint):
                    continue
                listed = isinstance(getattr(component, name), tuple)
                with contextlib.suppress(CalotError, TypeError):
                    mine = _least(cls)
                    made = _changed(experiment, (*path, name), (mine,) if listed else mine)
                    return _Host(made, (*path, name, *(["0"] if listed else [])), mine)
    raise AssertionError(f"{cls.__name__} stands in no experiment and could stand in none: is it needed?")


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Four clips at the embedded size, the first two with a mask."""
    masks = torch.randint(0, 5, (4, 1, 32, 32), dtype=torch.uint8)
    masks[2:] = 255
    return Batch(
        video=torch.randint(0, 256, (4, 8, 3, 64, 64), dtype=torch.uint8),
        labels=torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1]]),
        soft=torch.rand(4, 3),
        index=torch.arange(4),
        masks=Masks(
            values=masks,
            weight=torch.tensor([[1.0], [1], [0], [0]]),
            place=torch.full((4, 1), 7),
            complete=torch.tensor([True, True, False, False]),
        ),
    )


def _runs(experiment: Experiment, batch: Batch) -> None:
    """What a training step and an epoch's order need, at tiny scale. Raises CalotError where the run would."""
    tiny = scaled(experiment, "tiny")
    if tiny.backbone.weights is not None:
        tiny = replace(tiny, backbone=replace(tiny.backbone, weights=None))
    model = build_classifier(tiny)
    stage = tiny.train
    if groups := stage.adaptation.apply(model.backbone):
        build_adamw(groups, weight_decay=stage.weight_decay, decayed=stage.decayed)
    assert math.isfinite(stage_schedule(stage, clips=4).lr(peak=stage.lr, step=1))
    order = tiny.sampler.order(batch.labels.numpy(), rng=np.random.default_rng(0))
    assert len(order) == 4
    prepared = tiny.preparation(seed=0)(batch, stage=0, epoch=0, start=0).batch
    grid = model.backbone.spec.grid
    if grid[1] != 8 or model.backbone.spec.frames != 8:
        return  # another size than the batch's: built, and that is all that four clips of 64 pixels can show
    assert torch.isfinite(model(prepared).logits).all()


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_every_numeric_field_declares_its_range(cls: type) -> None:
    for name, hint in field_types(cls).items():
        if any(isinstance(0.5, t) or isinstance(1, t) for t in _plain_types(hint) if t is not bool):
            assert _ranged(hint), f"{cls.__name__}.{name} has no range"


def _plain_types(hint: Any) -> Iterator[type]:
    import typing

    inner = typing.get_args(hint)
    if hint in (int, float, bool):
        yield hint
    for part in inner:
        yield from _plain_types(part)


def _ranged(hint: Any) -> bool:
    import types
    import typing

    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return all(_ranged(option) for option in typing.get_args(hint) if set(_plain_types(option)) - {bool})
    if marks(hint, Range):
        return True
    return any(_ranged(part) for part in typing.get_args(hint))


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_a_nasty_value_is_a_clear_error_or_one_that_builds(cls: type, batch: Batch) -> None:
    host = _host(cls)
    for field in fields(cls):
        built: list[Any] = []
        for nasty in NASTY:
            if field.name == "synthetic" and cls is MaskSource:
                continue  # a folder, whose reader is tested with it
            try:
                changed = replace(host.component, **{field.name: nasty})
            except (FieldError, CalotError) as error:
                said = str(error)
                assert cls.__name__ in said or field.name in said, said
                assert len(said) < 1000
                continue
            kept = getattr(changed, field.name)
            assert not isinstance(kept, (list, Odd)), "a field keeps plain values alone"
            if any(type(kept) is type(other) and kept == other for other in built):
                continue
            built.append(kept)
            _accepted(host, changed, batch)


def _accepted(host: _Host, changed: Any, batch: Batch) -> None:
    try:
        experiment = host.with_component(changed)
    except CalotError:
        return  # it does not go with the rest
    assert from_json(json.loads(json.dumps(to_json(experiment), allow_nan=False)), Experiment) == experiment
    assert len(experiment.fingerprint()) == 64
    with contextlib.suppress(CalotError):
        _runs(experiment, batch)


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_files_and_the_command_line_admit_what_python_admits(cls: type) -> None:
    """One validator: a value that is refused in a `.py` is refused in JSON and as an override, and the other way."""
    host = _host(cls)
    if not host.path or cls is PerCriterion:
        return
    for field in fields(cls):
        for nasty in NASTY:
            _alike(host, field.name, nasty)


def _alike(host: _Host, field: str, nasty: Any) -> None:
    cls, key = type(host.component), ".".join((*host.path, field))
    if not isinstance(nasty, (bool, int, float, str, type(None), tuple)) or isinstance(nasty, Odd):
        return

    def in_python() -> Any:
        return replace(host.component, **{field: nasty})

    with contextlib.suppress(TypeError, ValueError):  # what JSON itself cannot say
        data = json.loads(json.dumps(to_json(host.component) | {field: nasty}))
        assert _admits(lambda: from_json(data, cls)) == _admits(in_python), (field, nasty)
    if takes_text(field_types(cls)[field]) or not isinstance(nasty, (bool, int, float)) or abs(nasty) > 1e300:
        return  # a text is what was typed, whatever it looks like
    typed = _admits(lambda: apply_overrides(host.experiment, [f"{key}={nasty!r}"]))
    assert typed == _admits(lambda: host.with_component(in_python())), (key, nasty)


def _admits(make: Any) -> bool:
    try:
        make()
    except CalotError:
        return False
    return True


def test_a_component_that_is_no_frozen_dataclass_is_refused() -> None:
    class Loose(Component):
        pass

    with pytest.raises(CalotError, match=r"Experiment\.sampler="):
        replace(SHIPPED[0], sampler=Loose())
