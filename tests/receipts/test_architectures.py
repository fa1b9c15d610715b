"""Every architecture beside the study's own trains at tiny scale to the end, and its receipt raises no alarm."""

from dataclasses import replace
from pathlib import Path

import pytest
from run_requests import requested

from calot.pipeline import train_run
from calot.progress import Ui
from calot.provenance.receipt import CHECKS, Receipt
from calot.run.signals import Stopper


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        *("swincvs_lstm", "swincvs_e2e", "swincvs_frozen", "e13_window_vit", "e14_hybrid", "e15_vjepa_window"),
        *("e15_window_parallel", "multires_fusion", "layers_12", "unet_skips", "feature_pyramid"),
        *("multi_layer_pooling", "key_moments", "frames5_window", "frames16_window"),
    ],
)
def test_it_trains_to_the_end_with_a_green_receipt(several_val: Path, tmp_path: Path, name: str) -> None:
    epochs = 8 if name.startswith("swincvs") else 2
    asked = requested(several_val, tmp_path / "run", name, changes=("train.warmup=0.0", f"train.epochs={epochs}"))
    folder = train_run(replace(asked, receipt=True, results=tmp_path), ui=Ui(), stopper=Stopper())
    receipt = Receipt.load(folder)
    assert receipt is not None
    assert receipt.failed == ()
    assert [c.name for c in receipt.checks] == list(CHECKS)
