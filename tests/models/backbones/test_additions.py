"""Pruning, skips and a pyramid against plain encoders run by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_vjepa2 import _official
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from calot.experiment import scaled
from calot.experiments import find
from calot.models.adaptation import Frozen, FullFineTune, LoRA, Unfreeze
from calot.models.backbones.additions import Pruning, Pyramid, Skips
from calot.models.backbones.vjepa2 import VJEPA2
from calot.train.stage import Stage

TINY = VJEPA2(weights=None, size=64, frames=8, patch=8, width=128, layers=4, heads=2)


def _clip() -> Tensor:
    return torch.randn(2, 8, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def _built(spec: VJEPA2):
    torch.manual_seed(0)
    return spec.build().eval()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights of six layers, written by transformers."""
    torch.manual_seed(5)
    config = VJEPA2Config(
        crop_size=64, frames_per_clip=8, patch_size=8, hidden_size=128, num_hidden_layers=6, num_attention_heads=2,
        mlp_ratio=4.0, pred_num_hidden_layers=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("weights")
    VJEPA2Model(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("keep", "layers"), [("first", (0, 1, 2)), ("last", (3, 4, 5)), ("spread", (0, 2, 4))])
def test_a_pruned_encoder_is_those_layers_of_the_published_one_run_by_hand(
    published: Path, keep: str, layers: tuple[int, ...]
) -> None:
    spec = replace(TINY, weights=str(published), layers=3, pruning=Pruning(of=6, keep=keep))
    whole = VJEPA2Model.from_pretrained(published).encoder.eval()
    with torch.no_grad():
        hidden = whole.embeddings(_clip())
        for number in layers:
            hidden = whole.layer[number](hidden, None)[0]
        assert torch.allclose(spec.build().eval()(_clip()).values, whole.layernorm(hidden), atol=1e-6)


def test_official_weights_are_pruned_alike(published: Path, tmp_path: Path) -> None:
    """The same weights under the official names, in one file."""
    spec = replace(TINY, layers=3, pruning=Pruning(of=6, keep="spread"))
    file = tmp_path / "encoder.pt"
    torch.save({"encoder": _official(replace(TINY, layers=6, weights=str(published)).build())}, file)
    built = [replace(spec, weights=str(place)).build().eval() for place in (published, file)]
    assert torch.equal(built[0](_clip()).values, built[1](_clip()).values)


@pytest.mark.parametrize(
    "changed", [{"skips": Skips(sources=(0, 1), targets=(3, 2))}, {"pyramid": Pyramid(layers=(0, 2))}]
)
def test_skips_and_pyramid_start_as_the_plain_encoder_exactly(changed: dict[str, object]) -> None:
    assert torch.equal(_built(TINY)(_clip()).values, _built(replace(TINY, **changed))(_clip()).values)


def test_an_open_skip_is_what_is_added_by_hand() -> None:
    backbone = _built(replace(TINY, skips=Skips(sources=(0,), targets=(2,))))
    gate = torch.randn(128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        backbone.fresh[0][0] = gate
        hidden = first = backbone.layers[0](backbone.embedding(_clip()), None)[0]
        hidden = backbone.layers[1](hidden, None)[0]
        hidden = backbone.layers[2](hidden + gate * first, None)[0]
        hidden = backbone.layers[3](hidden, None)[0]
        assert torch.allclose(backbone(_clip()).values, backbone.final_norm(hidden), atol=1e-6)


def test_a_trained_pyramid_reads_every_level() -> None:
    backbone = _built(replace(TINY, pyramid=Pyramid(layers=(0, 2))))
    join = backbone.model.fresh["pyramid"].join
    torch.nn.init.normal_(join.weight, std=0.05)
    backbone(_clip()).values.square().mean().backward()
    first, second = join.weight.grad.split(128, dim=1)
    assert first.norm() > 0
    assert second.norm() > 0
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(
    "adaptation", [Frozen(), Unfreeze(layers=1), LoRA(rank=2, alpha=4), FullFineTune(layer_decay=0.5)]
)
def test_fresh_parts_train_at_the_stages_rate_whatever_the_adaptation(adaptation: object) -> None:
    backbone = _built(replace(TINY, skips=Skips(sources=(0,), targets=(3,)), pyramid=Pyramid(layers=(1,))))
    stage = Stage(adaptation=adaptation, lr=3e-4)
    groups = stage.adapt(backbone)
    (fresh,) = [g for g in groups if g.name == "backbone.fresh"]
    assert fresh.lr == 3e-4
    assert sum(p.numel() for p in fresh.parameters) == 128 + 128 * 128 + 128 + 256 == stage.declared(backbone)["fresh"]
    assert all(p.requires_grad for p in fresh.parameters)
    listed = [id(p) for g in groups for p in g.parameters]
    assert len(listed) == len(set(listed)) == sum(p.requires_grad for p in backbone.parameters())


def test_a_switch_gives_the_plain_encoder_and_is_closed_again() -> None:
    backbone = _built(replace(TINY, skips=Skips(sources=(0,), targets=(3,))))
    with torch.no_grad():
        backbone.fresh[0].fill_(0.5)
    changed, plain = backbone(_clip()).values, _built(TINY)(_clip()).values
    with backbone.spec.switches(backbone.model)["skips"]():
        assert torch.equal(backbone(_clip()).values, plain)
    assert torch.equal(backbone(_clip()).values, changed)


def test_at_tiny_scale_layers_keep_their_place_in_the_depth() -> None:
    tiny = {n: scaled(find(n).experiment, "tiny").backbone for n in ("layers_12", "unet_skips", "feature_pyramid")}
    assert (tiny["layers_12"].layers, tiny["layers_12"].pruning.kept(2)) == (2, (0, 2))
    assert tiny["unet_skips"].skips.pairs == ((0, 3), (1, 3))
    assert tiny["feature_pyramid"].pyramid.layers == (1, 2)
    assert scaled(find("e15_vjepa_window").experiment, "tiny").backbone.windows.size == 4


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Skips(sources=(3,), targets=(1,)), "cannot reach back"),
        (lambda: Skips(sources=(0, 1), targets=(3,)), "its own target"),
        (lambda: replace(TINY, skips=Skips(sources=(0,), targets=(4,))), "reach layer 4"),
        (lambda: replace(TINY, pyramid=Pyramid(layers=(3,))), "reach layer 4"),
        (lambda: replace(TINY, layers=5, pruning=Pruning(of=4)), "more than the 4"),
    ],
)
def test_parts_that_do_not_fit_are_refused(made: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()
