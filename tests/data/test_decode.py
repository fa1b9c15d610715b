"""A picture's header is believed only as far as its file could hold what it claims."""

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calot.data.decode import MOST_PIXELS, decode_jpeg, jpeg_size
from calot.data.maskfile import read_class_ids
from calot.errors import CalotError


def jpeg(height: int, width: int, **how: object) -> bytes:
    """A black JPEG."""
    stream = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8)).save(stream, "JPEG", **how)
    return stream.getvalue()


def claiming(data: bytes, *, height: int, width: int) -> bytes:
    """The same JPEG with another size in its header."""
    start = next(i for marker in (b"\xff\xc0", b"\xff\xc2") if (i := data.find(marker)) > 0)
    return data[: start + 5] + struct.pack(">HH", height, width) + data[start + 9 :]


def png(height: int, width: int) -> bytes:
    """A grey PNG of zeros whose size need not fit its data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(("height", "width"), [(65_500, 65_500), (65_500, 1_000), (6_000, 6_000), (40_001, 1_000)])
def test_a_header_that_claims_more_than_the_file_holds_is_refused_before_decoding(
    tmp_path: Path, height: int, width: int, progressive: bool
) -> None:
    path = tmp_path / "bomb.jpg"
    path.write_bytes(claiming(jpeg(48, 85, progressive=progressive), height=height, width=width))
    with pytest.raises(CalotError, match=rf"claims {height:,} x {width:,} pixels.*Nothing was decoded"):
        decode_jpeg(path)


def test_no_genuine_jpeg_is_refused_for_its_size(tmp_path: Path) -> None:
    """One colour, lowest quality, optimised, every subsampling: the most pixels a byte that an encoder gives."""
    for subsampling in (0, 1, 2):
        for progressive in (False, True):
            data = jpeg(600, 900, quality=1, optimize=True, progressive=progressive, subsampling=subsampling)
            assert jpeg_size(data, path=tmp_path) == (600, 900)
    assert MOST_PIXELS > 4320 * 7680  # 8K


@pytest.mark.parametrize(("height", "width"), [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (40_001, 1_000)])
def test_a_mask_that_claims_more_than_is_ever_read_is_refused(tmp_path: Path, height: int, width: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(height, width))
    with pytest.raises(CalotError, match="its header claims"):
        read_class_ids(path)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", png(8, 8)[:45]])
def test_a_mask_that_is_no_whole_png_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(CalotError, match=r"m\.png: not a readable mask"):
        read_class_ids(tmp_path / "m.png")


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes there")
def test_a_named_pipe_among_pictures_or_masks_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    for read in (decode_jpeg, read_class_ids):
        with pytest.raises(CalotError, match=r"p: cannot be read \(a named pipe, not a regular file\)"):
            read(tmp_path / "p")


def test_a_file_too_large_for_a_picture_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "big.jpg").open("wb") as file:
        file.truncate(1 << 36)
    with pytest.raises(CalotError, match="68,719,476,736 bytes; at most"):
        decode_jpeg(tmp_path / "big.jpg")
