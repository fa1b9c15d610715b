"""An exported run scores as the run does, where calot is not installed; what a format cannot hold is said by name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_requests import requested, trained

from calot.config.overrides import apply_overrides
from calot.deploy.formats import format_named, formats
from calot.deploy.scorer import Exportable
from calot.errors import CalotError
from calot.experiment import scaled
from calot.experiments import find
from calot.models.checkpoints import EMBEDDED, find_weights
from calot.pipeline import load_run
from calot.progress import Ui
from calot.provenance.custody import seal
from calot.provenance.receipt import Receipt, ReceiptCheck
from calot.run.build import build_classifier
from calot.statistics.predictions import load_predictions


@pytest.fixture(scope="module")
def run(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with adapters, trained for one epoch, sealed."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    made = trained(requested(phantom, folder, "e10a_lora_r16", changes=("train.epochs=1", "train.lr=0.01")))
    seal(made)
    return made


@pytest.fixture(scope="module")
def clips(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Four validation clips as stored, and the run's own logits of them from its sealed table."""
    opened = Exportable.of(run, data=None, ui=Ui())
    table = load_predictions(run / "predictions" / "val.parquet")
    places = opened.chosen(4)
    return opened.frames(places), table.logits[places]


#: Another program: it finds no calot, reads clips, and writes what a folder's model gives for them.
_ALONE = """
import sys
class Refuse:
    def find_spec(self, name, *rest):
        if name.split(".")[0] == "calot": raise ImportError("calot is not installed here")
sys.meta_path.insert(0, Refuse())
sys.path[:] = [p for p in sys.path if not p.endswith("src")]
import numpy as np, torch
torch.set_grad_enabled(False)
folder, given, out = sys.argv[1:4]
clips = np.load(given)
"""
_PROGRAMS = {
    "hf": "from transformers import AutoModel\n"
    "model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()\n"
    "found = model(torch.from_numpy(clips)).numpy()\n"
    "assert model.config.criteria[0] == 'two_structures'\n",
    "pt2": "found = torch.export.load(folder + '/model.pt2').module()(torch.from_numpy(clips)).numpy()\n",
    "onnx": "import onnxruntime\n"
    "session = onnxruntime.InferenceSession(folder + '/model.onnx')\n"
    "found = session.run(['logits'], {'video': clips})[0]\n",
}
_PEFT = """
from transformers import VJEPA2Model, AutoModel
from peft import PeftModel
base = VJEPA2Model.from_pretrained(sys.argv[4])
adapted = PeftModel.from_pretrained(base, folder + "/adapter").eval()
merged = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
frames = torch.from_numpy(clips).float() / 128 - 1
tokens = [m.get_vision_features(frames) for m in (adapted.base_model.model, merged.encoder)]
plain = VJEPA2Model.from_pretrained(sys.argv[4]).eval().get_vision_features(frames)
found = np.array([float((tokens[0] - tokens[1]).abs().max()), float((plain - tokens[0]).abs().max())])
"""


def _alone(code: str, *words: object, folder: Path) -> Any:
    out = folder / "found.npy"
    command = [sys.executable, "-c", _ALONE + code + "\nnp.save(out, found)", *map(str, words[:2]), str(out)]
    done = subprocess.run([*command, *map(str, words[2:])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(out)


@pytest.mark.long
@pytest.mark.parametrize("name", ["hf", "pt2", "onnx"])
def test_an_export_scores_as_the_run_where_calot_cannot_be_imported(
    run: Path, clips: tuple[np.ndarray, np.ndarray], tmp_path: Path, name: str
) -> None:
    pytest.importorskip("onnxruntime") if name == "onnx" else None
    words = ["--int8"] if name == "onnx" else []
    words += ["--format", name, "--out", str(tmp_path / "out"), "--json"]
    command = [sys.executable, "-m", "calot", "export", str(run), *words]  # no checks of shapes: they stop a trace
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record == json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["largest_difference"] <= 1e-4
    assert record["clips"] > 4
    video, logits = clips
    np.save(tmp_path / "clips.npy", video)
    found = _alone(_PROGRAMS[name], tmp_path / "out", tmp_path / "clips.npy", folder=tmp_path)
    np.testing.assert_allclose(found, logits, atol=1e-4)
    assert np.ptp(logits) > 0.01
    card = (tmp_path / "out" / "README.md").read_text()
    assert "mean nothing clinically" in card
    assert f"{record['largest_difference']:.1e}" in card
    assert str(tmp_path) not in card
    if name == "onnx":
        cost = record["int8"]
        assert -1 <= cost["map_difference"] <= 1
        assert cost["said"] in card
        assert (tmp_path / "out" / "model.int8.onnx").stat().st_size < (tmp_path / "out" / "model.onnx").stat().st_size
    if name == "hf":
        apart = _alone(_PEFT, tmp_path / "out", tmp_path / "clips.npy", find_weights(EMBEDDED), folder=tmp_path)
        assert apart[0] < 1e-4 < apart[1], "the adapter through peft is the merged one, and no identity"


def _untrained(name: str, *changes: str) -> Exportable:
    experiment = apply_overrides(scaled(find(name).experiment, "tiny"), ["backbone.weights=None", *changes])
    model = build_classifier(experiment)
    own: Any = {"folder": Path("run"), "clips": None, "manifest_hash": ""}
    return Exportable(experiment=experiment, model=model, seed=0, **own)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("e12_attention_bias", "AttentionBias takes a mask"),
        ("e12_regularized", "TokenMasking takes a mask"),
        ("e15_vjepa_window", "TokenMasking takes a mask"),
        ("unet_skips masking=None", r"backbone\.skips changes the network"),
        ("e02_vjepa21", "V-JEPA 2.1 encoder is read in calot's own way"),
        ("multi_layer_pooling masking=None", "LayerPooling is not a pooling that the folder's file knows"),
        ("videomae_lora", "VideoMAE encoder is read in calot's own way"),
    ],
)
def test_what_a_hub_folder_cannot_hold_is_named(name: str, says: str) -> None:
    why = format_named("hf").unfit(_untrained(*name.split()))
    assert why is not None
    assert re.search(says, why)
    assert format_named("hf").unfit(_untrained("e02_frozen_probe")) is None


def test_a_bias_by_masks_cannot_be_traced() -> None:
    for name in ("pt2", "onnx"):
        pytest.importorskip("onnxruntime")
        assert "AttentionBias biases attention" in (format_named(name).unfit(_untrained("e12_attention_bias")) or "")
        assert format_named(name).unfit(_untrained("e15_vjepa_window", "masking=None")) is None


def test_other_formats_and_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [cls.name for cls in formats()] == ["hf", "onnx", "pt2"]
    with pytest.raises(CalotError, match=r"--format onx: choose hf, onnx, pt2\..*onnx"):
        format_named("onx")
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CalotError, match=r"needs the package 'onnx': pip install 'calot\[export\]'"):
        format_named("onnx")


def test_a_run_that_is_not_whole_is_refused(run: Path, tmp_path: Path) -> None:
    import shutil

    def refused(folder: Path, says: str) -> None:
        with pytest.raises(CalotError, match=says):
            Exportable.of(folder, data=None, ui=Ui())

    copy = Path(shutil.copytree(run, tmp_path / "run"))
    metrics = (copy / "metrics.csv").read_bytes()
    (copy / "metrics.csv").write_bytes(metrics + b"\n")
    refused(copy, r"metrics\.csv: was changed after the run was complete")
    (copy / "metrics.csv").write_bytes(metrics)
    failed = ReceiptCheck(name="gradients", status="failed", why="no tensor learns", evidence=None)
    Receipt(experiment="e", baseline=None, fingerprint="f", checks=(failed,)).write(copy)
    seal(copy)
    refused(copy, r"INVALID, so its model goes nowhere: receipt check gradients failed \(no tensor learns\)")
    (copy / "seal.json").unlink()
    refused(copy, r"not a complete run \(no seal\.json\)")
    shutil.rmtree(copy / "checkpoints")
    refused(copy, "holds no checkpoint")


def test_a_format_that_scores_otherwise_keeps_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from calot.deploy import export
    from calot.deploy.hub import HubFolder

    own = HubFolder.scores
    monkeypatch.setattr(HubFolder, "scores", lambda self, folder: lambda video: own(self, folder)(video) + 3e-4)
    asked = export.ExportRequest(run=run, format="hf", out=tmp_path / "out", clips=2)
    with pytest.raises(CalotError, match=r"as hf its logits are 3\.0e-04 from the run's own"):
        export.export_run(asked, ui=Ui())
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with pytest.raises(CalotError, match="exists already; choose another --out, or --overwrite"):
        export.export_run(asked, ui=Ui())
    with pytest.raises(CalotError, match="--int8 is a file of --format onnx"):
        export.export_run(replace(asked, overwrite=True, int8=True), ui=Ui())
    monkeypatch.undo()
    record = export.export_run(replace(asked, overwrite=True), ui=Ui())
    assert record["largest_difference"] < 1e-4


def test_the_portable_model_merges_a_copy_and_leaves_the_run_as_it_was(run: Path) -> None:
    from calot.deploy.scorer import PortableModel

    _, model, _ = load_run(run)
    before = {n: p.clone() for n, p in model.named_parameters()}
    assert not any(".lora_" in n for n, _ in PortableModel(model).named_parameters())
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert any(".lora_" in n for n in before)
