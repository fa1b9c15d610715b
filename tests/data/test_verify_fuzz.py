"""Nothing in a folder's text files makes `verify` raise, and what the strict reader refuses it finds by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from endoscapes_folder import ALL, NO, Folder
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from properties import searched

from calot.data.endoscapes.reader import read_endoscapes
from calot.data.verify import CheckedFolder, verify
from calot.data.verify.table import read_table
from calot.errors import CalotError

COLUMNS = ("vid", "frame", "avg_cvs", "C1", "C2", "C3", "is_ds_keyframe", "a1", "a2", "a3", "mask_path", "label_path")
CELLS = st.one_of(
    st.sampled_from(
        [
            *("", " ", "nan", "inf", "-0", "1e3", "1e999", "0.5", "+1", "1_0", "½", "１", "True", "TRUE", "false"),
            *("None", "25", "[0, 1, 0]", "[1.0, 0., 0]", "[0,1]", "[1, 1, 1", "2.5e1", "2147483648", "0x10"),
            *("3\u00a0", ".5", "5."),
        ]
    ),
    st.text(st.characters(exclude_characters='"\r\n\x00', exclude_categories=["Cs"]), max_size=12),
)
EACH = searched(60, HealthCheck.function_scoped_fixture)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Folder(root=tmp_path_factory.mktemp("fuzz") / "small")
    for number, split in ((1, "train"), (121, "val"), (162, "test")):
        folder.video(number, split=split, frames=[25, 50, 75], votes={25: NO, 75: ALL})
    return folder.write()


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "small")
    return tmp_path / "small"


def restored(root: Path, made: Path, name: str) -> Path:
    shutil.copy(made / name, root / name)
    return root / name


def accepted(root: Path) -> bool:
    try:
        read_endoscapes(root)
    except CalotError:
        return False
    return True


def of_tables(found: CheckedFolder) -> set[str]:
    """Checks with findings; the images, which are not there, apart."""
    return {f.check for f in found.findings} - {"missing-images"}


def test_the_folder_before_any_change_is_fine(root: Path) -> None:
    assert accepted(root)
    assert of_tables(verify(root)) == set()


@EACH
@given(row=st.integers(0, 8), column=st.integers(0, 11), cell=CELLS)
def test_a_cell_that_the_reader_refuses_is_found_by_a_check_of_its_own(
    root: Path, made: Path, row: int, column: int, cell: str
) -> None:
    path = restored(root, made, "all_metadata.csv")
    lines = path.read_text(encoding="utf-8").splitlines()
    quoted = lines[row + 1].replace('"[', "<").replace(']"', ">").split(",")
    cells, inside = [], ""
    for part in quoted:
        inside = f"{inside},{part}" if inside else part
        if inside.count("<") == inside.count(">"):
            cells.append(inside.replace("<", '"[').replace(">", ']"'))
            inside = ""
    assert len(cells) == len(COLUMNS)
    cells[column] = f'"{cell}"'
    lines[row + 1] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = of_tables(verify(root))
    assert "reader" not in found
    assert accepted(root) or found


@EACH
@given(start=st.integers(0, 600), length=st.integers(0, 600), content=st.binary(max_size=40))
def test_bytes_thrown_into_the_table_never_raise(
    root: Path, made: Path, start: int, length: int, content: bytes
) -> None:
    path = restored(root, made, "all_metadata.csv")
    data = path.read_bytes()
    path.write_bytes(data[:start] + content + data[start + length :])
    read_table(root)
    found = of_tables(verify(root))
    assert accepted(root) or found


@EACH
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=30).map(lambda t: t.encode("utf-8", "replace"))))
def test_bytes_as_a_list_of_videos_never_raise(root: Path, made: Path, content: bytes) -> None:
    restored(root, made, "all_metadata.csv")
    (root / "val_vids.txt").write_bytes(content)
    found = of_tables(verify(root))
    restored(root, made, "val_vids.txt")
    assert found or content.split() == [b"121"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "images", "file_name", "ds", "image_id", "annotations", "categories"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.long
@EACH
@given(images=VALUES, annotations=VALUES, categories=VALUES, whole=VALUES, as_it_is=st.booleans())
def test_any_json_as_a_coco_file_never_raises(
    root: Path, images: Any, annotations: Any, categories: Any, whole: Any, as_it_is: bool
) -> None:
    (root / "train").mkdir(exist_ok=True)
    data = whole if as_it_is else {"images": images, "annotations": annotations, "categories": categories}
    for name in ("annotation_coco.json", "annotation_ds_coco.json", "annotation_coco_vid.json"):
        (root / "train" / name).write_text(json.dumps(data))
    json.dumps(verify(root).to_dict(), allow_nan=False)
