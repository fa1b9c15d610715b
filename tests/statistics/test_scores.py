"""Probabilities are never taken for logits: refused with the remedy, or read as what a person says they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prediction_tables import clustered
from scipy.special import expit

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.predictions import Reading, load_predictions
from calot.statistics.schema import LOGITS
from calot.statistics.scores import ScoreRule
from calot.statistics.summary import summarise


def foreign(path: Path, **columns: pl.Expr) -> Path:
    """Another group's CSV, some columns changed."""
    clustered(videos=6, frames=10).frame.with_columns(**columns).write_csv(path)
    return path


def probability(name: str) -> pl.Expr:
    return 1 / (1 + (-pl.col(name).cast(pl.Float64)).exp())


def read(path: Path, kind: str | None = None, *, clip: bool = False) -> object:
    return load_predictions(path, reading=Reading(scores=ScoreRule(kind=kind, clip=clip)))  # type: ignore[arg-type]


ALL = {name: probability(name) for name in LOGITS}


@pytest.mark.parametrize(
    "columns",
    [
        ALL,
        {LOGITS[2]: probability(LOGITS[2])},
        {name: probability(name).round(2) for name in LOGITS},
        {name: (pl.col(name) > 0).cast(pl.Float32) for name in LOGITS},
        {name: (100 * probability(name)).round(1) for name in LOGITS},
        {name: probability(name) + 1e-9 for name in LOGITS},
    ],
    ids=["all three", "one criterion", "rounded", "decisions", "percentages", "rounding beyond 1"],
)
def test_probabilities_in_columns_of_logits_are_refused_with_the_remedy(
    columns: dict[str, pl.Expr], tmp_path: Path
) -> None:
    path = foreign(tmp_path / "p.csv", **columns)
    with pytest.raises(CalotError, match=r"these look like p.* --scores logits takes them as raw logits anyway"):
        load_predictions(path)
    assert read(path, "logits")


def test_probabilities_named_as_such_give_the_scores_of_their_logits(tmp_path: Path) -> None:
    plain = summarise(load_predictions(foreign(tmp_path / "p.csv"))).to_dict()
    told = summarise(read(foreign(tmp_path / "q.csv", **ALL), "probabilities")).to_dict()  # type: ignore[arg-type]
    for name in CRITERIA:
        assert told["ap"][name]["value"] == plain["ap"][name]["value"]
        assert told["brier"][name]["value"] == pytest.approx(plain["brier"][name]["value"], abs=1e-6)
        assert told["calibration"][name]["slope"] == pytest.approx(plain["calibration"][name]["slope"], abs=1e-4)


def test_logits_named_probabilities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalotError, match="a probability lies between 0 and 1"):
        read(foreign(tmp_path / "p.csv"), "probabilities")


def test_calots_own_tables_hold_logits_whatever_their_range(tmp_path: Path) -> None:
    made = clustered(gain=0.0)
    narrow = made.frame.with_columns(**{name: probability(name).cast(pl.Float32) for name in LOGITS})
    path = replace(made, frame=narrow).write(tmp_path / "p.parquet")
    assert load_predictions(path).notes == ()
    assert read(path, "probabilities").notes == ()  # type: ignore[attr-defined]


def test_all_scores_equal_to_zero_are_logits_that_tell_nothing(tmp_path: Path) -> None:
    path = foreign(tmp_path / "ties.csv", **{name: pl.lit(0.0) for name in LOGITS})
    assert not load_predictions(path).logits.any()


def test_two_columns_of_one_score_must_agree(tmp_path: Path) -> None:
    frame = clustered(videos=6, frames=10).frame
    good = frame.with_columns(prob_cystic_plate=probability("logit_cystic_plate").round(2))
    good.write_csv(tmp_path / "good.csv")
    assert load_predictions(tmp_path / "good.csv")
    good.with_columns(prob_cystic_plate=1 - pl.col("prob_cystic_plate")).write_csv(tmp_path / "bad.csv")
    with pytest.raises(CalotError, match=r"logit_cystic_plate and prob_cystic_plate disagree in data row 1"):
        load_predictions(tmp_path / "bad.csv")


def test_clipping_keeps_the_order_and_counts_the_ties(tmp_path: Path) -> None:
    frame = clustered(videos=6, frames=10, gain=9.0).frame
    rounded = {name.replace("logit", "prob"): probability(name).round(3) for name in LOGITS}
    frame.with_columns(**rounded).drop(LOGITS).write_csv(tmp_path / "p.csv")
    with pytest.raises(CalotError, match=r"of exactly 0 or 1: saturated .* --clip-probabilities"):
        load_predictions(tmp_path / "p.csv")
    found = read(tmp_path / "p.csv", clip=True)
    stored = pl.read_csv(tmp_path / "p.csv", schema_overrides={"video": pl.String}).sort("video", "frame")
    for k, name in enumerate(CRITERIA):
        given_order = np.unique(stored[f"prob_{name}"].to_numpy(), return_inverse=True)[1]
        assert np.array_equal(given_order, np.unique(found.logits[:, k], return_inverse=True)[1])  # type: ignore[attr-defined]
    zeros = int((stored["prob_cystic_plate"] == 0).sum())
    assert any(note.startswith(f"prob_cystic_plate: {zeros} of exactly 0 and") for note in found.notes)  # type: ignore[attr-defined]


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_any_probabilities_become_finite_logits_in_their_order(
    values: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("p") / "p.parquet"
    scores = {f"prob_{name}": values for name in CRITERIA}
    labels = {f"label_{name}": [1] * len(values) for name in CRITERIA}
    pl.DataFrame({"video": ["a"] * len(values), "frame": range(len(values)), **scores, **labels}).write_parquet(path)
    found = read(path, clip=True).logits[:, 0]  # type: ignore[attr-defined]
    assert np.isfinite(found).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    inner = [(v, x) for v, x in zip(values, found, strict=True) if 1e-3 < v < 1 - 1e-3]
    assert all(expit(float(x)) == pytest.approx(v, rel=1e-5) for v, x in inner)
