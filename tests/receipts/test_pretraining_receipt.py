"""The receipt of a pretraining: it holds for the real thing, and faults planted in it are found by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_requests import P01, SMALL_PRETRAINING, requested, trained

from calot.models.backbones import predictor
from calot.pretraining import masks, objective
from calot.pretraining.masks import LONG_RANGE, SHORT_RANGE, Places
from calot.pretraining.objective import MaskedPredictionObjective
from calot.progress import Silent
from calot.provenance.receipt import Receipt
from calot.receipts.pretraining import mask_bands, receipt_of_pretraining
from calot.run.data import OpenData
from calot.run.request import Request

FAST = ("protocol=keyframes", "train.lr=1e-3", "train.adaptation.lr=1e-3", "train.epochs=1", "train.patience=1")


@pytest.fixture(scope="module")
def request_of(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Request:
    changes = (*SMALL_PRETRAINING, *FAST)
    return replace(requested(phantom, tmp_path_factory.mktemp("asked") / "run", P01, changes=changes), receipt=True)


@pytest.fixture(scope="module")
def data(request_of: Request) -> OpenData:
    return OpenData.of(request_of.data, experiment=request_of.experiment, ui=Silent())


def test_a_pretraining_as_it_is_passes_every_check_that_it_has(request_of: Request, tmp_path: Path) -> None:
    receipt = Receipt.load(trained(replace(request_of, folder=tmp_path / "run")))
    assert receipt is not None
    assert receipt.passed, receipt.lines()
    made = {c.name for c in receipt.checks if c.status == "passed"}
    assert made == {"trainable parameters", "gradients", "loss terms", "observed"}
    assert "encoder, predictor" in receipt.check("loss terms").why
    assert not any("positive rate" in str(c.evidence) for c in receipt.checks), "no label is looked at"


def teacher_that_stays(self: MaskedPredictionObjective, model: Any) -> None:
    self.steps += 1


def teacher_that_takes_all(self: MaskedPredictionObjective, model: Any) -> None:
    theirs = dict(model.get_submodule("backbone").named_parameters())
    with torch.no_grad():
        for name, own in self.teacher.named_parameters():
            own.copy_(theirs[name])
    self.steps += 1


def teacher_without_its_last_tensor(self: MaskedPredictionObjective, model: Any) -> None:
    last = list(self.teacher.named_parameters())[-1][1]
    kept = last.clone()
    AFTER_STEP(self, model)
    with torch.no_grad():
        last.copy_(kept)


AFTER_STEP = MaskedPredictionObjective.after_step
TEACHER_OF, DRAWN, AT = objective.teacher_of, masks.as_places, predictor.tokens_at


def training_teacher(backbone: Any) -> Any:
    return TEACHER_OF(backbone).requires_grad_(True)


def one_kind_alone(self: MaskedPredictionObjective, *, epoch: int) -> dict[str, float]:
    return {"short": 1.0, "long": 0.0}


def context_without_gradient(tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return AT(tokens, places).detach()


@pytest.mark.parametrize(
    ("where", "name", "fault", "check", "said"),
    [
        (MaskedPredictionObjective, "after_step", teacher_that_stays, "gradients", "moving average"),
        (MaskedPredictionObjective, "after_step", teacher_that_takes_all, "gradients", "moving average"),
        (MaskedPredictionObjective, "after_step", teacher_without_its_last_tensor, "gradients", "teacher.*bias"),
        (objective, "teacher_of", training_teacher, "trainable parameters", "training but not listed: teacher"),
        (MaskedPredictionObjective, "weights", one_kind_alone, "loss terms", "long sends no gradient anywhere"),
        (predictor, "tokens_at", context_without_gradient, "gradients", "without gradient: backbone"),
    ],
    ids=lambda value: value.__name__ if callable(value) and hasattr(value, "__code__") else "",
)
def test_a_planted_fault_is_found(
    where: Any,
    name: str,
    fault: Callable[..., Any],
    check: str,
    said: str,
    request_of: Request,
    data: OpenData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(where, name, fault)
    found = receipt_of_pretraining(request_of, data=data).check(check)
    assert found.status == "failed", found.why
    assert re.search(said, found.why), found.why


def hidden_in_part(hidden: Any) -> Places:
    places = DRAWN(hidden)
    return replace(places, targets=places.targets[:, :1])


def predicted_but_seen(hidden: Any) -> Places:
    places = DRAWN(hidden)
    return replace(places, context=np.concatenate([places.context, places.targets[:, :1]], axis=1))


@pytest.mark.parametrize(
    ("fault", "said"),
    [(hidden_in_part, "share of tokens predicted"), (predicted_but_seen, "both seen and predicted")],
    ids=["hidden_in_part", "predicted_but_seen"],
)
def test_what_a_run_hides_otherwise_is_observed(
    fault: Callable[..., Any], said: str, request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "as_places", fault)
    receipt = Receipt.load(trained(replace(request_of, folder=tmp_path / "run")))
    assert receipt is not None
    assert receipt.check("observed").status == "failed"
    assert said in receipt.check("observed").why


def test_the_bands_are_those_of_the_smallest_block_and_of_all_blocks_apart() -> None:
    """At 8 x 16 x 16 tokens a long block has 14 x 13 or 12 x 15 to a frame, and so on: at least 0.66 of it."""
    bands = mask_bands((SHORT_RANGE, LONG_RANGE), grid=(8, 16, 16))
    low, high = bands["hidden: share of tokens predicted, long"].around(1)
    assert 0.6 < low < 0.7
    assert high == pytest.approx(2047 / 2048)
    low, high = bands["hidden: share of tokens predicted, short"].around(1)
    assert 0.12 < low < 0.15
    assert high == pytest.approx(2047 / 2048)
