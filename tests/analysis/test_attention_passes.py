"""Where an encoder looks, read off whole models on small clips whose masks and black surround are planted."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from accelerate import Accelerator
from endoscapes_folder import ALL, NO, Folder, scene
from PIL import Image
from torch import Tensor, nn

from calot.analysis.attention import AttentionPass, clips_over_videos, read_attention
from calot.analysis.attention_changes import attention_changes, merged_weight, weight_changes
from calot.analysis.token_places import class_weights
from calot.data.clip_rules import ClipRule
from calot.data.clips import AllFrames, CentreLabel, build_clips
from calot.data.dataset import ClipDataset
from calot.data.geometry import Squash
from calot.data.masks import open_masks
from calot.data.readers import open_folder
from calot.data.store import open_store
from calot.errors import CalotError
from calot.models.adaptation import LoRA, merge_adapter
from calot.models.attention import biased
from calot.models.backbones.additions import ParallelWindows, WindowAttention
from calot.models.backbones.per_frame import DINOv3PerFrame
from calot.models.backbones.protocol import BackboneSpec
from calot.models.backbones.swin import SwinPerFrame
from calot.models.backbones.videomae import VideoMAE
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.backbones.window_vit import WindowViT
from calot.models.classifier import Classifier
from calot.models.heads import LinearHead
from calot.models.pooling import MeanPooling
from calot.statistics.attention import RUN, SHUFFLED, UNIFORM, summarise_attention
from calot.types import MASK_PIXELS

SIZE, FRAMES, SIDE = 64, 8, 8
VIDEOS = (121, 122, 123, 124)
LAYERS, HEADS = 2, 2
TINY = {"weights": None, "size": SIZE, "frames": FRAMES, "patch": 8, "width": 128, "layers": LAYERS, "heads": HEADS}
VJEPA = VJEPA2(**TINY)
FAMILIES: list[BackboneSpec] = [
    VJEPA,
    VJEPA2(**TINY, windows=WindowAttention(size=4, shifted=True)),
    VJEPA2(**TINY, windows=ParallelWindows(size=4)),
    DINOv3PerFrame(**TINY),
    VideoMAE(**TINY),
    WindowViT(**TINY, window=4),
]
#: Pixels of the planted mask, by the class on disk: rows and columns.
PLANTED = {4: (slice(8, 16), slice(16, 32)), 5: (slice(32, 64), slice(40, 60)), 6: (slice(0, 8), slice(56, 64))}
NAMES = {4: "cystic_duct", 5: "gallbladder", 6: "tool"}


def _mask() -> np.ndarray:
    ids = np.zeros((SIZE, SIZE), dtype=np.uint8)
    for number, (rows, columns) in PLANTED.items():
        ids[rows, columns] = number
    ids[48:64, 0:16] = 255
    return ids


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ClipDataset:
    """Four validation videos of eight frames; the first two columns of tokens are black in all, and the first three
    videos have a mask on every frame."""
    made = Folder(root=tmp_path_factory.mktemp("attention") / "endoscapes")
    for number in VIDEOS:
        frames = list(range(1000 * number, 1000 * number + 25 * FRAMES, 25))
        made.video(number, split="val", frames=frames, votes={frames[-1]: ALL, frames[0]: NO})
    root = made.write()
    for folder in ("val", "semseg"):
        (root / folder).mkdir()
    for number in VIDEOS:
        for step in range(FRAMES):
            frame = 1000 * number + 25 * step
            picture = scene(number, frame, height=SIZE, width=SIZE) // 2 + 60
            picture[:, :16] = 0
            Image.fromarray(picture).save(root / "val" / f"{number}_{frame}.jpg", quality=95)
            if number != VIDEOS[-1]:
                Image.fromarray(_mask()).save(root / "semseg" / f"{number}_{frame}.png")
    manifest = open_folder(root).manifest
    rules = {"protocol": AllFrames(), "rule": ClipRule(length=FRAMES), "label_rule": CentreLabel()}
    table = build_clips(manifest, split="val", training=False, **rules)
    table = table.select(np.flatnonzero(table.frame_numbers % 1000 % 100 == 50))  # two clips of each video
    part = manifest.split("val")
    how = {"geometry": Squash(), "labelled_place": FRAMES // 2, "nearest_only": True}
    codes = {n: n for n in (0, 1, 2, 3, 4, 5, 6, 255)}
    masks = open_masks(root, table, part, size=SIDE * MASK_PIXELS, codes=codes, **how)
    return ClipDataset(table, open_store(root, part, geometry=Squash(), size=SIZE), masks)


def _model(spec: BackboneSpec, *, gain: float = 0.1, seed: int = 0) -> Classifier:
    """Queries and keys sharper than new ones, whose attention is uniform to three digits."""
    torch.manual_seed(seed)
    model = Classifier(backbone=spec.build(), pooling=MeanPooling(), heads=[LinearHead()])
    for number in range(LAYERS):
        for role in ("q", "k"):
            nn.init.normal_(model.backbone.linear(number, role).weight, std=gain)
    return model.eval()


def _pass(model: Classifier, dataset: ClipDataset, *, variant: str = RUN) -> AttentionPass:
    return AttentionPass(model=model, dataset=dataset, accelerator=Accelerator(cpu=True), variant=variant)


def _clips(dataset: ClipDataset) -> Tensor:
    return torch.from_numpy(dataset.store.read(dataset.table.frames))


def _of(heads: pl.DataFrame, *, variant: str = RUN) -> pl.DataFrame:
    return heads.filter(pl.col("variant") == variant)


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda spec: f"{spec.name} {getattr(spec, 'windows', None)}")
def test_every_family_that_has_attention_gives_a_row_per_clip_layer_and_head(
    dataset: ClipDataset, spec: BackboneSpec
) -> None:
    read = read_attention(_pass(_model(spec), dataset))
    own, uniform = _of(read.heads), _of(read.heads, variant=UNIFORM)
    assert len(own) == len(dataset) * LAYERS * HEADS
    assert len(uniform) == len(dataset) * LAYERS
    assert own["entropy"].max() < 1.0
    assert own["entropy"].mean() < 0.99, "or the queries and keys are not the model's"
    np.testing.assert_allclose(uniform["entropy"].to_numpy(), 1.0, atol=1e-6)
    assert (own["gap_nats"] >= -1e-9).all()
    assert read.maps.shape == (len(dataset), LAYERS, *spec.grid)
    whole = read.maps.sum(axis=(2, 3, 4))
    assert whole.max() < 1.0 + 1e-5
    assert whole.min() > (0.8 if spec.extra_tokens else 1.0 - 1e-5), "a map over heads is their mean"
    assert ("entropy_before_rotary" in own.columns) == spec.rotary


def test_a_family_whose_layers_attend_on_different_grids_gives_a_row_per_head_that_a_layer_has(
    dataset: ClipDataset,
) -> None:
    spec = SwinPerFrame(frames=FRAMES).at_tiny_scale()
    torch.manual_seed(0)
    model = Classifier(backbone=spec.build(), pooling=MeanPooling(), heads=[LinearHead()]).eval()
    read = read_attention(_pass(model, dataset))
    own = _of(read.heads)
    heads = own.group_by("layer").agg(pl.col("head").n_unique()).sort("layer")["head"].to_list()
    assert heads == [1, 1, 1, 1, 2, 2, 4, 4]
    assert len(own) == len(dataset) * sum(heads)
    assert read.maps.shape == (len(dataset), spec.layers, *spec.grid)
    np.testing.assert_allclose(read.maps.sum(axis=(2, 3, 4)), 1.0, atol=1e-5)
    apart = attention_changes(_pass(model, dataset), _pass(model, dataset))
    assert apart["apart"].max() == 0.0
    assert apart["cka"].min() > 0.99
    masked = own.drop_nulls("mass_gallbladder")
    assert masked["area_gallbladder"].min() == pytest.approx(masked["area_gallbladder"].max(), abs=1e-9)


@torch.no_grad()
def _naive_entropy(model: Classifier, clips: Tensor, *, layer: int) -> Tensor:
    """From the layer's input and the weights as they act, in float64, its rotary embedding by transformers' own."""
    seen: list[Tensor] = []
    block = model.backbone.layers[layer]
    handle = block.norm1.register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        model.backbone(clips)
    handle.remove()
    attention, hidden = block.attention, seen[0].double()
    parts = []
    for role in ("q", "k"):
        linear = model.backbone.linear(layer, role)
        bias = getattr(linear, "base_layer", linear).bias
        out = hidden @ merged_weight(linear).double().mT + bias.double()
        parts.append(out.reshape(*out.shape[:2], HEADS, -1).transpose(1, 2))
    places = attention.get_position_ids(hidden)
    query, key = (attention.apply_rotary_embeddings(x, places) for x in parts)
    shares = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1)
    return -(shares * shares.log()).sum(-1).mean(-1) / math.log(shares.shape[-1])


@pytest.mark.parametrize("gain", [0.02, 0.1, 0.3])
def test_the_true_figure_of_a_model_is_that_of_its_whole_map_in_float64(dataset: ClipDataset, gain: float) -> None:
    model = _model(VJEPA, gain=gain)
    own = _of(read_attention(_pass(model, dataset)).heads).sort("layer", maintain_order=True)
    found = own["entropy"].to_numpy().reshape(LAYERS, len(dataset), HEADS)
    for layer in range(LAYERS):
        expected = _naive_entropy(model, _clips(dataset), layer=layer).numpy()
        np.testing.assert_allclose(found[layer], expected, atol=1e-5)


def test_an_adapter_that_sharpens_queries_and_keys_moves_the_true_figure(dataset: ClipDataset) -> None:
    """Reading the linears under the adapter would see nothing of it."""
    plain = _model(VJEPA, gain=0.02)
    adapted = copy.deepcopy(plain)
    LoRA(rank=8, targets=("q", "k")).apply(adapted.backbone)
    for name, weight in adapted.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(3))
    adapted.eval()
    merged = copy.deepcopy(adapted)
    merge_adapter(merged.backbone)
    figures = {}
    for name, model in {"plain": plain, "adapted": adapted, "merged": merged}.items():
        own = _of(read_attention(_pass(model, dataset)).heads)
        figures[name] = own.select("entropy", "entropy_before_rotary", "averaged_entropy").to_numpy()
    assert figures["plain"][:, :2].min() > 0.99
    assert figures["adapted"][:, :2].max() < 0.9
    np.testing.assert_allclose(figures["adapted"], figures["merged"], atol=1e-4)


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda spec: f"{spec.name} {getattr(spec, 'windows', None)}")
def test_a_planted_cue_has_the_mass_and_its_pixels_the_area(dataset: ClipDataset, spec: BackboneSpec) -> None:
    """Every score towards the duct's tokens gains 12 nats: nearly all attention is there wherever it can be seen."""
    model, bins = _model(spec, gain=0.02), spec.grid[0]
    places = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    places[1, 2:4] = True
    bias = torch.where(places.flatten().repeat(bins), 12.0, 0.0)[None, None, None]
    with biased(model.backbone, bias=bias):
        own = _of(read_attention(_pass(model, dataset)).heads).drop_nulls("mass_cystic_duct")
    assert set(own["video"]) == {str(v) for v in VIDEOS[:-1]}, "the last video has no mask"
    if "windows" in spec.describe() and "beside" not in spec.describe():  # one window of four holds the duct
        assert own["mass_cystic_duct"].mean() == pytest.approx(1 / 4, abs=0.07)
    else:
        assert own["mass_cystic_duct"].min() > 0.95
    for number, (rows, columns) in PLANTED.items():
        pixels = (rows.stop - rows.start) * (columns.stop - columns.start)
        areas = own[f"area_{NAMES[number]}"]
        assert areas.min() == pytest.approx(pixels / SIZE**2, abs=1e-9) == areas.max()
    assert own["area_border"].min() == pytest.approx(2 / SIDE) == own["area_border"].max()
    assert own["area_cystic_plate"].max() == 0.0


def test_no_other_set_has_the_mass_of_a_cue(dataset: ClipDataset) -> None:
    for places, name in (((slice(0, 1), slice(7, 8)), "tool"), ((slice(0, 8), slice(0, 2)), "border")):
        where = torch.zeros(SIDE, SIDE)
        where[places] = 12.0
        model = _model(VJEPA, gain=0.02)
        with biased(model.backbone, bias=where.flatten().repeat(4)[None, None, None]):
            own = _of(read_attention(_pass(model, dataset)).heads).drop_nulls("mass_tool")
        assert own[f"mass_{name}"].min() > 0.95
        others = [n for n in ("cystic_duct", "gallbladder", "tool", "border") if n != name]
        assert max(own[f"mass_{n}"].max() for n in others) < 0.05


def test_a_class_weighs_a_token_by_its_pixels() -> None:
    values = torch.zeros(1, 2 * MASK_PIXELS, 2 * MASK_PIXELS, dtype=torch.uint8)
    values[0, 0, 0] = 5
    values[0, :, MASK_PIXELS:] = 255
    weights = class_weights(values, rows=2, columns=2)
    assert weights["gallbladder"].tolist() == [[1 / MASK_PIXELS**2, 0, 0, 0]]
    assert float(weights["tool"].sum()) == 0.0


def test_attention_with_shuffled_frames_is_the_models_on_other_clips(dataset: ClipDataset) -> None:
    """A model that sees one frame at a time cannot tell: the same figures; one that sees all does."""
    for spec, moves in ((DINOv3PerFrame(**TINY), False), (VJEPA, True)):
        model = _model(spec)
        plain = _of(read_attention(_pass(model, dataset)).heads)
        shuffled = read_attention(_pass(model, dataset, variant=SHUFFLED)).heads
        assert set(shuffled["variant"]) == {SHUFFLED}
        apart = np.abs(plain["entropy"].to_numpy() - shuffled["entropy"].to_numpy()).max()
        assert (apart > 1e-4) == moves, f"{spec.name}: {apart:.2g}"


def test_shuffling_puts_every_clip_into_another_order_of_the_same_frames(dataset: ClipDataset) -> None:
    one = _pass(_model(VJEPA), dataset, variant=SHUFFLED)
    for _ in range(2):  # the same order every time
        videos = torch.cat([batch.video for batch in one.clip_batches()])
        for clip, before in zip(videos, _clips(dataset), strict=True):
            assert not torch.equal(clip, before)
            assert sorted(map(_checksum, clip)) == sorted(map(_checksum, before))


def _checksum(frame: Tensor) -> int:
    return int((frame.long() * torch.arange(frame.numel()).reshape(frame.shape)).sum())


def test_a_model_that_diverged_is_refused_with_layer_and_clip(dataset: ClipDataset) -> None:
    model = _model(VJEPA)
    with torch.no_grad():
        model.backbone.linear(1, "k").weight[0, 0] = math.nan
    with pytest.raises(CalotError, match=r"layer 1, video 121 frame 121050 \(run\): its queries or keys"):
        read_attention(_pass(model, dataset))


def test_distances_in_seconds_follow_the_frames_numbers(dataset: ClipDataset) -> None:
    own = _of(read_attention(_pass(_model(VJEPA), dataset)).heads, variant=UNIFORM)
    table = dataset.table
    for clip in range(len(dataset)):
        seconds = table.clip_frame_numbers[clip].reshape(4, 2).mean(axis=1) / 25.0
        expected = np.abs(seconds[:, None] - seconds[None]).mean()
        where = (pl.col("video") == str(table.videos[clip])) & (pl.col("frame") == int(table.frame_numbers[clip]))
        assert own.filter(where)["distance_seconds"].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert own["distance_bins"].to_numpy() == pytest.approx(15 / 12, abs=1e-6)
    assert own["distance_pixels"].to_numpy() == pytest.approx(8 * own["distance_tokens"].to_numpy())


def test_the_studys_figure_is_the_entropy_of_the_mean_over_heads_queries_and_clips(dataset: ClipDataset) -> None:
    model = _model(VJEPA, gain=0.3)
    read = read_attention(_pass(model, dataset))
    summary = summarise_attention(read.heads, read.received)
    for layer in range(LAYERS):
        mean = read.maps[:, layer].reshape(len(dataset), -1).astype(np.float64).mean(axis=0)
        expected = -(mean * np.log(mean)).sum() / math.log(len(mean))
        row = summary.filter((pl.col("statistic") == "study_entropy") & (pl.col("layer") == layer))
        assert row.filter(pl.col("variant") == RUN)["value"].item() == pytest.approx(expected, abs=1e-6)
        true = summary.filter((pl.col("statistic") == "entropy") & (pl.col("layer") == layer))
        assert true.filter((pl.col("variant") == RUN) & pl.col("head").is_null())["value"].item() < expected


def test_a_model_against_itself_changes_nothing(dataset: ClipDataset) -> None:
    model = _model(VJEPA)
    one = _pass(model, dataset)
    found = attention_changes(one, _pass(copy.deepcopy(model), dataset, variant="against"))
    assert len(found) == len(dataset) * LAYERS * HEADS
    assert found["apart"].max() == 0.0
    np.testing.assert_allclose(found["cka"].to_numpy(), 1.0, atol=1e-9)
    assert weight_changes(model.backbone, copy.deepcopy(model).backbone)["relative"].max() == 0.0


def test_an_adapters_update_is_its_merged_difference_and_what_it_leaves_alone_is_zero(dataset: ClipDataset) -> None:
    plain = _model(VJEPA)
    adapted = copy.deepcopy(plain)
    LoRA(rank=4, alpha=8, targets=("q", "fc2")).apply(adapted.backbone)
    for name, weight in adapted.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(3))
    found = weight_changes(adapted.train().backbone, plain.backbone)
    for row in found.to_dicts():
        linear = adapted.backbone.linear(row["layer"], row["target"])
        if row["target"] in ("q", "fc2"):
            a, b = (dict(linear.named_parameters())[f"lora_{x}.default.weight"] for x in "AB")
            expected = float((2.0 * b @ a).norm() / plain.backbone.linear(row["layer"], row["target"]).weight.norm())
            assert row["relative"] == pytest.approx(expected, rel=1e-4)
            assert row["relative"] > 0.01
        else:
            assert row["relative"] == 0.0
    changes = attention_changes(_pass(adapted, dataset), _pass(plain, dataset))
    assert changes["apart"].min() > 1e-4
    assert changes["cka"].max() < 1.0


def test_runs_of_other_shapes_are_not_compared(dataset: ClipDataset) -> None:
    one = _pass(_model(VJEPA), dataset)
    with pytest.raises(CalotError, match="its family is VideoMAE encoder, and this run's V-JEPA 2 encoder"):
        attention_changes(one, _pass(_model(VideoMAE(**TINY)), dataset))


def test_windows_against_global_attention_are_compared_over_the_whole_clip(dataset: ClipDataset) -> None:
    found = attention_changes(_pass(_model(FAMILIES[1]), dataset), _pass(_model(VJEPA), dataset))
    assert found["apart"].min() > 0.9, "15 of 16 windows are out of sight"


def test_clips_go_evenly_over_videos_and_masked_ones_first(dataset: ClipDataset) -> None:
    table, masked = dataset.table, dataset.masks.which[:, 0] >= 0  # type: ignore[union-attr]
    for count, per_video in ((3, [1, 1, 1, 0]), (4, [1, 1, 1, 1]), (7, [2, 2, 2, 1]), (99, [2, 2, 2, 2])):
        chosen = clips_over_videos(table, masked=masked, count=count)
        assert [int((table.videos[chosen] == str(v)).sum()) for v in VIDEOS] == per_video
        assert (np.diff(chosen) > 0).all()
        again: Callable[[], np.ndarray] = lambda count=count: clips_over_videos(table, masked=masked, count=count)  # noqa: E731
        assert again().tolist() == chosen.tolist()


def test_of_one_video_the_masked_clip_is_chosen(dataset: ClipDataset, tmp_path: Path) -> None:
    table = dataset.table.select(np.array([0, 1]))
    for masked in (0, 1):
        chosen = clips_over_videos(table, masked=np.arange(2) == masked, count=1)
        assert chosen.tolist() == [masked]
