"""Reading, checking and writing tables of predictions."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from prediction_tables import HEADER, clustered, table
from properties import searched

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.predictions import Predictions, load_predictions

ROWS = ["a,0,1.5,-2,0.25,1,0,0", "a,25,0,0,0,0,0,1", "b,0,-1,3,2,0,1,0"]


def write_csv(path: Path, *, header: list[str] | None = None, rows: list[str] | None = None) -> Path:
    lines = [",".join(HEADER if header is None else header), *(ROWS if rows is None else rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_minimal_csv_is_read_and_says_what_is_unknown(tmp_path: Path) -> None:
    found = load_predictions(write_csv(tmp_path / "p.csv"))
    assert found.logits.dtype == np.float32
    assert found.logits.tolist() == [[1.5, -2, 0.25], [0, 0, 0], [-1, 3, 2]]
    assert found.labels.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert found.videos.tolist() == ["a", "a", "b"]
    assert found.criteria == CRITERIA
    assert found.soft is None
    assert found.seeds == (None,)
    assert {found.dataset, found.split, found.protocol, found.fingerprint, found.manifest_hash} == {"unknown"}
    assert "rater mean" in found.notes[0]


def test_frames_are_sorted_as_numbers_not_as_text(tmp_path: Path) -> None:
    rows = [f"7,{frame},0,0,0,0,0,0" for frame in (1000, 25, 100, 5)]
    assert load_predictions(write_csv(tmp_path / "p.csv", rows=rows)).frames.tolist() == [5, 25, 100, 1000]


def test_parquet_returns_bit_for_bit_with_its_metadata(tmp_path: Path) -> None:
    made = clustered()
    made.write(tmp_path / "deep" / "val.parquet")
    found = load_predictions(tmp_path / "deep" / "val.parquet")
    assert found.digest == made.digest
    assert found.frame.equals(made.frame)
    assert (found.fingerprint, found.manifest_hash) == (made.fingerprint, made.manifest_hash)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["val.parquet"]


def test_csv_and_parquet_of_one_table_are_equal(tmp_path: Path) -> None:
    made = clustered()
    made.frame.write_csv(tmp_path / "p.csv")
    assert load_predictions(tmp_path / "p.csv").digest == made.digest


def test_the_digest_ignores_the_seed_and_sees_one_bit_of_one_score() -> None:
    made = clustered(run=0)
    other = Predictions(frame=made.frame.with_columns(pl.lit(7).alias("seed")))
    assert other.digest == made.digest
    scores = made.logits[:, 0].copy()
    scores[3] = np.nextafter(scores[3], np.float32(9))
    assert Predictions(frame=made.frame.with_columns(pl.Series("logit_two_structures", scores))).digest != made.digest


def test_probabilities_become_logits_and_the_reader_says_so(tmp_path: Path) -> None:
    header = [name.replace("logit_", "prob_") for name in HEADER]
    found = load_predictions(write_csv(tmp_path / "p.csv", header=header, rows=["a,0,0.5,0.25,0.9,1,0,1"]))
    assert found.logits[0] == pytest.approx([0, np.log(1 / 3), np.log(9)], abs=1e-6)
    assert "converted to logits" in found.notes[0]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        *((end, "Store raw logits as logit_hepatocystic_triangle instead, or .* --clip-prob") for end in ("0", "1")),
        *((beyond, "lies between 0 and 1") for beyond in ("1.2", "-0.1", "nan", "", "inf")),
        ("87.5", "Divide percentages by 100"),
    ],
)
def test_a_probability_that_has_no_logit_is_an_error_with_its_remedy(tmp_path: Path, value: str, said: str) -> None:
    header = [name.replace("logit_", "prob_") for name in HEADER]
    rows = ["a,0,0.5,0.25,0.9,1,0,1", f"a,1,0.5,{value},0.9,1,0,1"]
    with pytest.raises(CalotError, match=rf"prob_hepatocystic_triangle in data row 2 is .*{said}"):
        load_predictions(write_csv(tmp_path / "p.csv", header=header, rows=rows))


@pytest.mark.parametrize("value", ["nan", "", "inf", "-inf", "1e39", "NaN"])
def test_a_score_that_is_no_finite_float32_is_an_error_naming_the_row(tmp_path: Path, value: str) -> None:
    with pytest.raises(CalotError, match=r"p\.csv: logit_cystic_plate in data row 4"):
        load_predictions(write_csv(tmp_path / "p.csv", rows=[*ROWS, f"c,0,1,1,{value},0,0,0"]))


@pytest.mark.parametrize("value", ["", "nan", "0.33", "2", "-1"])
def test_a_label_that_is_not_0_or_1_is_an_error_never_a_negative(tmp_path: Path, value: str) -> None:
    with pytest.raises(CalotError, match="label_two_structures in data row 4"):
        load_predictions(write_csv(tmp_path / "p.csv", rows=[*ROWS, f"c,0,1,1,1,{value},0,0"]))


def test_null_labels_in_a_typed_table_are_an_error() -> None:
    broken = clustered().frame.with_columns(pl.lit(None, dtype=pl.Int8).alias("label_cystic_plate"))
    with pytest.raises(CalotError, match="never read as negative"):
        _ = Predictions(frame=broken).labels


def test_a_missing_column_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    header = [name.replace("logit_cystic_plate", "logit_cystic_plat") for name in HEADER]
    with pytest.raises(CalotError, match=r'is missing. Did you mean "logit_cystic_plat"'):
        load_predictions(write_csv(tmp_path / "p.csv", header=header))


def test_the_same_frame_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CalotError, match="video 'a', frame 0, seed None appears twice"):
        load_predictions(write_csv(tmp_path / "p.csv", rows=[*ROWS, ROWS[0]]))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "empty"),
        (",".join(HEADER) + "\n", "no rows"),
        ("video;frame\na;1\n", "'logit_two_structures' .* is missing"),
        (",".join([*HEADER, "video"]) + "\n", "appears twice"),
        (",".join(HEADER) + "\na,0,1\n", "data row 1 has 3 cells"),
        (",".join(HEADER) + '\n"a,0,1\n', "malformed CSV"),
        (",".join(HEADER) + "\n,0,1,1,1,0,0,0\n", "data row 1: video is empty"),
        (",".join(HEADER) + "\na,x,1,1,1,0,0,0\n", "frame in data row 1 is 'x', not a number"),
        (",".join(HEADER) + "\na,1.5,1,1,1,0,0,0\n", "whole number"),
        (",".join(HEADER) + "\na,-5,1,1,1,0,0,0\n", "whole number"),
    ],
)
def test_a_broken_csv_is_named(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    with pytest.raises(CalotError, match=match):
        load_predictions(tmp_path / "p.csv")


def test_two_protocols_in_one_table_are_refused() -> None:
    frame = clustered().frame
    mixed = frame.with_columns(
        pl.when(pl.col("frame") == 0).then(pl.lit("all-frames")).otherwise("protocol").alias("protocol")
    )
    with pytest.raises(CalotError, match="one file per protocol"):
        Predictions(frame=mixed)


def test_a_missing_file_and_an_unknown_ending_are_named(tmp_path: Path) -> None:
    with pytest.raises(CalotError, match="no such file"):
        load_predictions(tmp_path / "p.csv")
    (tmp_path / "p.txt").write_text("x")
    with pytest.raises(CalotError, match="unknown ending"):
        load_predictions(tmp_path / "p.txt")


def test_a_truncated_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    clustered().frame.write_parquet(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CalotError, match="not a readable parquet"):
        load_predictions(path)


def test_seeds_with_different_frames_cannot_be_split_into_one_result() -> None:
    a, b = clustered(run=0).frame, clustered(run=1).frame
    both = Predictions(frame=pl.concat([a, b]))
    assert [part.seeds for part in both.by_seed()] == [(0,), (1,)]
    with pytest.raises(CalotError, match="seeds 0 and 1 differ: 1 rows only in the first"):
        Predictions(frame=pl.concat([a, b[1:]])).by_seed()


def test_rows_in_any_order_are_the_same_predictions() -> None:
    made = clustered()
    assert Predictions(frame=made.frame.sample(fraction=1.0, shuffle=True, seed=3)).digest == made.digest


CELL = st.one_of(
    st.sampled_from(
        ["", "0", "1", "nan", "inf", "-1", "a", "1e40", "0.5", '"', "1_0", "٣", "é", "\x00", "true", "1e400"]
    ),
    st.text(max_size=4),
    st.floats().map(str),
)


@searched(300, HealthCheck.function_scoped_fixture)
@given(
    header=st.lists(
        st.sampled_from([*HEADER, "seed", "split", "soft_cystic_plate", "prob_cystic_plate", "x"]), max_size=14
    ),
    rows=st.lists(st.lists(CELL, min_size=1, max_size=12), max_size=4),
    full=st.booleans(),
    junk=st.binary(max_size=6),
)
def test_no_csv_however_broken_ends_in_a_stack_trace(
    tmp_path: Path, header: list[str], rows: list[list[str]], full: bool, junk: bytes
) -> None:
    names = HEADER if full else header
    lines = [",".join(names), *(",".join((row + ["0"] * len(names))[: len(names)] if full else row) for row in rows)]
    path = tmp_path / "p.csv"
    path.write_bytes("\n".join(lines).encode(errors="ignore") + (junk if not full else b""))
    found = None
    with contextlib.suppress(CalotError):
        found = load_predictions(path)
    if found is not None:
        assert np.isfinite(found.logits).all()
        assert set(np.unique(found.labels)) <= {0, 1}


def test_table_helper_makes_what_the_reader_takes() -> None:
    assert Predictions(frame=table([[1, 0, 1]], logits=[[1, 2, 3]], videos=["v"])).frames.tolist() == [0]


def test_one_operation_written_in_several_ways_is_one(tmp_path: Path) -> None:
    rows = [row.split(",", 2) for row in (*ROWS, *ROWS)]
    text = [
        f"{name},{25 * i},{rest}"
        for i, ((_, _, rest), name) in enumerate(zip(rows, ["1", "001", "1.0"] * 2, strict=True))
    ]
    found = load_predictions(write_csv(tmp_path / "p.csv", rows=text))
    assert set(found.videos.tolist()) == {"1"}


@pytest.mark.parametrize("word", ["nan", "None", "NA", "null", "１", "a\u200b", "\x1b[31m"])
def test_a_lost_or_disguised_video_is_an_error_naming_its_row(tmp_path: Path, word: str) -> None:
    with pytest.raises(CalotError, match=r"p\.csv: data row 4: video is"):
        load_predictions(write_csv(tmp_path / "p.csv", rows=[*ROWS, f"{word},0,1,1,1,0,0,0"]))


@pytest.mark.parametrize("column", [pl.lit(b"a"), pl.lit(True), pl.concat_list(pl.lit(1)), pl.lit(float("nan"))])
def test_a_typed_column_that_holds_no_ids_is_refused(column: pl.Expr) -> None:
    with pytest.raises(CalotError, match="video"):
        Predictions(frame=clustered().frame.with_columns(video=column))


@pytest.mark.parametrize(("written", "read"), [("Test", "test"), (" VAL", "val"), ("TRAIN", "train")])
def test_a_split_of_other_capitals_is_the_split(written: str, read: str) -> None:
    assert Predictions(frame=clustered().frame.with_columns(split=pl.lit(written))).split == read


@pytest.mark.parametrize("written", ["testing", "test_set", "holdout"])
def test_a_split_that_is_none_of_the_three_is_refused(written: str) -> None:
    with pytest.raises(CalotError, match="Available: train, val, test"):
        Predictions(frame=clustered().frame.with_columns(split=pl.lit(written)))


@pytest.mark.parametrize("number", ["１", "٣", "1_0"])
def test_digits_of_other_scripts_are_no_numbers(tmp_path: Path, number: str) -> None:
    with pytest.raises(CalotError, match=r"frame in data row 1 .* not a number"):
        load_predictions(write_csv(tmp_path / "p.csv", rows=[f"a,{number},1,1,1,0,0,0"]))
