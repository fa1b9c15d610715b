"""A run whose frozen backbone's features are cached is the run without, bit for bit; stale features are refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run_requests import digests, requested, trained, trainer

from calot.data.dataset import EpochIndices
from calot.errors import CalotError, Stopped
from calot.progress import Ui
from calot.provenance.checkpoint_files import STATE
from calot.provenance.receipt import Receipt
from calot.run.data import OpenData
from calot.run.features import stage_features
from calot.run.signals import Stopper
from calot.run.trainer import Trainer
from calot.train import features as files

FROZEN, FLIP = "e02_frozen_probe", "augment=[HorizontalFlip()]"
#: The backbone learns in the first stage; the second reads its features.
LEARNT_FIRST = ("train.adaptation=Unfreeze(layers=1)", "then=(Stage(epochs=2, batch=8),)")


@pytest.fixture(scope="module")
def data(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose caches are these tests' own."""
    root = tmp_path_factory.mktemp("features") / "data"
    shutil.copytree(phantom, root, ignore=shutil.ignore_patterns(".calot"))
    return root


class StopInStage(Stopper):
    """Asks for an end in a stage's second step or later, as its last checkpoint shows it."""

    def __init__(self, stage: int, *, folder: Path) -> None:
        super().__init__()
        self.stage, self.folder, self.seen = stage, folder, 0

    def asked(self) -> bool:
        state = self.folder / "checkpoints" / "last" / STATE
        here = self.stage == 0 or (state.exists() and json.loads(state.read_text())["progress"]["stage"] == self.stage)
        self.seen += here
        return self.seen > 2


def caches(data: Path) -> set[Path]:
    return {path for path in (data / ".calot" / "features").glob("*") if path.suffix != ".lock"}


def opened(data: Path, folder: Path, *changes: str, kind: str = "fp32") -> Trainer:
    """A trainer at its first stage, its features made."""
    found = trainer(data, folder, f"compute.features={kind}", *changes, name=FROZEN)
    found.caches = True
    found.fit(found.request.experiment.train)
    return found


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (FROZEN, ()),
        (FROZEN, ("label_smoothing=0.1", "compute.micro_batch=3", "sampler=Balanced()")),
        (FROZEN, ("augment=[]",)),
        ("e08_multitask", ()),  # masks are mirrored with the tokens
        (FROZEN, ("then=(Stage(epochs=2, batch=8, adaptation=Unfreeze(layers=1)),)",)),
        (FROZEN, LEARNT_FIRST),
        # What enters the lowest layer that trains.
        ("e00_finetune", ("compute.micro_batch=3",)),
        ("lora_layers_18_23", (FLIP,)),
        (
            "e11_attention_supervision",
            ("train.adaptation=LoRA(layers=[2,3])", FLIP, "compute.gradient_checkpointing=True"),
        ),
        ("e10b_ten_epochs", ("train.adaptation=Unfreeze(layers=2, final_norm=False)", FLIP, "backbone.drop_path=0.2")),
    ],
)
def test_a_run_is_the_same_bytes_with_and_without(
    data: Path, tmp_path: Path, name: str, changes: tuple[str, ...]
) -> None:
    before = caches(data)
    plain = trained(requested(data, tmp_path / "plain", name, changes=("compute.features=off", *changes)))
    assert caches(data) == before
    quick = trained(requested(data, tmp_path / "quick", name, changes=("compute.features=fp32", *changes)))
    assert digests(plain) == digests(quick)


def test_half_precision_and_int8_change_little_and_something(data: Path, tmp_path: Path) -> None:
    scores = {}
    for kind in ("off", "fp16", "int8"):
        made = opened(data, tmp_path / kind, kind=kind)
        scores[kind] = made.passes.logits(made.model)
    apart = {kind: float(np.abs(scores[kind] - scores["off"]).max()) for kind in ("fp16", "int8")}
    assert 0 < apart["fp16"] < 1e-3
    assert apart["fp16"] < apart["int8"] < 5e-2


@pytest.mark.parametrize(("changes", "stage"), [((), 0), (LEARNT_FIRST, 1)])
def test_a_run_stopped_in_the_middle_continues_to_the_same_bytes(
    data: Path, tmp_path: Path, changes: tuple[str, ...], stage: int
) -> None:
    changes = ("compute.features=fp32", *changes)
    whole = trained(requested(data, tmp_path / "whole", FROZEN, changes=changes))
    asked = requested(data, tmp_path / "stopped", FROZEN, changes=changes)
    with pytest.raises(Stopped):
        trained(asked, stopper=StopInStage(stage, folder=asked.folder))
    assert digests(trained(replace(asked, resume=True))) == digests(whole)


@pytest.mark.slow
@pytest.mark.long
def test_what_the_backbone_learnt_is_seen_though_the_last_stage_read_its_features(data: Path, tmp_path: Path) -> None:
    asked = requested(data, tmp_path / "run", FROZEN, changes=("compute.features=fp32", *LEARNT_FIRST))
    receipt = Receipt.load(trained(replace(asked, receipt=True, despite_receipt=True, results=tmp_path)))
    assert receipt is not None
    assert receipt.check("ablation").status == "passed"
    assert "what the backbone learnt" in receipt.check("ablation").why


def test_features_are_not_read_once_the_backbone_was_written_to(data: Path, tmp_path: Path) -> None:
    made = opened(data, tmp_path / "run")
    with torch.no_grad():
        next(made.model.backbone.parameters()).mul_(1.01)
    with pytest.raises(RuntimeError, match="backbone changed while its cached features were in use"):
        made.passes.logits(made.model)
    with pytest.raises(RuntimeError, match="backbone changed while its cached features were in use"):
        next(iter(made.batches(made.request.experiment.train, epoch=0, start=0)))


def test_each_view_is_the_one_that_the_frames_are_shown_in(data: Path, tmp_path: Path) -> None:
    """Against the real preparation: tokens by the draws are those of the frames as augmentation left them."""
    made = opened(data, tmp_path / "run")
    assert made.features is not None
    batch = made.train_set[EpochIndices(epoch=3, indices=tuple(range(8)), start=8)]
    prepared = made.prepared(batch, epoch=3, start=8).batch
    views = made.features.preparation.drawn(np.arange(8), stage=0, epoch=3, start=8)
    assert set(views.tolist()) == {0, 1}
    with torch.no_grad():
        wanted = made.model.backbone(prepared.video).values
    found = made.features.with_tokens(prepared, epoch=3, start=8).tokens
    assert found is not None
    torch.testing.assert_close(found.values, wanted, atol=1e-4, rtol=1e-4)


def test_other_weights_another_crop_or_other_windows_are_other_features(data: Path, tmp_path: Path) -> None:
    def place(*changes: str) -> Path:
        features = opened(data, tmp_path / "run", *changes).features
        assert features is not None
        return features.train.path

    made = trainer(data, tmp_path / "weights", "compute.features=fp32", name=FROZEN)
    parameter = next(iter(made.model.backbone.parameters())).detach().view(-1).view(torch.int32)
    parameter[0] ^= 1  # the lowest bit of one weight
    made.caches = True
    made.fit(made.request.experiment.train)
    assert made.features is not None
    changes = ("geometry=CentreCrop()", "clip.stride=2", "augment=[]")
    assert place() == place()
    assert len({place(), made.features.train.path, *map(place, changes)}) == 2 + len(changes)


def test_features_that_the_backbone_does_not_give_any_more_are_refused(data: Path, tmp_path: Path) -> None:
    """Whole files, by their digests, of other numbers: as if the backbone's code had changed and nobody noticed."""
    made = opened(data, tmp_path / "run")
    assert made.features is not None
    home, kept = made.features.train.path, made.features.train
    shutil.move(home, tmp_path / "kept")
    wrong = files.FeatureBuild(
        home=home,
        shape=kept.shape,
        facts=kept.facts,
        compute=lambda view, clips: iter([1.01 * kept.read(np.array(clips), views=np.full(len(clips), view)).values]),
    )
    wrong.run(advance=lambda done, total: None)
    try:
        with pytest.raises(CalotError, match=r"features of video .* away from what the backbone gives now"):
            opened(data, tmp_path / "again")
    finally:
        shutil.rmtree(home)
        shutil.move(tmp_path / "kept", home)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("mixing=Mixing(mixup_alpha=0.4)", "mixing shows clips"),
        ("augment=[HorizontalFlip(),Rotation()]", "Rotation shows clips"),
        ("augment=[HorizontalFlip(),HorizontalFlip()]", "several augmentations"),
    ],
)
def test_what_features_cannot_show_is_refused_where_asked_for_and_computed_otherwise(
    data: Path, tmp_path: Path, change: str, why: str
) -> None:
    with pytest.raises(CalotError, match=rf"compute\.features=fp32: {why}"):
        opened(data, tmp_path / "run", change)
    made = trainer(data, tmp_path / "auto", "compute.features=auto", change, name=FROZEN)
    made.caches = True
    assert stage_features(made, made.request.experiment.train) is None


def test_of_itself_it_caches_where_that_spares_passes_through_half_the_layers(data: Path, tmp_path: Path) -> None:
    for name, changes, wanted in (
        (FROZEN, ("train.epochs=6",), True),
        (FROZEN, ("train.epochs=1",), False),
        ("e10a_lora_r16", ("train.epochs=6", FLIP), False),  # adapters from the first layer on
        ("lora_layers_18_23", ("train.epochs=6", FLIP), True),
        ("lora_layers_18_23", ("train.epochs=6",), False),  # it turns clips by any angle
        (FROZEN, ("train.epochs=6", FLIP, "train.adaptation=LoRA(layers=[1,2,3])"), False),
        ("videomae_lora", ("train.epochs=6", FLIP, "train.adaptation=Unfreeze(layers=1)"), False),
    ):
        made = trainer(data, tmp_path / f"{name}{wanted}", "compute.features=auto", *changes, name=name)
        made.caches = True
        made.fit(made.request.experiment.train)
        assert (made.features is not None) is wanted, (name, changes)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("videomae_lora", "part of the backbone trains, and VideoMAE encoder runs all its layers in one go"),
        ("multi_layer_pooling", "outputs of single frozen layers are read"),
    ],
)
def test_what_enters_a_layer_is_not_kept_where_more_than_that_is_needed(
    data: Path, tmp_path: Path, name: str, why: str
) -> None:
    changes = ("compute.features=fp32", FLIP, "train.adaptation=Unfreeze(layers=1)")
    made = trainer(data, tmp_path / "run", *changes, name=name)
    made.caches = True
    with pytest.raises(CalotError, match=rf"compute\.features=fp32: {why}"):
        made.fit(made.request.experiment.train)


def test_where_nothing_is_frozen_below_what_trains_that_is_said_to_who_asked(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = trainer(data, tmp_path / "run", "compute.features=fp32", name="unet_skips")
    made.caches = True
    made.fit(made.request.experiment.train)
    assert made.features is None
    assert "compute.features=fp32: stage 1 trains from its lowest parts on" in capsys.readouterr().err


def test_what_enters_a_layer_is_shared_by_adaptations_above_it_and_by_seeds(data: Path, tmp_path: Path) -> None:
    def place(*changes: str, name: str = "lora_layers_18_23", seed: int = 0) -> Path:
        asked = requested(data, tmp_path / "run", name, changes=("compute.features=fp32", FLIP, *changes), seed=seed)
        made = Trainer.start(
            asked, data=OpenData.of(data, experiment=asked.experiment, ui=Ui()), ui=Ui(), stopper=Stopper()
        )
        made.caches = True
        made.fit(made.request.experiment.train)
        assert made.features is not None
        return made.features.train.path

    top = "train.adaptation=LoRA(layers=[3],rank=4)"
    assert place(top) == place("train.adaptation=Unfreeze(layers=1)")
    assert place(top) != place("train.adaptation=LoRA(layers=[2,3],rank=4)")
    assert place(top) != place("train.adaptation=Frozen()")


def test_the_receipt_sees_that_cached_scores_are_those_of_the_frames(data: Path, tmp_path: Path) -> None:
    request = replace(requested(data, tmp_path / "run", FROZEN, changes=("compute.features=fp32",)), receipt=True)
    receipt = Receipt.load(trained(replace(request, results=tmp_path)))
    assert receipt is not None
    readings = {r.name: r for r in receipt.check("observed").evidence.readings}
    seen = readings["scoring: change of logits by cached tokens"]
    assert seen.met
    assert seen.value < 1e-5  # some processors round a product by how many clips go through at once
    assert readings["model: clips unlike what was prepared"].met
