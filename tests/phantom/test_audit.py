"""The audit: what it reads, what it judges, and that it refuses what is no phantom."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from calot.errors import CalotError
from calot.phantom import PhantomSpec, audit, generate, simulate_labels
from calot.phantom.audit import AuditReport, AuditRow, label_rows, main, read_votes
from calot.phantom.probes import average_precisions, histogram, mask_features


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp("audit") / "made"
    generate(out, PhantomSpec(videos=3, seed=9, mean_frames=40, min_frames=38, max_frames=43))
    return out


def test_an_audit_reads_back_the_votes_that_were_simulated(root):
    votes = read_votes(pl.read_csv(root / "all_metadata.csv"))
    made = simulate_labels(PhantomSpec(videos=3, seed=9, mean_frames=40, min_frames=38, max_frames=43))
    assert all(np.array_equal(a, b.votes) for a, b in zip(votes, made, strict=True))


def test_an_audit_is_a_table_and_json(root, capsys):
    report = audit(root)
    assert "mean nothing clinically" in str(report)
    assert report.value("videos") == 3
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["rows"][0]["name"] == "videos"
    main([str(root), "--json"])
    assert json.loads(capsys.readouterr().out) == report.to_dict()


def test_a_folder_without_phantom_json_is_refused(tmp_path):
    with pytest.raises(CalotError, match=r"holds no phantom.json"):
        audit(tmp_path)


def test_a_row_outside_its_band_fails_the_report():
    inside, outside, open_ended = (
        AuditRow("a", 0.5, low=0.4, high=0.6),
        AuditRow("b", 0.7, high=0.6),
        AuditRow("c", 9.0),
    )
    assert (inside.passed, outside.passed, open_ended.passed) == (True, False, None)
    assert AuditReport("x", (inside, open_ended)).passed
    assert not AuditReport("x", (inside, outside)).passed


def test_a_biased_rater_leaves_the_real_bands():
    videos = simulate_labels(PhantomSpec(videos=201, seed=1, biased_rater=1, rater_bias=4.0))
    failed = {row.name for row in label_rows([v.votes for v in videos]) if row.passed is False}
    assert "prevalence C1" in failed


def test_a_probe_that_sees_the_label_is_perfect_and_one_that_sees_noise_is_at_chance():
    rng = np.random.default_rng(0)
    labels = (rng.uniform(size=(1200, 3)) < 0.2).astype(np.int8)
    noise = rng.normal(size=(1200, 3)).astype(np.float32)
    perfect = average_precisions(
        labels[:600] + 0.1 * noise[:600], labels[:600], test=labels[600:] + 0.1 * noise[600:], test_labels=labels[600:]
    )
    blind = average_precisions(noise[:600], labels[:600], test=noise[600:], test_labels=labels[600:])
    assert min(perfect) > 0.98
    assert max(blind) < 0.35


def test_colour_features_ignore_where_colours_lie_and_mask_features_do_not():
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    mask = np.repeat(np.arange(6, dtype=np.uint8), 400).reshape(40, 60)
    assert np.array_equal(histogram(picture), histogram(picture[::-1, ::-1].copy()))
    assert not np.array_equal(mask_features(mask), mask_features(mask[::-1].copy()))
