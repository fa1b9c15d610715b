"""A data folder is read once for all that look at it, and again where any setting that matters is another."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_requests import requested

from calot.config.overrides import apply_overrides
from calot.errors import CalotError
from calot.progress import Ui
from calot.receipts import sanity
from calot.receipts.probe import probe_data, trainer_for
from calot.receipts.receipt import receipt_before
from calot.receipts.sanity import unregularised
from calot.run import data as run_data
from calot.run import sample
from calot.run.data import OpenData
from calot.run.kept import Kept


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often this test's code read a folder's tables, cut a split into clips, opened frames and opened masks."""
    counts: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        real = getattr(module, name)

        def count(*given: Any, **named: Any) -> Any:
            counts[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(module, name, count)

    for name in ("open_folder", "build_clips", "open_masks"):
        counted(run_data, name)
    for name in ("open_store", "find_store"):
        counted(sample, name)
    return counts


def _require_one_opening(opened: Counter[str], *, tables_of_masks: int) -> None:
    """Train and val: frames looked for, and decoded where no other test has left them in the shared folder; clips cut
    once each, those of train also without targets where they place what is decoded."""
    assert (opened["open_folder"], opened["find_store"], opened["open_masks"]) == (1, 2, tables_of_masks)
    assert opened["open_store"] <= 2
    assert opened["build_clips"] <= 3


def test_an_answer_is_kept_by_the_values_it_was_asked_with() -> None:
    kept, made = Kept(), []

    def make() -> list[int]:
        made.append(1)
        return made

    assert kept.once(("clips", 1.5), make) is kept.once(("clips", 1.5), make)
    assert len(made) == 1
    kept.once(("clips", 2.5), make)
    assert len(made) == 2
    for _ in range(2):
        kept.once(("clips", [1.5]), make)  # a list cannot be hashed: never mistaken for another
    assert len(made) == 4


def test_what_raised_is_asked_again() -> None:
    kept = Kept()

    def refuse() -> int:
        raise CalotError("not yet")

    with pytest.raises(CalotError, match="not yet"):
        kept.once(("store",), refuse)
    assert kept.once(("store",), lambda: 3) == 3


def test_several_sessions_on_one_folder_open_every_split_once(
    phantom: Path, tmp_path: Path, opened: Counter[str]
) -> None:
    request = requested(phantom, tmp_path, "e11_attention_supervision")
    faster = apply_overrides(request.experiment, ["train.lr=1e-3"])
    with probe_data(phantom, experiment=request.experiment, ui=Ui()) as data:
        for experiment in (request.experiment, faster, request.experiment):
            trainer_for(experiment, request=request, data=data)
    _require_one_opening(opened, tables_of_masks=2)


def test_controls_are_made_on_the_data_that_the_receipt_opened(
    phantom: Path, tmp_path: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reached(Exception):
        pass

    def look(request: Any, *, data: OpenData) -> None:
        trainer_for(request.experiment, request=request, data=data)
        raise Reached

    monkeypatch.setattr("calot.receipts.receipt._makers", lambda *given, **named: [])
    monkeypatch.setattr(sanity, "overfit", look)
    with pytest.raises(Reached):
        receipt_before(requested(phantom, tmp_path, "e02_frozen_probe"), ui=Ui(), results=tmp_path)
    assert opened["open_folder"] == 1


@pytest.mark.long
def test_a_receipt_cuts_each_split_into_clips_once_and_opens_its_frames_once(
    phantom: Path, tmp_path: Path, opened: Counter[str]
) -> None:
    request = requested(phantom, tmp_path, "e10a_lora_r16")
    receipt_before(request, ui=Ui(), results=tmp_path, controls=False)
    _require_one_opening(opened, tables_of_masks=3)  # its dose also asks for those of all training clips


@pytest.mark.long
def test_a_receipt_sees_that_what_was_opened_is_kept_whatever_the_settings(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: dict[tuple[Any, ...], Any] = {}

    def once(self: Kept, question: tuple[Any, ...], make: Any) -> Any:
        asked = (*question[:2], question[-1]) if question[0] == "clips" else question  # its split, and whether to train
        return answers[asked] if asked in answers else answers.setdefault(asked, make())

    monkeypatch.setattr(Kept, "once", once)
    request = requested(phantom, tmp_path, "e02_frozen_probe", changes=("protocol=AllFrames()", "clip.stride=2"))
    receipt = receipt_before(request, ui=Ui(), results=tmp_path, controls=False)
    assert "clip.stride" in receipt.check("declared difference").why
    assert receipt.check("declared difference").status == "failed"


@pytest.mark.parametrize(
    "changes",
    [("clip.stride=2",), ("clip.length=4", "backbone.frames=4"), ("protocol=AllFrames()",), ("label=SoftLabel()",)],
)
def test_another_setting_of_the_clips_is_another_table(phantom: Path, tmp_path: Path, changes: tuple[str, ...]) -> None:
    experiment = requested(phantom, tmp_path, "e02_frozen_probe").experiment
    data = OpenData.of(phantom, experiment=experiment, ui=Ui())
    other = apply_overrides(experiment, changes)
    there, fresh = data.clips("train", training=True), OpenData.of(phantom, experiment=other, ui=Ui())
    seen, alone = data.of_experiment(other).clips("train", training=True), fresh.clips("train", training=True)
    assert seen is not there
    assert (seen.frames.tolist(), seen.labels.tolist()) == (alone.frames.tolist(), alone.labels.tolist())
    assert (seen.frames.tolist(), seen.labels.tolist()) != (there.frames.tolist(), there.labels.tolist())
    assert data.clips("train", training=True) is there
    assert data.clips("train", training=False) is not there


def test_another_size_of_frame_is_another_store(phantom: Path, tmp_path: Path) -> None:
    experiment = requested(phantom, tmp_path, "e02_frozen_probe").experiment
    data = OpenData.of(phantom, experiment=experiment, ui=Ui())
    larger = replace(experiment, backbone=replace(experiment.backbone, size=2 * experiment.backbone.size))
    sizes = [data.of_experiment(e).store("val").shape[-1] for e in (experiment, larger, experiment)]
    assert sizes == [experiment.backbone.size, larger.backbone.size, experiment.backbone.size]
    assert data.pixels() == {}  # what others opened is not counted as this experiment's


def test_a_table_that_several_look_at_cannot_be_written_to(phantom: Path, tmp_path: Path) -> None:
    data = OpenData.of(phantom, experiment=requested(phantom, tmp_path, "e02_frozen_probe").experiment, ui=Ui())
    table = data.clips("train", training=True)
    with pytest.raises(ValueError, match="read-only"):
        table.labels[0] = 1


def test_controls_keep_what_they_decode_where_the_run_does(tmp_path: Path, phantom: Path) -> None:
    experiment = requested(phantom, tmp_path, "e02_frozen_probe", changes=(f"compute.cache={tmp_path}",)).experiment
    assert unregularised(experiment).compute.cache_folder == tmp_path
