"""A table that calot wrote is read as it was written or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prediction_tables import clustered

from calot.errors import CalotError
from calot.statistics import seal
from calot.statistics.predictions import Predictions, load_predictions
from calot.statistics.schema import FINGERPRINT_KEY, MANIFEST_KEY


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return clustered(videos=4, frames=6).write(tmp_path_factory.mktemp("sealed") / "val.parquet").read_bytes()


def test_any_flipped_byte_is_refused_by_name(written: bytes, tmp_path: Path) -> None:
    """Of data pages, metadata and digest alike, one random bit each."""
    path, rng = tmp_path / "val.parquet", np.random.default_rng(0)
    for place in rng.permutation(len(written))[:600]:
        flipped = bytearray(written)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(CalotError, match=r"val\.parquet: "):
            load_predictions(path)


@given(flips=st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 255)), min_size=1, max_size=60))
def test_no_number_of_damaged_bytes_gives_other_scores(
    flips: list[tuple[int, int]], written: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = bytearray(written)
    for place, change in flips:
        damaged[place % len(written)] ^= change
    path = tmp_path_factory.mktemp("damaged") / "val.parquet"
    path.write_bytes(damaged)
    if bytes(damaged) == written:
        return
    with pytest.raises(CalotError):
        load_predictions(path)


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw[: len(raw) // 2], lambda raw: raw + b"x"])
def test_a_cut_or_lengthened_file_is_refused(change: object, written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "val.parquet"
    path.write_bytes(change(written))  # type: ignore[operator]
    with pytest.raises(CalotError, match=r"val\.parquet"):
        load_predictions(path)


def test_a_table_edited_by_another_program_under_calots_metadata_is_refused(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "val.parquet"
    path.write_bytes(written)
    frame, metadata = pl.read_parquet(path), pl.read_parquet_metadata(path)
    metadata.pop("ARROW:schema")
    better = frame.with_columns(logit_cystic_plate=pl.col("label_cystic_plate").cast(pl.Float32) * 9)
    better.write_parquet(path, metadata=metadata)
    with pytest.raises(CalotError, match="damaged or edited"):
        load_predictions(path)


def test_a_table_of_before_is_read_with_one_line_that_says_so(tmp_path: Path) -> None:
    made = clustered()
    old = {FINGERPRINT_KEY: made.fingerprint, MANIFEST_KEY: made.manifest_hash}
    made.frame.write_parquet(tmp_path / "old.parquet", metadata=old)
    found = load_predictions(tmp_path / "old.parquet")
    assert found.digest == made.digest
    assert found.notes == ("written before calot kept digests: a damaged byte would go unnoticed",)
    assert found.frames_per_second == 25.0
    made.write(tmp_path / "new.parquet")
    assert load_predictions(tmp_path / "new.parquet").notes == ()


@pytest.mark.parametrize("key", [seal.KEY, "calot.digesu", "calot.later"])
def test_metadata_that_lost_its_digest_is_refused(key: str, tmp_path: Path) -> None:
    made = clustered()
    lost = {FINGERPRINT_KEY: made.fingerprint, MANIFEST_KEY: made.manifest_hash, key: "cbalot.sha256:00"}
    made.frame.write_parquet(tmp_path / "p.parquet", metadata=lost)
    with pytest.raises(CalotError, match="damaged or edited"):
        load_predictions(tmp_path / "p.parquet")


def test_another_groups_parquet_needs_no_digest(tmp_path: Path) -> None:
    made = clustered()
    made.frame.write_parquet(tmp_path / "theirs.parquet", metadata={"theirs": "x"})
    found = load_predictions(tmp_path / "theirs.parquet")
    assert (found.digest, found.notes) == (made.digest, ())


def test_equal_tables_are_equal_files(tmp_path: Path) -> None:
    made = clustered()
    assert made.write(tmp_path / "a.parquet").read_bytes() == made.write(tmp_path / "b.parquet").read_bytes()


def test_what_is_written_comes_back_whole(tmp_path: Path) -> None:
    made = Predictions(frame=clustered().frame, fingerprint="f", manifest_hash="m", frames_per_second=29.97)
    found = load_predictions(made.write(tmp_path / "p.parquet"))
    assert found.frame.equals(made.frame)
    assert (found.fingerprint, found.manifest_hash, found.frames_per_second) == ("f", "m", 29.97)
