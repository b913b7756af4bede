"""Files by what is in them, and how many pages they have."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from serving.documents.files import open_file
from serving.documents.page import Page
from serving.documents.parser_pool import Parse
from serving.errors import TooLargeError, UnreadableError
from serving.settings import Settings
from tests.support.files import encoded, picture


def write(folder: Path, data: bytes) -> Path:
    path = folder / "file.bin"
    path.write_bytes(data)
    return path


def test_files_by_content_not_name(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    path = tmp_path / "upload.txt"
    path.write_bytes(encoded(picture()))
    assert open_file(path, settings, parse).count == 1
    path.write_bytes(b"")
    with pytest.raises(UnreadableError, match="empty"):
        open_file(path, settings, parse)
    with pytest.raises(TooLargeError, match="limit"):
        open_file(write(tmp_path, b"x" * 5000), Settings(data=tmp_path, max_file_bytes=4096), parse)


def test_tiff_pages_and_first_frame_of_animations(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    frames = [picture(colour=colour) for colour in ("red", "green", "blue")]
    tiff = open_file(
        write(tmp_path, encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])), settings, parse
    )
    assert tiff.count == 3
    pages = [page for page in tiff if isinstance(page, Page) and page.image is not None]
    assert [np.asarray(page.image)[0, 0].argmax() for page in pages] == [0, 1, 2]
    gif = open_file(
        write(tmp_path, encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])), settings, parse
    )
    assert gif.count == 1
    with pytest.raises(TooLargeError, match="more than 2 pages"):
        open_file(
            write(tmp_path, encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])),
            Settings(data=tmp_path, max_pdf_pages=2),
            parse,
        )


def test_gif_of_10000_frames_is_its_first_one(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    frames = [picture((8, 8), colour=(number % 256, number // 256, 0)) for number in range(10_000)]
    path = write(tmp_path, encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    tracemalloc.start()
    file = open_file(path, settings, parse)
    page = file.read(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert file.count == 1 and page.image is not None and page.image.size == (8, 8)
    assert peak < 4 * path.stat().st_size + 1_000_000


def test_tiff_of_many_pages_is_not_counted_to_its_end(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    """One small directory that thousands of others repeat."""
    header, entries = b"II*\0" + struct.pack("<I", 8), [(256, 1), (257, 1), (258, 1), (259, 1), (262, 1), (273, 0)]
    data = bytearray(header)
    for _ in range(20_000):
        data += struct.pack("<H", len(entries))
        for tag, value in entries:
            data += struct.pack("<HHII", tag, 4, 1, value)
        data += struct.pack("<I", len(data) + 4)
    with pytest.raises(TooLargeError, match="more than 5000 pages"):
        open_file(write(tmp_path, bytes(data)), settings, parse)
