"""Tables as other people write them: spreadsheets of any country, Excel, wide, mangled or hostile parquet."""

from __future__ import annotations

import csv
import io
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import openpyxl
import polars as pl
import pytest
from prediction_tables import HEADER, clustered

from calot.errors import CalotError
from calot.statistics import table_files
from calot.statistics.predictions import Predictions, Reading, load_predictions
from calot.statistics.schema import LABELS, LOGITS

MADE = clustered(videos=3, frames=4)
PLAIN = MADE.frame.select(HEADER)


def text(frame: pl.DataFrame = PLAIN, *, separator: str = ",", comma: bool = False) -> str:
    rows = [[str(cell).replace(".", ",") if comma else str(cell) for cell in row] for row in frame.rows()]
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="\n").writerows([frame.columns, *rows])
    return out.getvalue()


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("semicolons.csv", text(separator=";").encode()),
        ("german.csv", text(separator=";", comma=True).encode("utf-8-sig")),
        ("tabs.tsv", text(separator="\t").encode()),
        ("tabs.csv", text(separator="\t", comma=True).encode()),
        ("bars.csv", text(separator="|").encode()),
        ("excel.csv", b"sep=;\r\n" + text(separator=";", comma=True).replace("\n", "\r\n").encode()),
        ("unicode.csv", text(separator="\t").encode("utf-16")),
        ("wide_unicode.csv", text().encode("utf-32")),
        ("mark.csv", text().encode("utf-8-sig")),
        ("mac.csv", text().replace("\n", "\r").encode()),
        ("windows.csv", text().replace("\n", "\r\n").encode()),
        ("empty_lines.csv", b"\n" + text().replace("\n", "\n\n").encode()),
        ("spaces.csv", text().replace(",", " , ").encode()),
        ("CAPITALS.CSV", text().encode()),
    ],
)
def test_one_table_is_one_table_however_it_was_saved(name: str, content: bytes, tmp_path: Path) -> None:
    found = load_predictions(write(tmp_path / name, content))
    assert found.digest == MADE.digest
    assert np.array_equal(found.labels, MADE.labels)


def test_how_a_table_was_read_is_said(tmp_path: Path) -> None:
    found = load_predictions(write(tmp_path / "p.csv", text(separator=";", comma=True).encode("utf-16")))
    assert found.notes[:3] == ("read as UTF-16", "columns separated by ';'", "decimal commas")
    assert not [note for note in load_predictions(write(tmp_path / "q.csv", text())).notes if "separated" in note]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace(",", ".", 1), "with a point, where other numbers have decimal commas"),
        (lambda t: t.replace(";25;", ";1,025;", 1), "write whole numbers without a comma"),
        (lambda t: t.replace(";25;", ";1.025;", 1), "with a point, where other numbers"),
    ],
)
def test_numbers_that_could_be_thousands_are_refused(change: Callable[[str], str], said: str, tmp_path: Path) -> None:
    with pytest.raises(CalotError, match=said):
        load_predictions(write(tmp_path / "p.csv", change(text(separator=";", comma=True))))


def test_a_comma_within_a_comma_separated_file_is_no_decimal(tmp_path: Path) -> None:
    with pytest.raises(CalotError, match="frame in data row 1 is '1,000', not a number"):
        load_predictions(write(tmp_path / "p.csv", text().replace(",0,", ',"1,000",', 1)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (text().encode("utf-16-le"), "NUL bytes"),
        (text().replace("0,0,", "0\0,0,", 1).encode(), "NUL bytes"),
        (text().encode().replace(b"label", b"l\xffbel", 1), "is not UTF-8; save it as UTF-8"),
        (text().encode("utf-16")[:-1], "is not UTF-16"),
        (b"PAR1" + text().encode(), "rename it"),
        (b"PK\x03\x04" + text().encode(), "rename it"),
        (text().replace("logit_cystic_plate", "frame").encode(), "column 'frame' appears twice"),
        (b"\xff\xfe", "empty"),
        (('"' + "x" * 200_000 + '",').encode() + text().encode(), "malformed CSV"),
    ],
)
def test_what_is_no_such_table_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(CalotError, match=rf"p\.csv: .*{said}"):
        load_predictions(write(tmp_path / "p.csv", content))


@pytest.mark.parametrize("video", ['"a\nb"', "x" * 300, "a\x1b[31m", "\u202ea"])
def test_an_id_that_cannot_be_shown_is_refused_in_a_short_line(video: str, tmp_path: Path) -> None:
    rows = text().splitlines()
    rows[1] = video + rows[1][rows[1].index(",") :]
    with pytest.raises(CalotError, match="data row 1: video is") as caught:
        load_predictions(write(tmp_path / "p.csv", "\n".join(rows)))
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


def test_columns_that_nobody_asked_for_are_left_alone(tmp_path: Path) -> None:
    lines = [f"{line},note {i},x,," for i, line in enumerate(text().splitlines())]
    lines[0] = text().splitlines()[0] + ",note,note,,"
    assert load_predictions(write(tmp_path / "p.csv", "\n".join(lines))).digest == MADE.digest


@pytest.mark.parametrize(("ending", "count"), [("csv", 100_000), ("parquet", 20_000)])
def test_a_table_of_a_hundred_thousand_columns_is_read_in_seconds(ending: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / f"p.{ending}"
    names = [f"feature_{i}" for i in range(count)]
    if ending == "csv":
        head, *rows = text().splitlines()
        zeros = "," + ",".join("0" for _ in names)
        write(path, "\n".join([head + "," + ",".join(names), *(row + zeros for row in rows)]))
    else:
        PLAIN.hstack([pl.Series(name, [0] * PLAIN.height, dtype=pl.Int8) for name in names]).write_parquet(path)
    start = time.perf_counter()
    assert load_predictions(path).digest == MADE.digest
    assert time.perf_counter() - start < 60
    with pytest.raises(CalotError, match="--map names column 'nosuch'") as caught:
        load_predictions(path, reading=Reading(columns={"nosuch": "soft_cystic_plate"}))
    assert len(str(caught.value)) < 2000


HOSTILE = {
    "list": pl.concat_list(pl.lit("a")),
    "struct": pl.struct(pl.lit("a").alias("x")),
    "binary": pl.lit(b"a"),
    "date": pl.lit(date(2026, 1, 1)),
    "boolean": pl.lit(True),
    "array": pl.concat_list(pl.lit(1)).cast(pl.Array(pl.Int64, 1)),
    "nested": pl.concat_list(pl.struct(pl.lit(1).alias("x"))),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize(
    "column", ["video", "frame", "logit_cystic_plate", "label_cystic_plate", "soft_cystic_plate", "seed", "split"]
)
def test_a_column_of_a_type_that_holds_no_such_thing_is_named(column: str, kind: str, tmp_path: Path) -> None:
    MADE.frame.with_columns(HOSTILE[kind].alias(column)).write_parquet(tmp_path / "p.parquet")
    allowed = kind == "boolean" and column.startswith(("label", "soft"))
    if allowed:
        assert load_predictions(tmp_path / "p.parquet")
        return
    with pytest.raises(CalotError, match=rf"p\.parquet: .*{column}"):
        load_predictions(tmp_path / "p.parquet")


@pytest.mark.parametrize(
    "video",
    [
        pl.col("video").cast(pl.Categorical),
        pl.col("video").cast(pl.Enum(["0", "1", "2"])),
        pl.col("video").cast(pl.UInt16),
        pl.col("video").cast(pl.Float64),
        pl.col("video").cast(pl.Decimal(10, 2)),
        "00" + pl.col("video"),
    ],
)
def test_ids_of_any_sane_type_are_the_same_ids(video: pl.Expr, tmp_path: Path) -> None:
    PLAIN.with_columns(video.alias("video")).write_parquet(tmp_path / "p.parquet")
    assert load_predictions(tmp_path / "p.parquet").digest == MADE.digest


@pytest.mark.parametrize("number", [10**9, 2**53 - 1])
def test_large_frame_numbers_are_read_and_scored(number: int, tmp_path: Path) -> None:
    PLAIN.with_columns(frame=pl.col("frame") + number - 75).write_parquet(tmp_path / "p.parquet")
    assert load_predictions(tmp_path / "p.parquet").frames.max() == number


@pytest.mark.parametrize("column", ["label_cystic_plate", "frame", "seed"])
@pytest.mark.parametrize("number", [2**53, -1, 2**63 - 1])
def test_a_number_beyond_sense_is_named(column: str, number: int, tmp_path: Path) -> None:
    PLAIN.with_columns(pl.lit(number).alias(column)).write_parquet(tmp_path / "p.parquet")
    with pytest.raises(CalotError, match=rf"p\.parquet: {column} in data row 1"):
        load_predictions(tmp_path / "p.parquet")


def test_a_parquet_of_a_thousand_million_rows_is_refused_before_it_is_read(tmp_path: Path) -> None:
    rows = 50_000_001
    pl.DataFrame({"video": pl.repeat(1, rows, dtype=pl.Int8, eager=True)}).write_parquet(tmp_path / "p.parquet")
    with pytest.raises(CalotError, match=r"50,000,001 rows; a table of predictions has at most"):
        load_predictions(tmp_path / "p.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"\x00" * 100, b"PAR1" + b"\xff" * 200 + b"PAR1"])
def test_a_mangled_parquet_is_named_in_one_line(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(CalotError, match=r"p\.parquet: not a readable parquet") as caught:
        load_predictions(write(tmp_path / "p.parquet", content))
    assert "\n" not in str(caught.value)


def workbook(path: Path, *, sheets: dict[str, list[list[object]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def excel_rows() -> list[list[object]]:
    rows = PLAIN.with_columns(pl.col("video").cast(pl.Int64)).rows()
    return [PLAIN.columns, *(list(row) for row in rows)]


def test_an_excel_sheet_is_read_as_its_csv(tmp_path: Path) -> None:
    path = workbook(tmp_path / "p.xlsx", sheets={"Results": excel_rows(), "Empty": []})
    found = load_predictions(path)
    assert np.allclose(found.logits, MADE.logits)
    assert np.array_equal(found.labels, MADE.labels)
    assert found.videos.tolist() == MADE.videos.tolist()
    assert found.notes[0] == "sheet 'Results'"


def test_a_workbook_that_could_mean_two_tables_or_dates_is_refused(tmp_path: Path) -> None:
    two = workbook(tmp_path / "two.xlsx", sheets={"a": excel_rows(), "b": excel_rows()})
    with pytest.raises(CalotError, match=r"two\.xlsx: needs exactly one sheet with rows, has: 'a', 'b'"):
        load_predictions(two)
    rows = excel_rows()
    rows[2][0] = date(2026, 4, 3)
    dated = workbook(tmp_path / "dated.xlsx", sheets={"a": rows})
    with pytest.raises(CalotError, match=r"dated\.xlsx: sheet 'a', row 3: holds a date"):
        load_predictions(dated)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"not a zip at all"])
def test_a_mangled_workbook_is_named(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(CalotError, match=r"p\.xlsx: not a readable Excel file"):
        load_predictions(write(tmp_path / "p.xlsx", content))


def test_a_workbook_that_unpacks_beyond_reason_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b" " * (4 << 20))
    monkeypatch.setattr(table_files, "LARGEST_TABLE", 1 << 20)
    with pytest.raises(CalotError, match="unpacks to"):
        load_predictions(tmp_path / "bomb.xlsx")


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    renamed = PLAIN.rename({"logit_two_structures": "score = c1", "video": "case"})
    path = write(tmp_path / "p.csv", text(renamed))
    told = Reading(columns={"score = c1": "logit_two_structures", "case": "video"})
    assert load_predictions(path, reading=told).digest == MADE.digest
    with pytest.raises(CalotError, match=r"column 'video' is missing\. Available: case, score = c1"):
        load_predictions(path)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": "logit_two_structure"}, 'Did you mean "logit_two_structures"'),
        ({"a": "video", "b": "video"}, "two columns for 'video'"),
        ({"nosuch": "seed"}, "names column 'nosuch', which the table lacks"),
        ({"logit_cystic_plate": "logit_two_structures"}, "both stand for 'logit_two_structures'"),
    ],
)
def test_a_map_that_cannot_be_is_refused(columns: dict[str, str], said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", text())
    with pytest.raises(CalotError, match=said):
        load_predictions(path, reading=Reading(columns=columns))


def test_predictions_without_labels_are_read_and_say_so(tmp_path: Path) -> None:
    bare = load_predictions(write(tmp_path / "p.csv", text(PLAIN.drop(LABELS))))
    assert (bare.labelled, bare.soft, bare.digest) == (False, None, MADE.digest)
    with pytest.raises(CalotError, match=r"p\.csv: no labels: nothing can be scored"):
        _ = bare.labels
    empty = PLAIN.with_columns(pl.lit(None).alias(name) for name in LABELS)
    assert not Predictions(frame=empty).labelled
    back = load_predictions(bare.write(tmp_path / "p.parquet"))
    assert not back.labelled
    assert back.frame.equals(bare.frame)


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_some_criteria_or_some_frames_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CalotError, match=f"'{name}' is missing"):
        load_predictions(write(tmp_path / "p.csv", text(PLAIN.drop(name))))
    holes = PLAIN.with_columns(pl.when(pl.int_range(pl.len()) > 2).then(pl.col(name)).alias(name))
    holes.write_csv(tmp_path / "holes.csv")
    with pytest.raises(CalotError, match=f"{name} in data row 1 is missing; .* never read as negative"):
        load_predictions(tmp_path / "holes.csv")


def test_calots_own_table_of_partly_labelled_frames_scores_those_that_are(tmp_path: Path) -> None:
    some = MADE.frame.with_columns(pl.when(pl.int_range(pl.len()) > 2).then(pl.col("label_cystic_plate")))
    path = replace(MADE, frame=some).write(tmp_path / "p.parquet")
    found = load_predictions(path)
    with pytest.raises(CalotError, match="some labels are missing, and a missing label is never read as negative"):
        _ = found.labels
    scored = found.with_labels()
    assert len(scored.labels) == len(MADE.labels) - 3
    assert scored.notes[-1] == "9 of 12 frames have labels of all criteria; the others are not scored"
    assert np.array_equal(scored.labels, MADE.labels[3:])


def test_scores_are_needed(tmp_path: Path) -> None:
    with pytest.raises(CalotError, match=r"'logit_two_structures' \(or 'prob_two_structures'\) is missing"):
        load_predictions(write(tmp_path / "p.csv", text(PLAIN.drop(LOGITS))))
