"""What `calot explain` reads of a real run, against the same numbers found in another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from run_requests import requested, trained

from calot.analysis.capture import capture
from calot.analysis.explaining.part import Subject, spread_over_videos
from calot.analysis.explaining.pooled import pooling_taps, read_pooled
from calot.analysis.explaining.pooling import ASKED, PART
from calot.analysis.explaining.segmentation import PART as SEGMENTATION
from calot.cli.explain_subject import ExplainedRun
from calot.criteria import MASK_CLASSES
from calot.errors import CalotError
from calot.progress import Ui
from calot.report.explaining.sections import PARTS, section_named

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def decoding(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a decoder, its masks the nearest ones."""
    changes = ("train.epochs=1", "masks.window=nearest")
    folder = tmp_path_factory.mktemp("decoding") / "run"
    return trained(requested(phantom, folder, "e08_multitask", changes=changes))


@pytest.fixture(scope="module")
def subject(decoding: Path, phantom: Path) -> Subject:
    """It, opened on val with a clip that was asked for; its pooling made sharp, so that there is something to see."""
    run = ExplainedRun.of(decoding, data=phantom, ui=Ui())
    first = run.data.clips("val", training=False)
    asked = [f"{first.videos[3]}_{first.frame_numbers[3]}"]
    found = run.subject("val", clips=3, asked=asked, on_open=lambda split: None)
    with torch.no_grad():
        found.model.pooling.query.mul_(400.0)
    return found


def test_the_weights_read_are_those_of_multihead_attention_itself(subject: Subject) -> None:
    clips = np.arange(5)
    read = read_pooled(subject, clips, label="test")
    pool = subject.model.pooling
    batch = next(batch for _, batch in subject.passes(subject.dataset(clips), label="test"))
    with torch.no_grad():
        tokens = subject.model.eval().encode(batch)
        query = pool.query.expand(len(batch), -1, -1)
        weights = pool.attention(query, tokens.values, tokens.values, average_attn_weights=False)[1]
    heads = weights[:, :, 0].double().numpy()
    mean = heads.mean(axis=1)
    count = heads.shape[-1]
    entropy = -(heads * np.log(heads)).sum(axis=-1).mean(axis=1) / np.log(count)
    rows = read.rows
    assert entropy.max() < 0.99
    np.testing.assert_allclose(rows["entropy"], entropy, rtol=1e-4)
    np.testing.assert_allclose(rows["averaged_entropy"], -(mean * np.log(mean)).sum(axis=1) / np.log(count), rtol=1e-4)
    np.testing.assert_allclose(rows["std"], mean.std(axis=1), rtol=1e-4)
    np.testing.assert_allclose(rows["max"], mean.max(axis=1), rtol=1e-4)
    bins = mean.reshape(len(clips), tokens.grid[0], -1).sum(axis=2)
    np.testing.assert_allclose(rows.select(pl.col("^bin_.*$")).to_numpy(), bins, rtol=1e-4)
    assert rows["preferred_bin"].to_list() == bins.argmax(axis=1).tolist()
    np.testing.assert_allclose(read.maps[0].reshape(len(clips), -1), mean, rtol=1e-4)


def test_a_clip_that_was_asked_for_has_a_group_of_its_own_and_its_picture(subject: Subject) -> None:
    found = PART.measure(subject)
    rows = found.tables["clips"].filter(pl.col("group") == ASKED)
    assert rows["clip"].to_list() == [subject.clip_name(3)]
    assert found.arrays["clips"][-1] == subject.clip_name(3)
    assert found.arrays["frames"].shape[:2] == (len(found.arrays["clips"]), found.facts["grid"][0])
    text = str(section_named("pooling").view(found))
    assert f"Clip {subject.clip_name(3)}, asked for" in text


def test_iou_is_the_one_that_training_wrote_for_the_same_masks(subject: Subject, decoding: Path) -> None:
    with torch.no_grad():  # the decoder reads no pooled vector: the sharp pooling does not change it
        found = SEGMENTATION.measure(subject)
    wrote = pl.read_csv(decoding / "metrics.csv").row(0, named=True)
    for name in MASK_CLASSES:
        assert found.facts["iou"][name]["value"] == pytest.approx(wrote[f"val_iou_{name}"], abs=1e-6), name
    assert found.facts["iou"]["mean"]["value"] == pytest.approx(wrote["val_miou"], abs=1e-6)
    assert found.facts["clips"] == int((subject.masked & subject.every_mask.real).sum())
    pixels = found.arrays["confusion"].sum()
    masks = subject.dataset(masks=True).masks
    assert masks is not None
    values = masks.read(np.flatnonzero(subject.masked)).values
    assert pixels == int((values != 255).sum())


def test_an_unknown_tap_point_is_refused_with_the_nearest(subject: Subject) -> None:
    assert pooling_taps(subject.model) == ("pooling.attention_map",)
    with (
        pytest.raises(CalotError, match=r'Did you mean "pooling\.attention_map"'),
        capture(subject.model, points=["pooling.attention_mop"]),
    ):
        pass


def test_clips_are_spread_over_videos(subject: Subject) -> None:
    chosen = spread_over_videos(subject.table, among=np.arange(len(subject.table)), count=2)
    assert len(set(subject.table.videos[chosen].tolist())) == 2


def test_every_part_answers_and_its_section_is_written_in_words(subject: Subject) -> None:
    from calot.cli.explain import part_named

    for name in PARTS:
        found = part_named(name).measure(subject)
        assert "absent" in found.facts or section_named(name).view(found).reasons, name
