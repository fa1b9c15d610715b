"""The reader of the Endoscapes layout: what it reads, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from endoscapes_folder import HEADER, Folder
from hypothesis import given
from hypothesis import strategies as st
from properties import searched

from calot.data.endoscapes.reader import read_endoscapes
from calot.data.readers import open_folder
from calot.errors import CalotError


def test_columns_are_read_by_criterion_and_two_of_three_raters_are_a_majority(folder: Callable[[], Folder]) -> None:
    train = read_endoscapes(folder().write()).split("train")
    key = train.table.filter(train.table["frame"] == 2175).row(0, named=True)
    assert key["keyframe"]
    assert key["soft_hepatocystic_triangle"] == pytest.approx(2 / 3)
    assert (key["label_two_structures"], key["label_hepatocystic_triangle"], key["label_cystic_plate"]) == (0, 1, 0)
    assert [key[f"vote{r}_hepatocystic_triangle"] for r in (1, 2, 3)] == [1, 1, 0]
    assert key["image"] == "train/2_2175.jpg"


def test_string_sorted_frames_and_videos_come_out_as_numbers(folder: Callable[[], Folder]) -> None:
    made = folder()
    made.video(1, split="train", frames=[975, 1000, 1025], votes={})
    made.rows.sort()  # as strings: 1,1000 before 1,975 and video 10 before 2
    train = read_endoscapes(made.write()).split("train")
    assert train.videos[:3] == ["1", "1", "1"]
    assert train.frames[:3].tolist() == [975, 1000, 1025]
    assert list(dict.fromkeys(train.videos)) == ["1", "2", "10"]


def test_votes_are_unknown_off_keyframes(folder: Callable[[], Folder]) -> None:
    train = read_endoscapes(folder().write()).split("train")
    assert (train.votes[~train.keyframes] == -1).all()
    assert (train.votes[train.keyframes] >= 0).all()


def test_frame_numbers_in_file_names_are_the_tables_own_neither_0_nor_1_based(folder: Callable[[], Folder]) -> None:
    table = read_endoscapes(folder().write()).table
    for split, video, frame, image in table.select("split", "video", "frame", "image").iter_rows():
        assert image == f"{split}/{video}_{frame}.jpg"


def test_a_folder_without_test_videos_reads_and_asking_for_test_is_an_error(folder: Callable[[], Folder]) -> None:
    made = folder()
    made.videos["test"] = []
    manifest = read_endoscapes(made.write())
    assert manifest.splits == ("train", "val")
    with pytest.raises(CalotError, match='split "test" has no frames'):
        manifest.split("test")


def test_the_manifest_gives_the_split_asked_for_or_an_error(folder: Callable[[], Folder]) -> None:
    manifest = read_endoscapes(folder().write())
    assert set(manifest.split("test").videos) == {"162"}
    with pytest.raises(CalotError, match='Did you mean "test"'):
        manifest.split("tets")


def test_a_video_in_two_splits_is_refused(folder: Callable[[], Folder]) -> None:
    made = folder()
    made.videos["val"].append(2)
    with pytest.raises(CalotError, match=r"video 2 is in train_vids\.txt and val_vids\.txt"):
        read_endoscapes(made.write())


@pytest.mark.parametrize("value", ["", "nan", "NaN", "-0.1", "1.5", "inf", "yes"])
def test_nan_label_is_never_read_as_negative(folder: Callable[[], Folder], value: str) -> None:
    made = folder()
    cells = made.rows[0].split(",")
    made.rows[0] = ",".join([*cells[:4], value, *cells[5:]])
    with pytest.raises(CalotError, match=r"all_metadata\.csv, line 2: C2 is .* not a negative"):
        read_endoscapes(made.write())


@pytest.mark.parametrize("value", ["12.5", "", "-25", "frame", "1e30", "nan"])
def test_a_frame_that_is_no_whole_number_is_refused(folder: Callable[[], Folder], value: str) -> None:
    made = folder()
    cells = made.rows[3].split(",")
    made.rows[3] = ",".join([cells[0], value, *cells[2:]])
    with pytest.raises(CalotError, match=r"line 5: frame is .* whole number"):
        read_endoscapes(made.write())


def test_the_mean_of_the_raters_must_be_the_label(folder: Callable[[], Folder]) -> None:
    made = folder()
    made.rows[2] = '10,10050,,1.0,0.0,0.0,True,"[0, 0, 0]","[0, 0, 0]","[0, 0, 0]",,'
    with pytest.raises(CalotError, match=r"video 10, frame 10050: soft_two_structures .* is not the mean of its 3"):
        read_endoscapes(made.write())


def test_a_duplicated_row_is_refused(folder: Callable[[], Folder]) -> None:
    made = folder()
    made.rows.append(made.rows[0])
    with pytest.raises(CalotError, match=r"video 10, frame 10000: .* more than once"):
        read_endoscapes(made.write())


@pytest.mark.parametrize("cell", ['""', '"[0, 1]"', '"[0, 2, 0]"', '"[0.5, 0, 0]"'])
def test_a_keyframe_needs_three_votes_of_each_rater(folder: Callable[[], Folder], cell: str) -> None:
    made = folder()
    made.rows[2] = f'10,10050,,0.0,0.0,0.0,True,"[0, 0, 0]",{cell},"[0, 0, 0]",,'
    with pytest.raises(CalotError, match="line 4: cvs_annotator_2"):
        read_endoscapes(made.write())


def test_a_missing_column_names_the_nearest(folder: Callable[[], Folder]) -> None:
    root = folder().write()
    table = root / "all_metadata.csv"
    table.write_text(table.read_text().replace("is_ds_keyframe", "is_ds_keyframes"))
    with pytest.raises(CalotError, match=r'column "is_ds_keyframe" is missing\. Did you mean "is_ds_keyframes"'):
        read_endoscapes(root)


def test_a_listed_video_without_frames_and_a_video_in_no_list_are_refused(folder: Callable[[], Folder]) -> None:
    made = folder()
    made.videos["train"].append(77)
    with pytest.raises(CalotError, match=r"no frame of video 77, which train_vids\.txt lists"):
        read_endoscapes(made.write())
    made.videos["train"].remove(77)
    made.videos["train"].remove(2)
    with pytest.raises(CalotError, match="video 2 is in no"):
        read_endoscapes(made.write())


def test_a_video_list_that_is_no_list_of_numbers_is_refused(folder: Callable[[], Folder]) -> None:
    root = folder().write()
    (root / "val_vids.txt").write_text("121.5\n")
    with pytest.raises(CalotError, match=r"no frame of video 121\.5, which val_vids\.txt lists"):
        read_endoscapes(root)


def test_masks_keep_their_source_and_a_human_one_wins(folder: Callable[[], Folder]) -> None:
    root = folder().write()
    for place, frames in (("semseg", ["2_2050"]), ("sam2", ["2_2050", "2_2075"])):
        (root / place).mkdir()
        for frame in frames:
            (root / place / f"{frame}.png").write_bytes(b"")
    table = open_folder(root, synthetic_masks=Path("sam2")).manifest.table
    found = table.filter(table["mask"].is_not_null()).select("frame", "mask", "mask_source").rows()
    assert found == [(2050, "semseg/2_2050.png", "human"), (2075, "sam2/2_2075.png", "synthetic")]
    with pytest.raises(CalotError, match="no such folder of synthetic masks"):
        open_folder(root, synthetic_masks=Path("sam3"))


def test_masks_do_not_change_the_hash_and_a_label_does(folder: Callable[[], Folder]) -> None:
    made = folder()
    root = made.write()
    plain = read_endoscapes(root).hash
    (root / "semseg").mkdir()
    (root / "semseg" / "2_2050.png").write_bytes(b"")
    assert read_endoscapes(root).hash == plain
    made.rows[0] = made.rows[0].replace("0.0,0.0,0.0", "0.0,1.0,0.0")
    assert read_endoscapes(made.write()).hash != plain


def test_the_hash_does_not_know_the_folder_nor_the_order_of_rows(folder: Callable[[], Folder]) -> None:
    made = folder()
    first = read_endoscapes(made.write()).hash
    made.root = made.root.with_name("elsewhere")
    made.rows.reverse()
    assert read_endoscapes(made.write()).hash == first


def test_a_rendered_folder_is_a_phantom(folder: Callable[[], Folder]) -> None:
    root = folder().write()
    (root / "phantom.json").write_text("{}")
    (root / "semseg").mkdir()
    (root / "semseg" / "2_2050.png").write_bytes(b"")
    manifest = read_endoscapes(root)
    assert manifest.dataset == "phantom"
    assert manifest.table["mask_source"].drop_nulls().to_list() == ["phantom"]


def test_no_folder_and_no_table_name_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(CalotError, match="no such folder"):
        read_endoscapes(tmp_path / "nothing")
    with pytest.raises(CalotError, match=r"all_metadata\.csv: not found"):
        read_endoscapes(tmp_path)


def test_reading_a_manifest_needs_neither_torch_nor_a_decoder() -> None:
    code = (
        "import sys, calot.data.endoscapes.reader, calot.data.clips, calot.data.sampling, calot.analysis.dataset_stats;"
        "print([m for m in ('torch', 'simplejpeg', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


_CELL = st.one_of(
    st.sampled_from(["1", "2", "25", "50", "0.0", "1.0", "nan", "", "True", "False", "[0, 1, 0]", "-1", "1e400"]),
    st.text(max_size=5),
)
_VOTES = ("[0, 1, 0]", "[0, 1, 0]", "[0, 1, 0]")
_TABLE = [
    [
        str(video),
        str(25 * frame),
        "",
        "0.0",
        "1.0",
        "0.0",
        str(frame == 2),
        *(_VOTES if frame == 2 else ("", "", "")),
        "",
        "",
    ]
    for video in (1, 2, 3)
    for frame in range(4)
]
_EDIT = st.tuples(st.integers(0, len(_TABLE) - 1), st.integers(0, 11), _CELL)


@searched(200)
@given(
    edits=st.lists(_EDIT, max_size=2),
    header=st.one_of(st.just(HEADER), st.just(HEADER), st.just(HEADER), st.text(max_size=40)),
    extra=st.one_of(st.just(""), st.just(""), st.text(max_size=30)),
    first=st.one_of(st.just("1.0\n"), st.just("1.0\n"), st.text(max_size=8)),
)
def test_any_table_is_a_manifest_or_a_calot_error(
    edits: list[tuple[int, int, str]], header: str, extra: str, first: str
) -> None:
    rows = [list(row) for row in _TABLE]
    for row, column, cell in edits:
        rows[row][column] = cell
    text = "\n".join([header, *[",".join(f'"{cell}"' for cell in row) for row in rows], extra])
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "all_metadata.csv").write_text(text, encoding="utf-8", errors="replace")
        (root / "train_vids.txt").write_text(first, encoding="utf-8", errors="replace")
        (root / "val_vids.txt").write_text("2.0\n3.0\n")
        try:
            manifest = read_endoscapes(root)
        except CalotError:
            return
    unedited = not edits and header == HEADER and not extra.strip() and first == "1.0\n"
    assert len(manifest) == 12 or not unedited
    assert set(manifest.labels.ravel().tolist()) <= {0, 1}
    assert manifest.hash == manifest.with_table(manifest.table).hash


@searched(60)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_a_calot_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "train_vids.txt").write_text("1.0\n")
        (root / "all_metadata.csv").write_bytes(HEADER.encode() + b"\n" + data)
        with pytest.raises(CalotError):
            read_endoscapes(root)
