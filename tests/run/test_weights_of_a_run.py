"""A run on others' weights says which file it read and is scored on no other; V-JEPA 2.1 does what 2 does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import calot
from run_requests import requested, trained

from calot.errors import CalotError
from calot.models.backbones.vjepa2 import VJEPA2
from calot.pipeline import load_run
from calot.provenance.custody import seal
from calot.reading import sha256_of


@pytest.fixture
def surgical(tmp_path: Path) -> Callable[..., Path]:
    """A V-JEPA 2 that was trained on, in its authors' layout, at the tiny scale's size."""

    def made(*, seed: int) -> Path:
        torch.manual_seed(seed)
        own = dict(VJEPA2(weights=None).at_tiny_scale().build().model.encoder.state_dict())
        state = {}
        for name, tensor in own.items():
            official = name.replace("embeddings.patch_embeddings.", "patch_embed.").replace("layer.", "blocks.")
            official = official.replace("layernorm.", "norm.").replace(".attention.", ".attn.")
            if ".attn.query." in name or ".attn.query." in official:
                joined = [own[name.replace("query", part)] for part in ("query", "key", "value")]
                state[f"module.backbone.{official.replace('query', 'qkv')}"] = torch.cat(joined)
            elif not any(f".attn.{part}." in official for part in ("key", "value")):
                state[f"module.backbone.{official}"] = tensor
        torch.save({"encoder": state, "epoch": 1}, tmp_path / "surgical.pt")
        return tmp_path / "surgical.pt"

    return made


@pytest.mark.slow
def test_a_run_keeps_the_digest_of_its_weights_and_refuses_others(
    phantom: Path, tmp_path: Path, surgical: Callable[..., Path]
) -> None:
    file = surgical(seed=1)
    changes = (f"backbone.weights={file}", "train.epochs=1", "compute.features=off")
    request = requested(phantom, tmp_path / "run", "e02_frozen_probe", changes=changes)
    folder = trained(request)
    model = json.loads((folder / "model.json").read_text())
    assert model["weights_files"] == {"surgical.pt": sha256_of(file)}
    assert model["weights_key"] == "encoder"
    before = load_run(folder)[1].backbone.linear(0, "q").weight.clone()
    surgical(seed=2)
    with pytest.raises(CalotError, match=r"surgical\.pt is not the file it was trained on .*Put the old file back"):
        load_run(folder)
    with pytest.raises(CalotError, match=r"surgical\.pt is not the file it was trained on"):
        trained(replace(request, resume=True))
    surgical(seed=1)
    assert torch.equal(load_run(folder)[1].backbone.linear(0, "q").weight, before)


@pytest.mark.long
def test_v_jepa_2_1_trains_adapters_in_windows_and_its_attention_is_read(phantom: Path, tmp_path: Path) -> None:
    changes = (
        "train.adaptation=LoRA(rank=2)",
        "backbone.windows=WindowAttention(size=2)",
        "compute.gradient_checkpointing=True",
        "train.epochs=1",
    )
    folder = trained(requested(phantom, tmp_path / "run", "e02_vjepa21", changes=changes))
    seal(folder)
    model = load_run(folder)[1]
    assert any(p.abs().sum() > 0 for n, p in model.backbone.named_parameters() if ".lora_B." in n)
    assert model.backbone.spec.windows.size == 2
    done = calot("attention", folder, "--clips", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [row for row in json.loads(done.stdout)["layers"] if row["variant"] == "run"]
    assert sorted({row["layer"] for row in rows}) == [0, 1, 2, 3]
