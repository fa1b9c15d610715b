"""A head and a loss term in a user's own file train through the whole line, without a line of calot."""

import csv
from pathlib import Path

import pytest
from run_requests import QUICK, trained
from safetensors.torch import load_file

from calot.config.overrides import apply_overrides
from calot.errors import CalotError
from calot.experiment import scaled
from calot.experiments import find
from calot.progress import Ui
from calot.run.data import OpenData
from calot.run.request import Request
from calot.run.signals import Stopper
from calot.run.trainer import Trainer

OWN = '''"""Does knowing how far raters agree help to judge the criteria?"""

from dataclasses import dataclass, replace

from torch import nn
from torch.nn import functional as F

from calot.experiments import e02_frozen_probe
from calot.models.heads import Head
from calot.train.losses import Loss, Term


@dataclass(frozen=True, kw_only=True)
class Agreement(Head):
    """Reads every token, not the pooled vector."""

    name: str = "agreement"

    def build(self, *, width):
        return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3))

    def read(self, module, features):
        return module(features.tokens.values).mean(dim=1)


@dataclass(frozen=True, kw_only=True)
class AgreementLoss(Loss):
    """Squared error to the raters' mean."""

    @property
    def reaches(self):
        return frozenset({"backbone", "agreement"})

    def __call__(self, outputs, batch):
        return F.mse_loss(outputs.scores["agreement"].sigmoid(), batch.soft)


base = e02_frozen_probe.experiment
experiment = replace(
    base,
    name="agreeing",
    baseline="e02_frozen_probe",
    heads=(Agreement(),),
    loss=base.loss.with_term(Term(name="agreement", loss=AgreementLoss(), weight=0.5)),
)
'''


@pytest.fixture
def own(phantom: Path, tmp_path: Path) -> Request:
    (tmp_path / "agreeing.py").write_text(OWN, encoding="utf-8")
    found = find(str(tmp_path / "agreeing.py"))
    experiment = apply_overrides(scaled(found.experiment, "tiny"), [*QUICK, "loss.terms.agreement.weight=0.25"])
    return Request(
        found=found,
        experiment=experiment,
        scale="tiny",
        data=phantom,
        folder=tmp_path / "run",
        seed=0,
        receipt=False,
    )


def test_it_is_a_parameter_group_of_its_own_name(own: Request) -> None:
    data = OpenData.of(own.data, experiment=own.experiment, ui=Ui())
    run = Trainer.start(own, data=data, ui=Ui(), stopper=Stopper())
    groups = run.groups(own.experiment.train)
    assert [g.name for g in groups] == ["pooling", "head", "agreement"]
    assert sum(p.numel() for p in groups[-1].parameters) == 2 * 128 + 128 * 3 + 3


def test_it_trains_and_its_term_has_columns(own: Request) -> None:
    folder = trained(own)
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    values = [float(row["train_agreement"]) for row in rows]
    assert values[-1] < values[0]
    assert {float(row["share_agreement"]) for row in rows} == {1.0}
    for row in rows:
        terms = float(row["train_criteria"]) + float(row["train_agreement"])  # means over batches, the loss over clips
        assert float(row["train_loss"]) == pytest.approx(terms, rel=0.2)
    tensors = load_file(folder / "checkpoints" / "best" / "model.safetensors")
    assert {k for k in tensors if k.startswith("agreement.")} == {
        f"agreement.{i}.{p}" for i in (0, 1) for p in ("weight", "bias")
    }


def test_without_its_term_it_is_refused_before_any_step(own: Request) -> None:
    with pytest.raises(CalotError, match="no term of loss trains the head 'agreement'"):
        apply_overrides(own.experiment, ["loss=BCE()"])
