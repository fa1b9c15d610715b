"""What a run says about its masks: where they came from, and how well the decoder meets them."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_requests import requested, trained

from calot.criteria import MASK_CLASSES
from calot.errors import CalotError
from calot.evaluation import masks
from calot.run.request import Request


@pytest.fixture(scope="module")
def folder(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom with half of its training masks moved to a folder of synthetic ones; its val masks all stay."""
    root = tmp_path_factory.mktemp("masked") / "phantom"
    shutil.copytree(phantom, root)
    training = {int(float(v)) for v in (root / "train_vids.txt").read_text().split()}
    videos = sorted(training)[: len(training) // 2]
    (root / "sam2").mkdir()
    for path in sorted((root / "semseg").glob("*.png")):
        if int(path.name.split("_")[0]) in videos:
            shutil.move(path, root / "sam2" / path.name)
    return root


@pytest.fixture(scope="module")
def request_(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Request:
    changes = ("train.epochs=1", "masks.synthetic=sam2")
    return requested(folder, tmp_path_factory.mktemp("runs") / "run", "e08_multitask", changes=changes)


@pytest.fixture(scope="module")
def run(request_: Request) -> Path:
    return trained(request_)


def test_data_json_tells_coverage_with_and_without_the_synthetic_folder(run: Path) -> None:
    masks = json.loads((run / "data.json").read_text())["masks"]
    assert masks["synthetic"] == "sam2"
    train, val = masks["splits"]["train"], masks["splits"]["val"]
    assert train["masks"].keys() == {"phantom", "synthetic"}
    assert min(train["masks"].values()) > 0
    assert train["coverage"]["all"] == pytest.approx(train["coverage"]["phantom"] + train["coverage"]["synthetic"])
    assert 0 < train["coverage"]["without synthetic"] < train["coverage"]["all"]
    assert val["coverage"]["without synthetic"] == val["coverage"]["all"] == val["coverage"]["phantom"]


def test_metrics_hold_the_iou_of_every_class_and_of_all(run: Path) -> None:
    (row,) = csv.DictReader((run / "metrics.csv").open())
    iou = {c: row[f"val_iou_{c}"] for c in MASK_CLASSES}
    defined = [float(v) for v in iou.values() if v]
    assert float(row["val_miou"]) == pytest.approx(sum(defined) / len(defined))
    assert float(row["share_segmentation"]) == 1.0
    assert float(row["train_segmentation"]) > 0


def test_a_class_in_no_mask_is_an_empty_cell(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but background in truth and prediction: every other class is undefined, and the mean is that of one."""
    real = masks.MaskConfusion.__call__

    def background_alone(self, outputs, batch):  # type: ignore[no-untyped-def]
        values = torch.where(batch.masks.values == 255, 255, 0).to(torch.uint8)
        scores = torch.zeros_like(outputs.scores["segmentation"])
        scores[:, :, 0] = 1.0
        real(
            self,
            replace(outputs, scores=outputs.scores | {"segmentation": scores}),
            replace(batch, masks=replace(batch.masks, values=values)),
        )

    monkeypatch.setattr(masks.MaskConfusion, "__call__", background_alone)
    (row,) = csv.DictReader((trained(replace(request_, folder=tmp_path / "run")) / "metrics.csv").open())
    assert [row[f"val_iou_{c}"] for c in MASK_CLASSES] == ["1.0", "", "", "", ""]
    assert row["val_miou"] == "1.0"


def test_an_experiment_without_masks_says_so(folder: Path, tmp_path: Path) -> None:
    run = trained(requested(folder, tmp_path / "run", "e02_frozen_probe", changes=("train.epochs=1",)))
    assert json.loads((run / "data.json").read_text())["masks"] is None
    assert "val_miou" not in (run / "metrics.csv").read_text()


def test_resuming_with_other_masks_is_refused(run: Path, request_: Request, tmp_path: Path) -> None:
    data = shutil.copytree(request_.data, tmp_path / "data")
    next((data / "sam2").glob("*.png")).unlink()
    copied = shutil.copytree(run, tmp_path / "run")
    with pytest.raises(CalotError, match=r"data set has changed \(masks of train"):
        trained(replace(request_, data=data, folder=copied, resume=True))
    whole = shutil.copytree(request_.data, tmp_path / "same")
    trained(replace(request_, data=whole, folder=copied, resume=True))
