"""V-JEPA 2.1's encoder is its formulas, written out here once more and slowly, and its authors' own code where it lies.

`CALOT_VJEPA21_SOURCE` names a checkout of facebookresearch/vjepa2; the check against it is skipped without one.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from calot.errors import CalotError
from calot.models.adaptation import LoRA
from calot.models.backbones.additions import WindowAttention
from calot.models.backbones.vjepa21 import LEVELS, VJEPA21, VJEPA21Network
from calot.models.classifier import Classifier
from calot.models.heads import MLPHead
from calot.models.layer_pooling import LayerPooling
from calot.models.pooling import MeanPooling
from calot.types import Batch

#: 12 layers, for the four norms of ViT-B; heads of 26, of which 24 turn; patches of 16, as published.
WIDTH, DEPTH, HEADS, PATCH = 52, 12, 2, 16
SPEC = VJEPA21(weights=None, size=48, frames=4, width=WIDTH, layers=DEPTH, heads=HEADS, patch=PATCH)

#: Frames, height and width: square and not, smaller and larger than the trained grid.
SHAPES = [(4, 48, 48), (2, 32, 80), (6, 64, 32), (2, 288, 320)]


def official(*, depth: int = DEPTH, width: int = WIDTH, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the official files' names, training wrappers and all; attention is far from even."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int, std: float = 0.1) -> Tensor:
        return std * torch.randn(*shape, generator=generator)

    made = {"img_mod_embed": drawn(1, 1, width), "video_mod_embed": drawn(1, 1, width)}
    for name, frames in (("patch_embed", 2), ("patch_embed_img", 1)):
        made[f"{name}.proj.weight"] = drawn(width, 3, frames, PATCH, PATCH, std=0.05)
        made[f"{name}.proj.bias"] = drawn(width)
    for i in range(depth):
        linears = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        linears |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
        for name, shape in linears.items():
            made[f"blocks.{i}.{name}.weight"] = drawn(*shape, std=0.5 if name == "attn.qkv" else 0.1)
            made[f"blocks.{i}.{name}.bias"] = drawn(shape[0])
        for name in ("norm1", "norm2"):
            made[f"blocks.{i}.{name}.weight"], made[f"blocks.{i}.{name}.bias"] = 1 + drawn(width), drawn(width)
    for i in range(4):
        made[f"norms_block.{i}.weight"], made[f"norms_block.{i}.bias"] = 1 + drawn(width), drawn(width)
    return {f"module.backbone.{name}": tensor for name, tensor in made.items()}


def saved(folder: Path, *, key: str = "ema_encoder") -> str:
    torch.save({key: official(), "predictor": {"module.backbone.mask_tokens.0": torch.zeros(1)}}, folder / "vitb.pt")
    return str(folder / "vitb.pt")


def turned(x: Tensor, *, place: Tensor) -> Tensor:
    """Consecutive pairs as complex numbers, pair i of m elements times exp(i place 10000^(-2 i / m))."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    speed = torch.tensor([10000 ** (-2 * i / x.shape[-1]) for i in range(pairs.shape[-1])], dtype=torch.float64)
    angle = place[:, None].double() * speed
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def attended(q: Tensor, k: Tensor, v: Tensor, *, places: list[Tensor]) -> Tensor:
    """One head of one clip: thirds of its elements turn by time, row and column; softmax written out."""
    axis = 2 * (q.shape[-1] // 3 // 2)
    for number, place in enumerate(places):
        part = slice(number * axis, (number + 1) * axis)
        q, k = q.clone(), k.clone()
        q[:, part], k[:, part] = turned(q[:, part], place=place), turned(k[:, part], place=place)
    weights = (q @ k.T / math.sqrt(q.shape[-1])).exp()
    return weights / weights.sum(dim=1, keepdim=True) @ v


def norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    apart = x - x.mean(dim=-1, keepdim=True)
    return (
        apart / (apart.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * weights[f"{name}.weight"]
        + weights[f"{name}.bias"]
    )


def written_out(weights: dict[str, Tensor], video: Tensor) -> list[Tensor]:
    """The four normed outputs, from the formulas, clip by clip and head by head."""
    weights = {name.replace("module.backbone.", ""): tensor.double() for name, tensor in weights.items()}
    frames, height, width = video.shape[1], video.shape[3] // PATCH, video.shape[4] // PATCH
    kind, tube = ("img", 1) if frames == 1 else ("video", 2)
    embed = "patch_embed_img" if frames == 1 else "patch_embed"
    grid = torch.cartesian_prod(*(torch.arange(n) for n in (frames // tube, height, width)))
    places = [grid[:, 0].float(), *(grid[:, a].float() * 15 / (n - 1) for a, n in ((1, height), (2, width)))]
    found: list[list[Tensor]] = []
    for clip in video.double():
        tubes = (
            clip.reshape(-1, tube, 3, height, PATCH, width, PATCH).permute(0, 3, 5, 2, 1, 4, 6).flatten(3).flatten(0, 2)
        )
        kernel = weights[f"{embed}.proj.weight"].flatten(1)
        x = tubes @ kernel.T + weights[f"{embed}.proj.bias"] + weights[f"{kind}_mod_embed"][0]
        outputs = []
        for i in range(DEPTH):
            inside = norm(x, weights, f"blocks.{i}.norm1")
            qkv = inside @ weights[f"blocks.{i}.attn.qkv.weight"].T + weights[f"blocks.{i}.attn.qkv.bias"]
            heads = [[part.chunk(HEADS, dim=1)[h] for part in qkv.chunk(3, dim=1)] for h in range(HEADS)]
            mixed = torch.cat([attended(q, k, v, places=places) for q, k, v in heads], dim=1)
            x = x + mixed @ weights[f"blocks.{i}.attn.proj.weight"].T + weights[f"blocks.{i}.attn.proj.bias"]
            inside = norm(x, weights, f"blocks.{i}.norm2")
            inside = inside @ weights[f"blocks.{i}.mlp.fc1.weight"].T + weights[f"blocks.{i}.mlp.fc1.bias"]
            inside = inside * 0.5 * (1 + torch.erf(inside / math.sqrt(2)))
            x = x + inside @ weights[f"blocks.{i}.mlp.fc2.weight"].T + weights[f"blocks.{i}.mlp.fc2.bias"]
            if i in LEVELS[DEPTH]:
                outputs.append(norm(x, weights, f"norms_block.{LEVELS[DEPTH].index(i)}"))
        found.append(outputs)
    return [torch.stack(level) for level in zip(*found, strict=True)]


def clip(shape: tuple[int, int, int], *, count: int = 2) -> Tensor:
    frames, height, width = shape
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, frames, 3, height, width, generator=generator, dtype=torch.float64)


def network(folder: Path, spec: VJEPA21) -> VJEPA21Network:
    """As read from the official file, in float64."""
    with_weights = replace(spec, weights=saved(folder))
    return with_weights.build().double().eval().model  # type: ignore[no-any-return]


@pytest.mark.parametrize("shape", [*SHAPES, (1, 48, 80)])
def test_it_is_its_formulas_at_any_size_and_not_square(shape: tuple[int, int, int], tmp_path: Path) -> None:
    image = {"frames": 1, "tubelet": 1} if shape[0] == 1 else {}
    model, video = network(tmp_path, replace(SPEC, level_norms=True, **image)), clip(shape)
    with torch.no_grad():
        found, wanted = model.outputs(video), written_out(official(), video)
        assert torch.equal(model(video), found[-1])
    assert len(found) == 4
    for level, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(level, other, atol=1e-10, rtol=1e-10)


def _own_code(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The authors' module. Its only need of timm is a drop path, which does nothing in evaluation mode."""
    monkeypatch.syspath_prepend(os.environ["CALOT_VJEPA21_SOURCE"])
    if importlib.util.find_spec("timm") is None:
        layers = types.ModuleType("timm.models.layers")
        layers.drop_path = lambda x, *_: x  # type: ignore[attr-defined]
        for name, module in (("timm", types.ModuleType("timm")), ("timm.models", types.ModuleType("timm.models"))):
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(sys.modules, "timm.models.layers", layers)
    return importlib.import_module("app.vjepa_2_1.models.vision_transformer")


@pytest.mark.skipif("CALOT_VJEPA21_SOURCE" not in os.environ, reason="CALOT_VJEPA21_SOURCE names no checkout")
@pytest.mark.parametrize("shape", [*SHAPES, (1, 48, 80)])
def test_it_is_the_published_code_at_any_size_and_not_square(
    shape: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = _own_code(monkeypatch).VisionTransformer(
        img_size=(384, 384),
        num_frames=64,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6),
        use_rope=True,
        img_temporal_dim_size=1,
        interpolate_rope=True,
    )
    theirs.load_state_dict({k.replace("module.backbone.", ""): v for k, v in official().items()}, strict=True)
    theirs = theirs.double().eval()
    image = {"frames": 1, "tubelet": 1} if shape[0] == 1 else {}
    model, video = network(tmp_path, replace(SPEC, level_norms=True, **image)), clip(shape)
    with torch.no_grad():
        found, wanted = torch.cat(model.outputs(video), dim=2), theirs(video.transpose(1, 2), training=True)
        last = theirs(video.transpose(1, 2))
    print(f"{shape}: largest difference {float((found - wanted).abs().max()):.1e}")
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=0)
    torch.testing.assert_close(model(video), last, atol=1e-10, rtol=0)
    assert wanted.abs().mean() > 0.3


def test_its_positions_are_not_v_jepa_2s(tmp_path: Path) -> None:
    """The formula test would not see positions if attention hardly hung on them: here it does."""
    video = clip((4, 48, 48))
    plain = written_out(official(), video)[-1]
    model = network(tmp_path, SPEC)
    still = torch.ones(27 // 3 * 2, 26), torch.zeros(18, 26)
    model.turns = lambda grid, like: tuple(x.double() for x in still)  # type: ignore[method-assign]
    with torch.no_grad():
        assert (model(video) - plain).abs().max() > 1e-2


@pytest.mark.parametrize("key", ["ema_encoder", "target_encoder", "encoder", None])
def test_the_official_layout_is_read_from_files_and_folders(tmp_path: Path, key: str | None) -> None:
    state = official()
    torch.save(state if key is None else {key: state}, tmp_path / "vitb.pt")
    tokens = []
    for place in (tmp_path / "vitb.pt", tmp_path):
        backbone = replace(SPEC, weights=str(place)).build()
        assert backbone.read_from is not None
        assert (backbone.read_from.key, backbone.read_from.files) == (key, (tmp_path / "vitb.pt",))
        tokens.append(backbone.double().eval()(clip((4, 48, 48))).values)
    assert torch.equal(*tokens)
    wanted = written_out(state, clip((4, 48, 48)))[-1]
    torch.testing.assert_close(tokens[0], wanted, atol=1e-10, rtol=1e-10)


def test_weights_of_another_size_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(CalotError, match=r"vitb\.pt: has unknown \d+ encoder tensors, first layer\.10\."):
        replace(SPEC, weights=path, layers=10).build()
    with pytest.raises(CalotError, match=r"vitb\.pt: has another shape for \d+ encoder tensors"):
        replace(SPEC, weights=path, width=56, heads=2).build()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"frames": 1}, "tubes of one frame are for a single image"),
        ({"tubelet": 1}, "tubes of one frame are for a single image"),
        ({"size": 16}, "need at least two by two"),
        ({"layers": 7, "level_norms": True}, "published for 12, 24, 40, 48 layers, not 7"),
    ],
)
def test_what_its_weights_cannot_be_is_refused(change: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        replace(SPEC, **change)


def test_a_pooling_of_several_layers_reads_them_through_their_norms(tmp_path: Path) -> None:
    spec = replace(SPEC, weights=saved(tmp_path), level_norms=True)
    layers = LEVELS[DEPTH][:-1]
    model = Classifier(
        backbone=spec.build(), pooling=LayerPooling(layers=layers, each=MeanPooling()), heads=[MLPHead(hidden=8)]
    ).eval()
    model, video = model.double(), clip((4, 48, 48))
    with torch.no_grad():
        tokens = model.encode(Batch.unlabelled(video))
    wanted = written_out(official(), video)
    assert tokens.levels is not None
    for number, level in zip(layers, wanted, strict=False):
        torch.testing.assert_close(tokens.levels[number], level, atol=1e-10, rtol=1e-10)


def test_windows_and_lora_act_in_it_as_in_v_jepa_2(tmp_path: Path) -> None:
    """A window of the whole frame and all bins is global attention; a smaller one is not; an adapter starts neutral."""
    plain = replace(SPEC, weights=saved(tmp_path), size=64).build().eval()
    video = clip((4, 64, 64)).float()
    with torch.no_grad():
        wanted = plain(video).values
        for size, same in ((4, True), (2, False)):
            spec = replace(plain.spec, windows=WindowAttention(size=size, all_bins=True))
            found = spec.build().eval()(video).values
            assert torch.allclose(found, wanted, atol=1e-4) == same
        LoRA(rank=2, targets=("q", "k", "v", "proj")).apply(plain)
        assert torch.equal(plain(video).values, wanted)


@pytest.mark.parametrize(
    ("layers", "width", "heads", "ratio", "hidden"),
    [(12, 768, 12, 4.0, 3072), (24, 1024, 16, 4.0, 4096), (40, 1408, 22, 48 / 11, 6144), (48, 1664, 26, 64 / 13, 8192)],
    ids=["B", "L", "g", "G"],
)
def test_every_published_size_can_be_built(layers: int, width: int, heads: int, ratio: float, hidden: int) -> None:
    spec = VJEPA21(weights=None, layers=layers, width=width, heads=heads, mlp_ratio=ratio, level_norms=True)
    with torch.device("meta"):
        backbone = spec.build_without_weights()
    assert (spec.hidden, spec.grid, len(backbone.layers)) == (hidden, (8, 16, 16), layers)
    assert spec.width // spec.heads == 64
    names = {k for k in backbone.model.encoder.state_dict() if k.startswith("level_norms.")}
    assert {int(k.split(".")[1]) for k in names} == set(LEVELS[layers][:-1])
