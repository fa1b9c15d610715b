"""`calot data verify`: a clean folder has no finding; each way to break it has its own, exit code 1 and no trace."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result
from whole_folder import HEIGHT, WIDTH, edited, edited_json, write_mask, write_whole

from calot.cli.data import app
from calot.data.endoscapes import published
from calot.data.endoscapes.published import SIZES
from calot.data.endoscapes.reader import read_endoscapes
from calot.data.verify import Finding, verify
from calot.data.verify.finding import SHOWN
from calot.errors import CalotError
from calot.phantom import PhantomSpec, generate

TABLES = os.environ.get("CALOT_REAL_LABELS")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whole(tmp_path_factory.mktemp("whole") / "endoscapes")


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "endoscapes")
    return tmp_path / "endoscapes"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["verify", *(str(a) for a in arguments)])


def findings(root: Path) -> list[Finding]:
    """Through the command: exit code 1, no exception, and JSON that holds what the function returns."""
    done = call(root, "--json")
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 1
    found = [Finding(**each) for each in json.loads(done.stdout)["findings"]]
    assert tuple(found) == verify(root).findings
    assert all(f.message and f.remedy.endswith(".") for f in found)
    return found


def only(root: Path, *, check: str) -> Finding:
    found = findings(root)
    assert [f.check for f in found] == [check], [str(f) for f in found]
    return found[0]


def test_a_whole_folder_has_no_finding(root: Path) -> None:
    done = call(root)
    assert done.exit_code == 0, done.stdout
    assert "No findings." in done.stdout
    assert done.stdout.rstrip().endswith(f"Next: calot data stats {root} --protocol keyframes")


def test_json_holds_findings_notes_and_counts(root: Path) -> None:
    done = call(root, "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert set(found) == {"findings", "notes", "counts"}
    assert found["findings"] == []
    expected = {"videos": 4, "frames": 48, "keyframes": 12, "images": 48, "masks": 12, "black": 0, "COCO files": 9}
    assert expected.items() <= found["counts"].items()


def test_a_phantom_has_no_finding(tmp_path: Path) -> None:
    out = tmp_path / "phantom"
    generate(out, PhantomSpec(videos=3, seed=5, mean_frames=20.0, min_frames=18, max_frames=24))
    done = call(out)
    assert done.exit_code == 0, done.stdout


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    write_whole(tmp_path / "above" / "endoscapes")
    for path, message in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path, "not a data set"),
        (tmp_path / "above", f"Did you mean {tmp_path / 'above' / 'endoscapes'}"),
    ):
        with pytest.raises(CalotError, match=message):
            verify(path)


def test_findings_are_grouped_the_first_shown_and_the_rest_counted(root: Path) -> None:
    for path in sorted((root / "train").glob("2_*.jpg")):
        path.unlink()
    done = call(root)
    assert "missing-images: 12 findings" in done.stdout
    assert done.stdout.count("train/2_") == SHOWN
    assert f"and {12 - SHOWN} more" in done.stdout
    assert done.stdout.rstrip().endswith(f"Next: calot data verify {root} --json")
    assert len(findings(root)) == 12


# --- the table


def test_a_missing_column_is_named_with_the_nearest(root: Path) -> None:
    path = root / "all_metadata.csv"
    path.write_text(path.read_text().replace("is_ds_keyframe", "is_keyframe", 1))
    found = findings(root)
    assert [f.message for f in found if f.check == "columns"] == [
        'column "is_ds_keyframe" is missing. Did you mean "is_keyframe"? Available: '
        "vid, frame, avg_cvs, C1, C2, C3, is_keyframe, cvs_annotator_1, cvs_annotator_2, cvs_annotator_3, "
        "mask_path, label_path.",
        'column "is_keyframe" is not one of Endoscapes',
    ]


def test_an_extra_column_is_named(root: Path) -> None:
    path = root / "all_metadata.csv"
    path.write_text("\n".join(f"{line},1" for line in path.read_text().splitlines()).replace(",1\n", ",weight\n", 1))
    assert only(root, check="columns").message == 'column "weight" is not one of Endoscapes'


@pytest.mark.parametrize(
    ("column", "value", "check"),
    [
        ("vid", "nan", "cells"),
        ("frame", "10025.5", "cells"),
        ("frame", "-25", "cells"),
        ("is_ds_keyframe", "maybe", "cells"),
        ("C1", "1.5", "labels"),
        ("C2", "-0.1", "labels"),
        ("C3", "0.5", "labels"),
        ("cvs_annotator_2", "[0, 1, 2]", "raters"),
        ("cvs_annotator_2", "[0, 1]", "raters"),
        ("cvs_annotator_3", "", "raters"),
    ],
)
def test_a_wrong_cell_is_found_with_its_line(root: Path, column: str, value: str, check: str) -> None:
    with edited(root) as rows:
        rows[1][column] = value
    found = [f for f in findings(root) if f.check == check]
    assert [(f.file, f.row) for f in found] == [("all_metadata.csv", 3)]
    assert column in found[0].message


@pytest.mark.parametrize("value", ["", "nan", "NaN", "None"])
def test_pitfall_nan_label_read_as_negative(root: Path, value: str) -> None:
    with edited(root) as rows:
        rows[4]["C2"] = value
    found = only(root, check="labels")
    assert found.row == 6
    assert "an unknown label is not a negative" in found.message


def test_a_label_that_is_not_the_mean_of_its_raters_is_found(root: Path) -> None:
    with edited(root) as rows:
        rows[1]["C1"] = repr(1 / 3)
    found = [f for f in findings(root) if f.check == "labels"]
    assert [(f.row, f.message) for f in found] == [(3, "C1 is 0.333333, its raters [0, 0, 0] have the mean 0")]


def test_a_rater_off_keyframes_is_found(root: Path) -> None:
    with edited(root) as rows:
        rows[2]["cvs_annotator_1"] = "[1, 1, 1]"
    assert only(root, check="raters").row == 4


def test_a_row_that_stands_twice_is_found_with_both_lines(root: Path) -> None:
    with edited(root) as rows:
        rows.append(dict(rows[3]))
        rows.append(dict(rows[4], C1="1.0"))
    found = findings(root)
    assert [(f.check, f.row) for f in found] == [("duplicates", 50), ("duplicates", 51)]
    assert "is already in line 5, with the same labels" in found[0].message
    assert "is already in line 6, with other labels" in found[1].message


def test_a_row_of_too_few_cells_is_found(root: Path) -> None:
    path = root / "all_metadata.csv"
    path.write_text(path.read_text() + "10,11300,,0\n")
    assert any(f.check == "table" and "4 cells under 12 columns" in f.message for f in findings(root))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"vid,frame\n", b"\xff\xfe\x00\x01", b'"', b"PK\x03\x04" * 99])
def test_a_table_that_is_none_is_a_finding(root: Path, content: bytes) -> None:
    (root / "all_metadata.csv").write_bytes(content)
    assert {"table", "columns"} & {f.check for f in findings(root)}


def test_no_table_beside_images_is_a_finding(root: Path) -> None:
    (root / "all_metadata.csv").unlink()
    assert "table" in {f.check for f in findings(root)}


def test_a_video_without_keyframes_is_found(root: Path) -> None:
    with edited(root) as rows:
        for row in rows[:12]:
            row.update({"is_ds_keyframe": "False", **{f"cvs_annotator_{r}": "" for r in (1, 2, 3)}})
    assert "video 10 has no keyframe: the protocol keyframes never scores it" in [f.message for f in findings(root)]


# --- frames


def test_pitfall_windows_across_a_gap(root: Path) -> None:
    with edited(root) as rows:
        del rows[4:6]
    for name in ("10_10100", "10_10125"):
        (root / "train" / f"{name}.jpg").unlink()
    found = [f for f in findings(root) if f.check == "gaps"]
    assert [f.message for f in found] == ["video 10: 2 frames missing, 10075 to 10150"]


def test_pitfall_0_based_1_based_frame_numbers(root: Path) -> None:
    for path in sorted((root / "train").glob("10_*.jpg")):
        video, frame = path.stem.split("_")
        path.rename(path.with_name(f"{video}_{int(frame) + 1}.jpg"))
    found = findings(root)
    assert [f.check for f in found] == ["missing-images"] * 12 + ["extra-images"] * 12
    assert "but 10_10001.jpg is: are frames numbered another way" in found[0].message


def test_a_step_that_is_not_25_is_found(root: Path) -> None:
    with edited(root) as rows:
        rows[0]["frame"] = "10001"
    assert "video 10: frame 10025 follows 10001, a step of 24; need 25" in [f.message for f in findings(root)]


def test_pitfall_string_sorted_frames(root: Path) -> None:
    with edited(root) as rows:
        rows.sort(key=lambda row: (row["vid"], row["frame"][::-1]))
    assert verify(root).passed


# --- splits


def test_pitfall_a_video_in_two_splits(root: Path) -> None:
    with (root / "val_vids.txt").open("a") as file:
        file.write("2.000000000e+00\n")
    found = only(root, check="splits")
    assert (found.file, found.row, found.message) == (
        "val_vids.txt",
        2,
        "video 2 is in train_vids.txt, line 2, already",
    )


@pytest.mark.parametrize("content", [b"", b"\n \n", b"seven\n", b"1.5\n", b"nan\n", b"\xff\xfe"])
def test_an_empty_or_unreadable_list_is_found(root: Path, content: bytes) -> None:
    (root / "test_vids.txt").write_bytes(content)
    assert "test_vids.txt" in {f.file for f in findings(root) if f.check == "splits"}


def test_a_video_without_rows_and_rows_without_a_video_are_found(root: Path) -> None:
    (root / "val_vids.txt").write_text("122.0\n")
    messages = [f.message for f in findings(root) if f.check == "splits"]
    assert messages == ["video 121 (12 rows) is in no *_vids.txt", "video 122 has no row in all_metadata.csv"]


def test_a_missing_list_is_found_where_its_frames_are_there(root: Path) -> None:
    (root / "test_vids.txt").unlink()
    assert only(root, check="splits").file == "test_vids.txt"


def test_a_folder_without_a_split_is_whole_and_says_so(root: Path) -> None:
    (root / "test_vids.txt").unlink()
    shutil.rmtree(root / "test")
    with edited(root) as rows:
        rows[:] = [row for row in rows if row["vid"] != "162"]
    for path in (root / "semseg").glob("162_*"):
        path.unlink()
    found = verify(root)
    assert found.passed
    assert [n.check for n in found.notes] == ["splits"]


def test_an_image_in_the_wrong_split_is_found(root: Path) -> None:
    (root / "val" / "121_121000.jpg").rename(root / "train" / "121_121000.jpg")
    found = findings(root)
    assert {f.check for f in found} == {"missing-images", "extra-images"}
    assert "belongs in val/121_121000.jpg" in found[1].message


# --- images


def test_pitfall_missing_truncated_or_black_frame_silently_used(root: Path) -> None:
    (root / "train" / "2_2000.jpg").unlink()
    cut = root / "train" / "2_2050.jpg"
    cut.write_bytes(cut.read_bytes()[:-40])
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)).save(root / "train" / "2_2025.jpg")
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)).save(root / "train" / "2_2075.jpg")
    found = {(f.check, f.file): f.message for f in findings(root)}
    assert set(found) == {
        ("missing-images", "train/2_2000.jpg"),
        ("decode", "train/2_2050.jpg"),
        ("black", "train/2_2025.jpg"),
        ("black", "train/2_2075.jpg"),
    }
    assert "a keyframe that carries labels (C1 0, C2 0, C3 0)" in found["black", "train/2_2025.jpg"]
    assert "no keyframe" in found["black", "train/2_2075.jpg"]
    counts = verify(root).counts
    assert (counts["black"], counts["black keyframes"]) == (2, 1)


@pytest.mark.parametrize("content", [b"", b"text, no picture", b"\xff\xd8\xff\xe0" + bytes(400)])
def test_an_image_that_is_none_is_found(root: Path, content: bytes) -> None:
    (root / "val" / "121_121000.jpg").write_bytes(content)
    assert only(root, check="decode").file == "val/121_121000.jpg"


def test_an_image_of_another_size_is_found(root: Path) -> None:
    path = root / "val" / "121_121000.jpg"
    Image.open(path).resize((WIDTH + 8, HEIGHT)).save(path)
    assert only(root, check="sizes").message == f"24 x 48 pixels; need {HEIGHT} x {WIDTH} (height x width)"


def test_an_image_that_no_row_names_is_found(root: Path) -> None:
    shutil.copy(root / "val" / "121_121000.jpg", root / "val" / "121_999.jpg")
    assert only(root, check="extra-images").file == "val/121_999.jpg"


def test_no_image_at_all_is_one_finding(root: Path) -> None:
    for split in ("train", "val", "test"):
        for path in (root / split).glob("*.jpg"):
            path.unlink()
    assert only(root, check="missing-images").message.startswith("none of the 48 images")


def test_a_split_without_images_is_one_finding(root: Path) -> None:
    for path in (root / "train").glob("*.jpg"):
        path.unlink()
    assert str(only(root, check="missing-images")) == "train/: none of its 24 images is there"


# --- links


def test_links_that_became_texts_are_found(root: Path) -> None:
    (root / "train_seg").mkdir()
    (root / "train_seg" / "2_2025.jpg").write_text("../train/2_2025.jpg")
    (root / "val_seg").write_text("val")
    found = findings(root)
    assert [(f.check, f.file) for f in found] == [("links", "val_seg"), ("links", "train_seg/2_2025.jpg")]
    assert "the path train/2_2025.jpg: a link that unpacking wrote as a file" in found[1].message
    assert "calot data unpack" in found[1].remedy


def test_an_image_that_is_a_link_text_is_told_once(root: Path) -> None:
    (root / "train" / "2_2025.jpg").write_text("../raw/2_2025.jpg")
    assert only(root, check="links").file == "train/2_2025.jpg"


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_a_link_that_leads_nowhere_is_found_and_a_good_one_is_fine(root: Path) -> None:
    (root / "train_seg").mkdir()
    (root / "train_seg" / "2_2025.jpg").symlink_to("../train/2_2025.jpg")
    (root / "train_seg" / "2_2150.jpg").symlink_to("../train/nothing.jpg")
    assert only(root, check="links").file == "train_seg/2_2150.jpg"


# --- masks


def mask(root: Path) -> Path:
    return root / "semseg" / "2_2025.png"


def write_unequal_channels(path: Path) -> None:
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), [1, 1, 2], dtype=np.uint8)).save(path)


def write_bomb(path: Path) -> None:
    """A PNG of few bytes whose header claims 60,000 x 60,000 pixels."""
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(data)


def rows_of(root: Path, **cells: str) -> None:
    with edited(root) as rows:
        next(row for row in rows if row["frame"] == "2025").update(cells)


BROKEN_MASKS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "size": (
        lambda r: write_mask(mask(r), values=[1], width=WIDTH + 1),
        "masks",
        "24 x 41 pixels; its image has 24 x 40",
    ),
    "stray": (lambda r: write_mask(mask(r), values=[7, 7]), "mask-classes", "class 7 in 2 pixels: the stray class"),
    "class": (lambda r: write_mask(mask(r), values=[9]), "mask-classes", "unknown class 9 in 1 pixels"),
    "cut": (lambda r: mask(r).write_bytes(mask(r).read_bytes()[:60]), "masks", "not a readable mask"),
    "empty": (lambda r: mask(r).write_bytes(b""), "masks", "not a readable mask"),
    "gone": (lambda r: mask(r).unlink(), "masks", "but semseg/2_2025.png is not there"),
    "unlisted": (lambda r: write_mask(r / "semseg" / "2_1.png", values=[1]), "masks", "no row of all_metadata.csv"),
    "unnamed": (lambda r: rows_of(r, mask_path=""), "masks", "mask_path is empty, but"),
    "other": (lambda r: rows_of(r, mask_path="semseg/2_2150.png"), "masks", "which is not about frame 2_2025"),
    "palette": (lambda r: Image.open(mask(r)).convert("P").save(mask(r)), "masks", "a PNG of mode P, whose numbers"),
    "one bit": (lambda r: Image.open(mask(r)).convert("1").save(mask(r)), "masks", "a PNG of mode 1, whose numbers"),
    "jpeg": (lambda r: Image.open(mask(r)).save(mask(r), "JPEG"), "masks", "a JPEG of mode RGB, whose numbers"),
    "bomb": (lambda r: write_bomb(mask(r)), "masks", "its header claims 60,000 x 60,000 pixels"),
    "folder": (lambda r: (mask(r).unlink(), mask(r).mkdir()), "masks", "a folder, not a regular file"),
    "channels": (lambda r: write_unequal_channels(mask(r)), "masks", "its channels differ"),
}


@pytest.mark.parametrize("way", BROKEN_MASKS)
def test_a_broken_mask_is_found(root: Path, way: str) -> None:
    breaks, check, message = BROKEN_MASKS[way]
    breaks(root)
    assert message in only(root, check=check).message


def test_masks_named_without_a_folder_are_one_finding(root: Path) -> None:
    shutil.rmtree(root / "semseg")
    assert only(root, check="masks").message == "no mask is there; 12 rows of all_metadata.csv name one"


# --- COCO


def first(data: dict, **cells: object) -> None:
    data["images"][0].update(cells)


BROKEN_COCO: dict[str, tuple[str, Callable[[dict], object], str]] = {
    "a frame left out": ("annotation_coco_vid.json", lambda d: d["images"].pop(0), "lacks 1 of 24 frames"),
    "a keyframe left out": (
        "annotation_ds_coco.json",
        lambda d: (d["images"].pop(), d["annotations"].pop()),
        "lacks 1 of 6 keyframes",
    ),
    "an unknown frame": ("annotation_coco.json", lambda d: first(d, file_name="2_7.jpg"), "is not a train frame"),
    "another split's": ("annotation_coco.json", lambda d: first(d, file_name="121_121025.jpg"), "is not a train frame"),
    "no name": ("annotation_coco.json", lambda d: first(d, file_name=None), "is not a train frame"),
    "a wrong id": ("annotation_coco_vid.json", lambda d: first(d, id=5), "id is 5; need 10010000"),
    "a wrong label": ("annotation_ds_coco.json", lambda d: first(d, ds=[1, 0, 0]), "ds is [1, 0, 0]"),
    "no label": ("annotation_ds_coco.json", lambda d: first(d, ds=None), "need three numbers on a keyframe"),
    "a keyframe that is none": (
        "annotation_coco_vid.json",
        lambda d: first(d, is_ds_keyframe=True),
        "all_metadata.csv says False",
    ),
    "an annotation of nothing": (
        "annotation_coco.json",
        lambda d: d["annotations"][0].update(image_id=3),
        "is about image 3",
    ),
    "an annotation twice": (
        "annotation_coco.json",
        lambda d: d["annotations"][0].update(id=2),
        "annotation id 2 appears twice",
    ),
    "an unknown class": ("annotation_coco.json", lambda d: d["annotations"][0].update(category_id=8), "has category 8"),
    "an image twice": (
        "annotation_coco.json",
        lambda d: d["images"].append(dict(d["images"][0], id=1)),
        "appears twice",
    ),
    "no list": ("annotation_coco.json", lambda d: d.update(annotations=7), '"annotations" is not a list'),
}


@pytest.mark.parametrize("way", BROKEN_COCO)
def test_a_coco_file_that_contradicts_the_table_is_found(root: Path, way: str) -> None:
    name, breaks, message = BROKEN_COCO[way]
    with edited_json(root / "train" / name) as data:
        breaks(data)
    found = findings(root)
    assert {(f.check, f.file) for f in found} == {("coco", f"train/{name}")}
    assert any(message in f.message for f in found), [f.message for f in found]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"null"])
def test_a_coco_file_that_is_none_is_found(root: Path, content: bytes) -> None:
    (root / "train" / "annotation_coco.json").write_bytes(content)
    assert only(root, check="coco").file == "train/annotation_coco.json"


def test_a_missing_coco_file_is_found_and_none_at_all_is_a_note(root: Path) -> None:
    (root / "val" / "annotation_ds_coco.json").unlink()
    assert str(only(root, check="coco")) == "val/annotation_ds_coco.json: not there, though other COCO files are"
    for path in root.glob("*/annotation_*.json"):
        path.unlink()
    found = verify(root)
    assert found.passed
    assert [n.check for n in found.notes] == ["coco"]


# --- the published data set


@pytest.fixture
def _one_frame_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published videos are known by their frame numbers: here, as if each had frame 25 alone."""
    digest = published._digest([25])
    monkeypatch.setattr(published, "_KNOWN", dict.fromkeys(published._KNOWN, digest))


def publish(root: Path, *, leave_out: int | None = None) -> None:
    """The published videos, each with one frame: a table that is recognised and much too short."""
    root.mkdir()
    header = (
        "vid,frame,avg_cvs,C1,C2,C3,is_ds_keyframe,cvs_annotator_1,cvs_annotator_2,cvs_annotator_3,mask_path,label_path"
    )
    lines = [header]
    for split, size in SIZES.items():
        (root / f"{split}_vids.txt").write_text("".join(f"{v:.9e}\n" for v in size.videos if v != leave_out))
        zeros = ",".join(['"[0, 0, 0]"'] * 3)
        lines += [f"{v},25,,0,0,0,True,{zeros},," for v in size.videos if v != leave_out]
    (root / "all_metadata.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.usefixtures("_one_frame_each")
def test_the_published_data_set_is_recognised_and_counted(tmp_path: Path) -> None:
    publish(tmp_path / "real", leave_out=7)
    found = verify(tmp_path / "real")
    messages = [f.message for f in found.findings if f.check == "counts"]
    assert messages == [
        "train lacks 1 video: 7",
        "train has 119 frames; the published Endoscapes2023 has 36,694",
        "train has 119 keyframes; the published Endoscapes2023 has 6,960",
        "val has 41 frames; the published Endoscapes2023 has 12,372",
        "val has 41 keyframes; the published Endoscapes2023 has 2,331",
        "test has 40 frames; the published Endoscapes2023 has 9,747",
        "test has 40 keyframes; the published Endoscapes2023 has 1,799",
    ]


@pytest.mark.usefixtures("_one_frame_each")
def test_overlaps_with_cholec_are_notes_and_notes_do_not_change_the_exit_code(tmp_path: Path) -> None:
    publish(tmp_path / "real")
    done = call(tmp_path / "real")
    assert "Notes (they do not change the exit code):" in done.stdout
    notes = [n.message for n in verify(tmp_path / "real").notes if n.check == "overlaps"]
    assert "1=67 (train), 2=68 (train), 3=70 (train), 4=71 (train), 7=72 (train), 121=66 (val)" in notes[0]
    assert "CholecT50 (here=there): 2=68 (train), 3=70 (train), 10=96 (train), 33=110 (train), 121=66" in notes[1]
    assert not any("(test)" in note for note in notes)


@pytest.mark.usefixtures("_one_frame_each")
def test_known_properties_of_the_published_archive_are_notes(tmp_path: Path) -> None:
    root = tmp_path / "real"
    publish(root)
    (root / "train").mkdir()
    (root / "semseg").mkdir()
    Image.fromarray(np.zeros((480, 854, 3), dtype=np.uint8)).save(root / "train" / "1_25.jpg")
    write_mask(root / "semseg" / "1_25.png", values=[7], height=480, width=854)
    found = verify(root)
    notes = {n.check: n.message for n in found.notes}
    assert "black frames: 1, keyframes with labels among them: 1" in notes["black"]
    assert "class 7 in 1 pixels" in notes["mask-classes"]
    assert not {"black", "mask-classes", "sizes"} & {f.check for f in found.findings}
    assert "1 masks; the published Endoscapes2023 has 493" in [f.message for f in found.findings]
    write_mask(root / "semseg" / "2_25.png", values=[7], height=480, width=854)
    assert [f.check for f in verify(root).findings].count("mask-classes") == 2


@pytest.mark.usefixtures("_one_frame_each")
def test_an_image_of_the_published_data_set_must_have_its_size(tmp_path: Path) -> None:
    publish(tmp_path / "real")
    (tmp_path / "real" / "val").mkdir()
    Image.fromarray(np.full((240, 427, 3), 99, dtype=np.uint8)).save(tmp_path / "real" / "val" / "121_25.jpg")
    sizes = [f.message for f in verify(tmp_path / "real").findings if f.check == "sizes"]
    assert sizes == ["240 x 427 pixels; need 480 x 854 (height x width)"]


def test_a_hospital_that_numbers_its_videos_from_one_is_not_held_against_endoscapes(tmp_path: Path) -> None:
    publish(tmp_path / "site")
    found = verify(tmp_path / "site")
    assert not [f for f in found.findings if f.check == "counts"]
    assert not [n for n in found.notes if n.check == "overlaps"]
    assert read_endoscapes(tmp_path / "site").dataset == "site"


@pytest.mark.skipif(TABLES is None, reason="CALOT_REAL_LABELS is not set: it names the folder of the real tables")
def test_the_real_tables_have_one_finding_that_no_image_is_there(tmp_path: Path) -> None:
    from test_real_tables import write_archive

    write_archive(Path(str(TABLES)), root=tmp_path)
    found = only(tmp_path, check="missing-images")
    assert found.message == "none of the 49,066 images that all_metadata.csv lists is there"


def test_the_marks_and_line_ends_of_windows_are_no_fault(root: Path) -> None:
    before = read_endoscapes(root)
    for name in ("all_metadata.csv", "train_vids.txt", "val_vids.txt", "test_vids.txt"):
        content = (root / name).read_bytes()
        (root / name).write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert verify(root).findings == ()
    assert read_endoscapes(root).hash == before.hash
