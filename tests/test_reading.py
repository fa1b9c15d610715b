"""Every file is looked at before it is read: what is no regular file of sane size is refused at once, by name."""

import os
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from calot.reading import NotPlain, open_plain, read_json, read_plain, read_text

posix = pytest.mark.skipif(sys.platform == "win32", reason="no named pipes or device files there")


def test_a_plain_file_is_read_through_links_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    assert read_plain(tmp_path / "a", largest=7) == b"content"
    if os.name == "posix":
        (tmp_path / "link").symlink_to("a")
        assert read_plain(tmp_path / "link", largest=7) == b"content"


def _socket(path: Path) -> None:
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as made:  # a socket's path has 107 bytes
        made.bind(f"{short}/s")
        os.rename(f"{short}/s", path)


ODD: dict[str, Callable[[Path], None]] = {
    "a folder": lambda p: p.mkdir(),
    "a named pipe": lambda p: os.mkfifo(p),
    "a socket": _socket,
    "a device": lambda p: p.symlink_to("/dev/zero"),
}


@posix
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    ODD[kind](tmp_path / "x")
    with pytest.raises(NotPlain, match=f"{kind}, not a regular file"):
        read_plain(tmp_path / "x", largest=10)


@posix
def test_a_pipe_put_in_a_files_place_after_the_look_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    look = os.stat(tmp_path / "plain")
    monkeypatch.setattr(os, "stat", lambda path: look)
    with pytest.raises(NotPlain, match="a named pipe"):
        open_plain(tmp_path / "pipe", largest=10)


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(NotPlain, match="1,099,511,627,776 bytes; at most 10 are read"):
        read_plain(tmp_path / "sparse", largest=10)


def test_json_that_is_none_is_a_value_error_however_it_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for content in (b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000, b"nul"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r".+"):
            read_json(path)
    path.write_bytes(b'{"a": [1, 2]}')
    assert read_json(path) == {"a": [1, 2]}


def test_text_in_another_encoding_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes("é".encode("cp1252"))
    with pytest.raises(ValueError, match="utf-8"):
        read_text(tmp_path / "t")
