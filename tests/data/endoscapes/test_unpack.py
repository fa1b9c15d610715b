"""`calot data unpack`: the right archive only, safe paths only, real files for links, and it goes on after a kill."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result
from whole_folder import write_whole

from calot.cli.data import app
from calot.data.endoscapes.published import ARCHIVE_SHA256
from calot.data.endoscapes.unpack import unpack
from calot.data.verify import verify
from calot.errors import CalotError, Stopped


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whole(tmp_path_factory.mktemp("whole") / "endoscapes")


def pack(whole: Path, path: Path, *, top: str = "endoscapes/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for each in sorted(whole.rglob("*")):
            file.write(each, top + each.relative_to(whole).as_posix())
    return path


def add(path: Path, name: str, content: bytes | str, *, link: bool = False) -> None:
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = ((stat.S_IFLNK if link else stat.S_IFREG) | 0o755) << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(entry, content)


@pytest.fixture
def archive(whole: Path, tmp_path: Path) -> Path:
    return pack(whole, tmp_path / "endoscapes.zip")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["unpack", *(str(a) for a in arguments)])


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def refused(archive: Path, root: Path, *, match: str) -> None:
    """Through the command, any version: an error with that message, and nothing written."""
    done = call(archive, root, "--any-version")
    assert isinstance(done.exception, CalotError), done.exception
    assert match in str(done.exception)
    assert not root.exists()


def test_what_was_packed_comes_out_and_verify_finds_nothing(archive: Path, whole: Path, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    done = call(archive, tmp_path / "out", "--sha256", sha256.upper())
    assert done.exit_code == 0, done.exception
    assert "CC BY-NC-SA 4.0" in done.stderr
    assert "github.com/CAMMA-public/Endoscapes" in done.stderr
    assert done.stdout.rstrip().endswith(f"Next: calot data verify {tmp_path / 'out'}")
    assert tree(tmp_path / "out") == tree(whole)
    assert verify(tmp_path / "out").passed


def test_json_says_what_was_written(archive: Path, whole: Path, tmp_path: Path) -> None:
    made = json.loads(call(archive, tmp_path / "out", "--any-version", "--json").stdout)
    count = len(tree(whole))
    assert (made["files"], made["written"], made["kept"], made["links"]) == (count, count, 0, 0)
    assert made["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()


@pytest.mark.parametrize("top", ["", "Endoscapes2023/"])
def test_the_top_folder_may_have_any_name_or_none(whole: Path, tmp_path: Path, top: str) -> None:
    archive = pack(whole, tmp_path / "a.zip", top=top)
    add(archive, "__MACOSX/._x", b"clutter")
    add(archive, f"{top}train/.DS_Store", b"clutter")
    unpack(archive, tmp_path / "out", sha256=None)
    assert tree(tmp_path / "out") == tree(whole)


def test_another_archive_is_refused_with_both_digests_and_the_way_on(archive: Path, tmp_path: Path) -> None:
    done = call(archive, tmp_path / "out")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert isinstance(done.exception, CalotError)
    for part in (found, ARCHIVE_SHA256, f"--sha256 {found}", "--any-version"):
        assert part in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_an_archive_cut_short_is_refused(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-100])
    refused(archive, tmp_path / "out", match="not a whole zip archive")


@pytest.mark.parametrize("content", [b"", b"no zip at all"])
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", tmp_path / "out", match="not a whole zip archive")


def test_a_missing_archive_says_where_to_get_it(tmp_path: Path) -> None:
    refused(tmp_path / "endoscapes.zip", tmp_path / "out", match="no such file. Endoscapes2023")


def test_a_flipped_byte_is_found_and_the_files_before_it_stay_whole(archive: Path, whole: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        entry = file.getinfo("endoscapes/val/121_121100.jpg")
    data = bytearray(archive.read_bytes())
    data[entry.header_offset + 30 + len(entry.filename) + 200] ^= 0x55
    archive.write_bytes(data)
    with pytest.raises(CalotError, match=r"endoscapes/val/121_121100\.jpg: damaged .*Download the archive again"):
        unpack(archive, tmp_path / "out", sha256=None)
    out = tree(tmp_path / "out")
    assert out
    assert out.items() <= tree(whole).items()


@pytest.mark.parametrize(
    "name",
    [
        *("../evil.txt", "endoscapes/../../evil.txt", "/etc/evil.txt", "C:/evil.txt", "C:evil.txt", "..\\evil.txt"),
        *(
            "endoscapes\\..\\..\\evil.txt",
            "\\\\host\\share\\evil.txt",
            "endoscapes/file.txt:stream",
            "endoscapes/.. /x",
        ),
        *("endoscapes//x", "endoscapes/.../x", "endoscapes/a\nb"),
    ],
)
def test_a_name_that_leads_out_is_refused_and_named(archive: Path, tmp_path: Path, name: str) -> None:
    add(archive, name, b"evil")
    refused(archive, tmp_path / "out", match=f"entry {name!r} is not a safe path")
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "../../../etc/passwd", "C:\\x", ""])
def test_a_link_that_leads_out_is_refused_and_named(archive: Path, tmp_path: Path, target: str) -> None:
    add(archive, "endoscapes/train/link", target, link=True)
    refused(archive, tmp_path / "out", match="entry train/link is a link to")


def test_links_of_both_kinds_become_real_files(archive: Path, whole: Path, tmp_path: Path) -> None:
    add(archive, "endoscapes/train_seg/2_2025.jpg", "../train/2_2025.jpg", link=True)
    add(archive, "endoscapes/train_seg/2_2150.jpg", "../train/2_2150.jpg")
    add(archive, "endoscapes/val_seg", "val", link=True)
    add(archive, "endoscapes/test_seg", "test")
    add(archive, "endoscapes/again.jpg", "train_seg/2_2025.jpg", link=True)
    add(archive, "endoscapes/README", "no path of anything")
    made = unpack(archive, tmp_path / "out", sha256=None)
    out, was = tree(tmp_path / "out"), tree(whole)
    assert not any(p.is_symlink() for p in (tmp_path / "out").rglob("*"))
    assert out["train_seg/2_2025.jpg"] == out["again.jpg"] == was["train/2_2025.jpg"]
    assert out["train_seg/2_2150.jpg"] == was["train/2_2150.jpg"]
    for split in ("val", "test"):
        files = {name: content for name, content in was.items() if name.startswith(f"{split}/")}
        assert {n.replace("_seg/", "/"): c for n, c in out.items() if n.startswith(f"{split}_seg/")} == files
    assert out["README"] == b"no path of anything"
    assert made.links == 3 + 2 * (12 + 3)
    assert verify(tmp_path / "out").passed


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([("a.jpg", "b.jpg"), ("b.jpg", "a.jpg")], "leads in a circle"),
        ([("gone.jpg", "nowhere.jpg")], "is not in the archive"),
        ([("train/all", "../train")], "holds the link itself"),
    ],
)
def test_links_that_make_no_files_are_refused(
    archive: Path, tmp_path: Path, entries: list[tuple[str, str]], match: str
) -> None:
    for name, target in entries:
        add(archive, f"endoscapes/{name}", target, link=True)
    refused(archive, tmp_path / "out", match=match)


def test_names_that_only_case_tells_apart_are_refused(archive: Path, tmp_path: Path) -> None:
    add(archive, "endoscapes/TRAIN_vids.txt", b"1")
    refused(archive, tmp_path / "out", match="appears twice")


ALIKE = [("train/x.jpg", "train/X.JPG"), ("caf\u00e9.txt", "cafe\u0301.txt"), ("a.txt", "a.txt."), ("b", "b ")]


@pytest.mark.parametrize("names", ALIKE)
def test_names_that_some_system_takes_for_one_are_refused(
    archive: Path, tmp_path: Path, names: tuple[str, str]
) -> None:
    for name in names:
        add(archive, f"endoscapes/{name}", b"x")
    refused(archive, tmp_path / "out", match="appears twice")


@pytest.mark.parametrize("name", ["endoscapes/NUL", "endoscapes/con.jpg", "COM1/x", "endoscapes/aux .txt"])
def test_a_name_that_windows_gives_to_a_device_is_refused(archive: Path, tmp_path: Path, name: str) -> None:
    add(archive, name, b"x")
    refused(archive, tmp_path / "out", match="is not a safe path")


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_a_pipe_or_a_device_among_the_entries_is_refused(archive: Path, tmp_path: Path, kind: int) -> None:
    entry = zipfile.ZipInfo("endoscapes/p")
    entry.create_system, entry.external_attr = 3, (kind | 0o644) << 16
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(entry, b"")
    refused(archive, tmp_path / "out", match="is a pipe or a device")


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(archive: Path, tmp_path: Path) -> None:
    for number in range(3):
        with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
            file.writestr(f"endoscapes/zeros{number}.jpg", bytes(40_000_000))
    refused(archive, tmp_path / "out", match="times as many; pictures do not compress that much. Nothing was written")


def test_entries_that_lie_on_top_of_one_another_are_refused(archive: Path, tmp_path: Path) -> None:
    """Each names the same bytes under an offset of its own, so that few bytes are many files."""
    with zipfile.ZipFile(archive, "a") as file:
        for number in range(3):
            file.writestr(f"endoscapes/big{number}.jpg", os.urandom(1000))
            file.getinfo(f"endoscapes/big{number}.jpg").compress_size = 10**9
    refused(archive, tmp_path / "out", match="endoscapes.zip")


def test_links_that_make_a_file_of_each_other_file_are_counted_first(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calot.data.endoscapes.archive.MOST_ENTRIES", 200)
    for number in range(40):
        add(archive, f"endoscapes/more{number}", "train", link=True)
    refused(archive, tmp_path / "out", match="its links make more than 200 files")


def test_a_list_of_files_beyond_reason_is_not_read(archive: Path, tmp_path: Path) -> None:
    data = bytearray(archive.read_bytes())
    place = data.rfind(b"PK\x05\x06")
    data[place + 12 : place + 16] = (2**32 - 2).to_bytes(4, "little")
    archive.write_bytes(data)
    refused(archive, tmp_path / "out", match="its list of files takes 4,294,967,294 bytes")


@pytest.mark.parametrize("what", ["a folder", "a named pipe"])
def test_an_archive_that_is_no_file_is_said_to_be_none(tmp_path: Path, what: str) -> None:
    path = tmp_path / "endoscapes.zip"
    path.mkdir() if what == "a folder" else os.mkfifo(path)
    refused(path, tmp_path / "out", match=f"cannot be read ({what}, not a regular file)")


def test_a_file_where_the_folder_would_go_is_named(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    done = call(archive, tmp_path / "out", "--any-version")
    assert isinstance(done.exception, CalotError)
    assert (
        str(done.exception)
        == f"{tmp_path / 'out'}: a file stands there, and the archive needs a folder. Give another one."
    )
    assert (tmp_path / "out").read_text() == "mine"


def test_a_file_that_is_a_folder_too_is_refused(archive: Path, tmp_path: Path) -> None:
    add(archive, "endoscapes/train_vids.txt/x", b"1")
    refused(archive, tmp_path / "out", match="lies below a file")


def test_an_archive_without_the_table_is_refused(tmp_path: Path) -> None:
    add(tmp_path / "a.zip", "endoscapes/readme.md", b"x")
    refused(tmp_path / "a.zip", tmp_path / "out", match="not the Endoscapes archive")


def test_whole_files_are_kept_and_broken_ones_written_again(archive: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    cut, changed, gone, link = (out / "train" / f"2_{frame}.jpg" for frame in (2000, 2025, 2050, 2075))
    cut.write_bytes(cut.read_bytes()[:-9])
    changed.write_bytes(bytes(len(changed.read_bytes())))
    gone.unlink()
    link.write_text("../train/2_2000.jpg")
    half = out / "train" / ".2_2050.jpg.0123abcd.part"
    half.write_bytes(b"half")
    mine = out / "train" / ".mine.part"
    mine.write_bytes(b"not ours")
    untouched = (out / "val" / "121_121000.jpg").stat().st_mtime_ns
    made = unpack(archive, out, sha256=None)
    assert (made.written, made.kept) == (4, len(tree(whole)) - 4)
    assert not half.exists()
    assert mine.exists()
    mine.unlink()
    assert tree(out) == tree(whole)
    assert (out / "val" / "121_121000.jpg").stat().st_mtime_ns == untouched


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM")
def test_a_signal_ends_it_and_the_same_again_continues(
    archive: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real, written = tmp_path / "out", shutil.copyfileobj, itertools.count()

    def copy(*args: object) -> None:
        if next(written) == 20:
            os.kill(os.getpid(), signal.SIGTERM)
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(shutil, "copyfileobj", copy)
    with pytest.raises(Stopped, match=r"stopped; what is unpacked stays\. Run the same again to continue"):
        CliRunner().invoke(app, ["unpack", str(archive), str(out), "--any-version"])
    stopped = len(tree(out))
    assert 0 < stopped < len(tree(whole))
    made = unpack(archive, out, sha256=None)
    assert made.kept == stopped
    assert tree(out) == tree(whole)


def test_a_killed_unpack_leaves_only_whole_files_and_goes_on(whole: Path, tmp_path: Path) -> None:
    archive, out = pack(whole, tmp_path / "a.zip"), tmp_path / "out"
    for number in range(400):
        add(archive, f"endoscapes/more/{number}.bin", bytes([number % 251]) * 20_000)
    command = [sys.executable, "-m", "calot.cli.main", "data", "unpack", str(archive), str(out), "--any-version"]
    code = "from calot.cli.main import main; import sys; sys.argv[0] = 'calot'; main()"
    command[1:3] = ["-c", code]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(out.rglob("*.jpg"))) < 5:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.wait()
    with zipfile.ZipFile(archive) as file:
        packed = {n.removeprefix("endoscapes/"): file.read(n) for n in file.namelist() if not n.endswith("/")}
    left = {name: content for name, content in tree(out).items() if not name.endswith(".part")}
    assert 5 <= len(left) < len(packed)
    assert left.items() <= packed.items()
    made = unpack(archive, out, sha256=None)
    assert made.kept == len(left)
    assert tree(out) == packed


def test_what_another_program_made_of_the_links_is_repaired(archive: Path, whole: Path, tmp_path: Path) -> None:
    add(archive, "endoscapes/train_seg/2_2025.jpg", "../train/2_2025.jpg", link=True)
    add(archive, "endoscapes/val_seg", "val", link=True)
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "train_seg").mkdir()
    (out / "train_seg" / "2_2025.jpg").write_text("../train/2_2025.jpg")
    (out / "val_seg").write_text("val")
    assert {f.check for f in verify(out).findings} == {"links"}
    made = unpack(archive, out, sha256=None)
    assert made.written == made.links == 1 + 12 + 3
    assert verify(out).passed


@pytest.mark.skipif(os.name == "nt", reason="Windows sets no limits on a process")
def test_a_disk_that_fills_up_is_said_and_what_was_written_stays(whole: Path, tmp_path: Path) -> None:
    archive, out = pack(whole, tmp_path / "a.zip"), tmp_path / "out"
    add(archive, "endoscapes/zz.bin", bytes(300_000))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from calot.cli.main import main; sys.argv[0] = 'calot'; main()"
    )
    command = [sys.executable, "-c", code, "data", "unpack", str(archive), str(out), "--any-version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "zz.bin: the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert tree(out) == tree(whole)
    assert unpack(archive, out, sha256=None).written == 1


def test_too_little_space_is_said_before_anything_is_written(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    refused(archive, tmp_path / "out", match="GB are free")


@pytest.mark.parametrize(
    ("prepare", "match"),
    [
        (lambda out: out.write_text("x"), "a file stands there, and the archive needs a folder"),
        (lambda out: (out.mkdir(), (out / "train").write_text("x")), "a file stands where a folder must be"),
        (lambda out: (out / "train_vids.txt").mkdir(parents=True), "a folder stands where a file must be"),
    ],
)
def test_what_is_in_the_way_is_named(
    archive: Path, tmp_path: Path, prepare: Callable[[Path], object], match: str
) -> None:
    prepare(tmp_path / "out")
    with pytest.raises(CalotError, match=match):
        unpack(archive, tmp_path / "out", sha256=None)


def test_it_does_not_write_through_a_link_that_stands_there(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    try:
        (tmp_path / "out" / "train").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("links need a right on Windows")
    with pytest.raises(CalotError, match="a link stands where a folder must be"):
        unpack(archive, tmp_path / "out", sha256=None)
    assert list((tmp_path / "elsewhere").iterdir()) == []
