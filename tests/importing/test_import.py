import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import calot
from torch import Tensor

from calot.config.overrides import apply_overrides
from calot.errors import CalotError
from calot.experiment import Experiment, scaled
from calot.experiments import find
from calot.importing.checkpoint import ImportRequest, import_checkpoint, summary_lines
from calot.models.classifier import Classifier
from calot.pipeline import load_run
from calot.progress import Ui
from calot.run.build import build_classifier
from calot.statistics.predictions import load_predictions
from calot.types import Batch

BATCH_NORM = "heads.segmentation.groups=None"


def _experiment(name: str, *changes: str) -> Experiment:
    return apply_overrides(scaled(find(name).experiment, "tiny"), changes)


def _source(experiment: Experiment, *, seed: int = 0) -> Classifier:
    """A model as a training might leave it: no tensor at its starting value, running statistics included."""
    torch.manual_seed(seed)
    model = build_classifier(experiment)
    for stage in experiment.stages:
        stage.adaptation.apply(model.backbone)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.02)
    return model.eval()


def _study_names(
    model: Classifier, *, head: str = "classifier.", wrap: str = "", encoder: str = ""
) -> dict[str, Tensor]:
    """The state dict as the study's programs named it."""
    prefixes = {
        "backbone.model.": f"backbone.{encoder}",
        "pooling.": "pooler.",
        "head.": head,
        "segmentation.project.": "seg_head.proj.",
        "segmentation.upsample.": "seg_head.decoder.",
    }
    state = {}
    for name, tensor in model.state_dict().items():
        ours = next(p for p in prefixes if name.startswith(p))
        state[wrap + prefixes[ours] + name.removeprefix(ours)] = tensor.clone()
    return state


def _import(file: Path, **asked: Any) -> dict[str, Any]:
    folder = asked.pop("folder", file.parent / "run")
    return import_checkpoint(ImportRequest(path=file, folder=folder, scale="tiny", **asked), ui=Ui())


def _saved(folder: Path, data: object) -> Path:
    torch.save(data, folder / "study.pt")
    return folder / "study.pt"


def _difference(model: Classifier, folder: Path) -> float:
    """The largest difference of logits between a source and its import, on a batch."""
    _, imported, _ = load_run(folder)
    clips = Batch.unlabelled(torch.rand(3, 8, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        ours, theirs = imported.eval()(clips).logits, model(clips).logits
    assert theirs.std() > 1e-3, "the source must tell clips or criteria apart, or equality says nothing"
    return float((ours - theirs).abs().max())


def _predictor_adapters() -> dict[str, Tensor]:
    start = "backbone.base_model.model.predictor.layer.0.attention"
    return {f"{start}.{t}.lora_{s}.default.weight": torch.rand(2, 2) for t in ("query", "value") for s in "AB"}


Wrap = Callable[[Mapping[str, Tensor]], object]


def _bare(state: Mapping[str, Tensor]) -> object:
    return dict(state)


def _with_progress(state: Mapping[str, Tensor]) -> object:
    """As the study's programs saved it; scikit-learn's mAP is a number of numpy's."""
    return {"model_state_dict": dict(state), "epoch": 2, "best_map": np.float64(0.4979), "config": {"lr": 5e-4}}


@pytest.mark.parametrize(
    ("name", "changes", "names", "wrap", "nearest"),
    [
        ("e02_frozen_probe", (), {}, _bare, "e02_frozen_probe"),
        ("e02_frozen_probe", (), {"wrap": "module."}, _bare, "e02_frozen_probe"),
        ("e02_frozen_probe", (), {"encoder": "vjepa2."}, _with_progress, "e02_frozen_probe"),
        ("e08_multitask", (BATCH_NORM,), {"head": "cvs_head.", "encoder": "model."}, _with_progress, "e08_multitask"),
        ("e10a_lora_r16", (BATCH_NORM,), {"encoder": "base_model.model."}, _bare, "e10a_lora_r16"),
        ("e10b_documented", (), {"wrap": "module.", "encoder": "base_model.model."}, _bare, "e10b_documented"),
        ("lora_layers_18_23", (), {"encoder": "model."}, _with_progress, "lora_layers_18_23"),
        ("videomae_lora", (), {"wrap": "module.", "encoder": "base_model.model."}, _bare, "videomae_lora"),
        ("dinov3_per_frame_lora", (), {"encoder": "base_model.model."}, _with_progress, "dinov3_per_frame_lora"),
    ],
)
def test_an_imported_run_gives_its_sources_logits(
    tmp_path: Path, name: str, changes: tuple[str, ...], names: dict[str, str], wrap: Wrap, nearest: str
) -> None:
    model = _source(_experiment(name, *changes))
    record = _import(_saved(tmp_path, wrap(_study_names(model, **names))))
    assert (record["experiment"], record["not_mapped"]) == (nearest, [])
    assert record["set_from_tensors"] == list(changes)
    assert _difference(model, tmp_path / "run") < 1e-6


def test_adapters_in_the_predictor_are_dropped_counted_and_change_no_logit(tmp_path: Path) -> None:
    model = _source(_experiment("e10a_lora_r16"))
    state = _study_names(model, encoder="base_model.model.") | _predictor_adapters()
    record = _import(_saved(tmp_path, state))
    assert [item["why"] for item in record["not_mapped"]] == ["adapter in the predictor: never in the path"] * 4
    assert any("left out (adapter in the predictor" in x and "4 tensors" in x for x in summary_lines(record))
    assert _difference(model, tmp_path / "run") < 1e-6


def test_an_adapter_in_the_patch_embedding_is_dropped_with_a_warning(tmp_path: Path) -> None:
    state = _study_names(_source(_experiment("e10a_lora_r16")), encoder="base_model.model.")
    state["backbone.base_model.model.encoder.embeddings.patch_embeddings.proj.lora_A.default.weight"] = torch.rand(2)
    record = _import(_saved(tmp_path, state))
    assert [item["why"] for item in record["not_mapped"]] == ["adapter in the patch embedding: dropped"]
    assert any(line.startswith("NOTE: the patch embedding's adapter acted") for line in summary_lines(record))


def test_masks_of_an_imported_batch_norm_decoder_equal_its_sources(tmp_path: Path) -> None:
    model = _source(_experiment("e08_multitask", BATCH_NORM))
    _import(_saved(tmp_path, _study_names(model)), experiment="e08_multitask")
    _, imported, _ = load_run(tmp_path / "run")
    tokens = model.backbone(torch.rand(2, 8, 3, 64, 64))
    bins = torch.tensor([[3], [1]])
    a, b = (m.eval().segmentation(tokens, bins=bins) for m in (model, imported))
    assert torch.allclose(a, b, atol=1e-6)


def test_an_encoder_under_its_official_names_is_understood(tmp_path: Path) -> None:
    model = _source(_experiment("e02_frozen_probe"))
    state = {k: v for k, v in _study_names(model).items() if not k.startswith("backbone.")}
    encoder = dict(model.backbone.model.encoder.state_dict())
    for layer in range(4):
        for kind in ("weight", "bias"):
            parts = [encoder.pop(f"layer.{layer}.attention.{p}.{kind}") for p in ("query", "key", "value")]
            state[f"backbone.blocks.{layer}.attn.qkv.{kind}"] = torch.cat(parts)
    for name, tensor in encoder.items():
        official = name.replace("embeddings.patch_embeddings.", "patch_embed.").replace("layer.", "blocks.")
        state["backbone." + official.replace(".attention.", ".attn.").replace("layernorm.", "norm.")] = tensor
    _import(_saved(tmp_path, state | {"backbone.pos_embed": torch.zeros(1, 4, 2)}))
    assert _difference(model, tmp_path / "run") < 1e-6


def test_what_does_not_map_is_listed_with_its_shape(tmp_path: Path) -> None:
    state = _study_names(_source(_experiment("e02_frozen_probe")))
    state |= {"criterion.pos_weight": torch.ones(3), "backbone.predictor.proj.bias": torch.ones(5)}
    record = _import(_saved(tmp_path, state))
    listed = json.loads((tmp_path / "run" / "import.json").read_text())["not_mapped"]
    assert len(listed) == len(record["not_mapped"]) == 2
    assert {(u["name"], tuple(u["shape"])) for u in listed} == {
        ("criterion.pos_weight", (3,)),
        ("backbone.predictor.proj.bias", (5,)),
    }
    assert "criterion.pos_weight (3,)" in "\n".join(summary_lines(record))


def test_the_authors_own_numbers_are_kept_as_claims_and_no_path_of_a_machine(tmp_path: Path) -> None:
    file = _saved(tmp_path, _with_progress(_study_names(_source(_experiment("e02_frozen_probe")))))
    record = _import(file)
    assert record["claimed"] == {"epoch": 2.0, "best_map": 0.4979}
    texts = [p.read_text() for p in (tmp_path / "run").glob("*.json")]
    assert len(texts) == 4
    assert not any(str(tmp_path) in text for text in texts)


def test_a_published_backbone_stands_in_for_one_that_the_file_lacks(tmp_path: Path) -> None:
    experiment = _experiment("e02_frozen_probe")
    model = _source(experiment)
    whole = {"encoder": {}}
    for name, tensor in model.backbone.model.encoder.state_dict().items():
        whole["encoder"][name] = tensor  # transformers' names are taken as they are
    torch.save(whole, tmp_path / "encoder.pt")
    heads = {k: v for k, v in _study_names(model).items() if not k.startswith("backbone.")}
    file = _saved(tmp_path, heads)
    with pytest.raises(CalotError, match=r"lacks .* of the backbone, and backbone\.weights is None"):
        _import(file, changes=["backbone.weights=None"])
    record = _import(file, changes=[f"backbone.weights={tmp_path / 'encoder.pt'}"])
    assert record["backbone"]["held"] == 0
    assert _difference(model, tmp_path / "run") < 1e-6


def test_a_whole_backbone_needs_no_published_weights(tmp_path: Path) -> None:
    model = _source(_experiment("e02_frozen_probe"))
    record = _import(_saved(tmp_path, _study_names(model)), changes=["backbone.weights=nobody/has-these"])
    assert record["weights"] == "imported from study.pt"
    assert _difference(model, tmp_path / "run") < 1e-6


def test_adapters_that_are_not_the_experiments_name_the_setting(tmp_path: Path) -> None:
    """The study called e10b `q, k, v`; its checkpoint shows that keys were never adapted."""
    file = _saved(tmp_path, _study_names(_source(_experiment("e10b_documented"))))
    with pytest.raises(
        CalotError, match=r"targets \[q,v\] in the file, \[q,k,v\] .* train\.adaptation\.targets=\[q,v\]"
    ):
        _import(file, experiment="e10b_lora_r32_qkv")
    changed = ["train.adaptation.targets=[q,v]"]
    assert _import(file, experiment="e10b_lora_r32_qkv", changes=changed)["set_from_tensors"] == []


def test_a_guess_takes_rank_and_head_from_the_tensors_and_says_so(tmp_path: Path) -> None:
    experiment = _experiment("e10a_lora_r16", "train.adaptation.rank=4", "train.adaptation.alpha=8", "head.hidden=24")
    model = _source(experiment)
    record = _import(_saved(tmp_path, _study_names(model)))
    settings = {"head.hidden=24", "train.adaptation.rank=4", "train.adaptation.alpha=8"}
    assert (record["experiment"], set(record["set_from_tensors"])) == ("e10a_lora_r16", settings)
    assert _difference(model, tmp_path / "run") < 1e-6


def _without(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: {k: v for k, v in state.items() if k != name}


def _with(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state | {name: tensor}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without("pooler.norm.weight"), r"lacks 1 tensor, pooling\.norm\.weight of e02_frozen_probe"),
        (_without("classifier.4.bias"), r"lacks 1 tensor, head\.4\.bias"),
        (
            _with("pooler.norm.bias", torch.ones(7)),
            r"norm\.bias is \(7,\), and pooling\.norm\.bias .* \(128,\)",
        ),
        (_with("classifier.4.weight", torch.ones(4, 64)), r"\(4, 64\), and head\.4\.weight .* is \(3, 64\)"),
        (_with("pooler.norm.bias", torch.full((128,), torch.nan)), r"pooler\.norm\.bias holds numbers .* not finite"),
        (_with("classifier.7.bias", torch.ones(3)), r"classifier\.7\.bias \(3,\) more than e02_frozen_probe"),
        (_with("pooling.norm.bias", torch.ones(128)), r"pooler\.norm\.bias and pooling\.norm\.bias are both"),
        (lambda state: {"epoch": 3}, "holds no state dict"),
        (lambda state: {"encoder": state}, r"official V-JEPA 2 encoder, .* calot train e02_frozen_probe"),
        (lambda state: [1, 2], "holds no state dict"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_leaves_nothing(
    tmp_path: Path, spoil: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    file = _saved(tmp_path, spoil(_study_names(_source(_experiment("e02_frozen_probe")))))
    with pytest.raises(CalotError, match=message):
        _import(file)
    assert not (tmp_path / "run").exists()


def test_a_name_without_a_rule_can_be_given_one(tmp_path: Path) -> None:
    model = _source(_experiment("e02_frozen_probe"))
    file = _saved(tmp_path, _study_names(model, head="mlp_of_criteria."))
    with pytest.raises(CalotError, match=r"head\.0\.weight.*mlp_of_criteria\.0\.weight has no rule.*--rename OLD=NEW"):
        _import(file)
    _import(file, rename=[("mlp_of_criteria.", "head.")])
    assert _difference(model, tmp_path / "run") < 1e-6


class Harmful:
    """What a pickle may do to whoever opens it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("opened",)


def test_code_in_a_file_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = _saved(tmp_path, {"model": _study_names(_source(_experiment("e02_frozen_probe"))), "config": Harmful()})
    with pytest.raises(CalotError, match=r"holds the Python object \w+\.mkdir .* runs no code"):
        _import(file)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint" * 50, None])
def test_a_damaged_file_is_one_clear_message(tmp_path: Path, content: bytes | None) -> None:
    file = _saved(tmp_path, _study_names(_source(_experiment("e02_frozen_probe"))))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if content is None else content)
    with pytest.raises(CalotError, match=r"study\.pt: not a readable checkpoint of tensors \([^\n]{1,200}\)$"):
        _import(file)


def test_an_imported_run_is_scored_under_both_protocols(phantom: Path, tmp_path: Path) -> None:
    file = _saved(tmp_path, _study_names(_source(_experiment("e02_frozen_probe"))))
    tiny = ("--scale", "tiny")
    first = calot("import", file, "study", *tiny, "--data", phantom, cwd=tmp_path)
    assert (first.returncode, "Next: calot evaluate study --split val" in first.stdout) == (0, True), first.stderr
    assert calot("import", file, "filled", *tiny, "protocol=all-frames", cwd=tmp_path).returncode == 0
    unscored = calot("evaluate", "filled", cwd=tmp_path)
    assert (unscored.returncode, "name one with --data ROOT" in unscored.stderr) == (2, True)
    assert calot("report", "filled", cwd=tmp_path).returncode == 0
    assert "Not scored yet" in (tmp_path / "filled" / "report.html").read_text()
    assert calot("evaluate", "study", cwd=tmp_path).returncode == 0
    done = calot("evaluate", "filled", "--data", phantom, "--split", "val", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    keyframes, filled = (load_predictions(tmp_path / r / "predictions" / "val.parquet") for r in ("study", "filled"))
    assert (keyframes.protocol, filled.protocol) == ("keyframes", "all-frames")
    assert len(filled.labels) > 3 * len(keyframes.labels)
    page = (tmp_path / "study" / "report.html").read_text()
    for text in ("imported: training not verified", "treatment unverified", "study.pt"):
        assert text in page, text
    again = calot("predict", "study", "--data", phantom, "--out", tmp_path / "again.parquet", cwd=tmp_path)
    assert again.returncode == 0
    assert (load_predictions(tmp_path / "again.parquet").logits == keyframes.logits).all()
    assert calot("report", ".", cwd=tmp_path).returncode == 0
    assert "Weights trained elsewhere" in (tmp_path / "report.html").read_text()


def test_an_imported_run_is_never_trained_on(phantom: Path, tmp_path: Path) -> None:
    file = _saved(tmp_path, _study_names(_source(_experiment("e02_frozen_probe"))))
    _import(file)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.name != "run.lock"}
    for flag in ((), ("--resume",), ("--overwrite",)):
        words = ("train", "e02_frozen_probe", "--scale", "tiny", "--data", phantom, "--out", "run", *flag)
        done = calot(*words, cwd=tmp_path)
        assert (done.returncode, "an imported run" in done.stderr) == (2, True), done.stderr
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.name != "run.lock"} == before


def test_a_run_already_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    file = _saved(tmp_path, _study_names(_source(_experiment("e02_frozen_probe"))))
    _import(file)
    with pytest.raises(CalotError, match=r"exists: --overwrite"):
        _import(file)
    (tmp_path / "run" / "old.txt").write_text("old")
    assert _import(file, overwrite=True)["file"] == "study.pt"
    assert not (tmp_path / "run" / "old.txt").exists()


def test_a_byte_flipped_in_the_imported_weights_is_found(tmp_path: Path) -> None:
    _import(_saved(tmp_path, _study_names(_source(_experiment("e02_frozen_probe")))))
    weights = tmp_path / "run" / "checkpoints" / "best" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-9] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CalotError, match="does not match its checksum"):
        load_run(tmp_path / "run")


def test_hard_masking_in_scoring_is_said(tmp_path: Path) -> None:
    """The study masked in training only; the experiment masks by the decoder's own masks when it scores, too."""
    experiment = _experiment("e12_regularized", "train.adaptation.targets=[q,v]")
    model = _source(experiment)
    file = _saved(tmp_path, _study_names(model))
    changes = ["train.adaptation.targets=[q,v]"]
    record = _import(file, experiment="e12_regularized", changes=changes)
    assert record["assumed"]["masking in scoring"] == "TokenMasking"
    assert _difference(model, tmp_path / "run") < 1e-6
    plain = _import(file, experiment="e12_regularized", changes=[*changes, "masking=None"], folder=tmp_path / "plain")
    assert plain["assumed"]["masking in scoring"] is None
    unmasked = _source(replace(experiment, masking=None))
    assert _difference(unmasked, tmp_path / "plain") < 1e-6
