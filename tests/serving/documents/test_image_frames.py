"""Pictures that are large, and pictures that are made to be decoded for ever."""

from __future__ import annotations

import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.documents.files import open_file
from serving.documents.page import Page
from serving.documents.parser_pool import Parse, ParserPool
from serving.errors import NotReadyError, TooLargeError, UnreadableError
from serving.settings import MiB, Settings
from tests.support.files import encoded, flat_png, huge_png, picture
from tests.support.hostile_pictures import endless_jpeg
from tests.support.readers import find_busy_reader, list_outcomes, list_readers
from tests.support.repository import ROOT
from tests.support.servers import make_settings

A0 = 9_933, 14_043
"""Pixels of such a sheet at 300 dpi."""


def write(folder: Path, data: bytes) -> Path:
    path = folder / "file.bin"
    path.write_bytes(data)
    return path


def write_a0(folder: Path, kind: str) -> Path:
    """Write a sheet whose left half is black, in a file of less than 2 MB."""
    width, height = A0
    half = width // 2
    match kind:
        case "G4":
            sheet = Image.new("1", A0, 1)
            sheet.paste(0, (0, 0, half, height))
            return write(folder, encoded(sheet, "TIFF", compression="group4"))
        case "grey":
            return write(folder, flat_png(width, height, bytes(half) + b"\xff" * (width - half), 8, 0))
        case "deep":
            return write(folder, flat_png(width, height, bytes(2 * half) + b"\xff" * 2 * (width - half), 16, 0))
        case _:
            return write(folder, flat_png(width, height, bytes(3 * half) + b"\xff" * 3 * (width - half), 8, 2))


@pytest.mark.parametrize("kind", ["G4", "grey", "deep", "colour"])
def test_a_scan_of_a0_is_a_page(kind: str, tmp_path: Path, settings: Settings, parse: Parse) -> None:
    path = write_a0(tmp_path, kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = open_file(path, settings, parse).read(0).image
    assert image is not None and image.size == (1_415, 2_000)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert sys.platform != "linux" or grown < 64 * 1024, "kB: it was decoded elsewhere"
    left, right = np.asarray(image)[:, :700], np.asarray(image)[:, 715:]
    assert left.max() < 8 and right.min() > 247


def test_a_bomb_is_a_page_and_one_that_is_larger_is_refused(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    assert list_outcomes(open_file(write(tmp_path, huge_png()), settings, parse)) == ["drawn"]
    with pytest.raises(TooLargeError, match="more than 200 megapixels"):
        open_file(write(tmp_path, huge_png(15_000)), settings, parse)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not bound a process's memory")
def test_a_picture_that_takes_too_much_memory_is_told(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, parser_memory_bytes=256 * MiB)
    with ParserPool(settings) as pool:
        file = open_file(write_a0(tmp_path, "colour"), settings, pool.run)
        with pytest.raises(TooLargeError, match="more memory than it may take here: send it smaller"):
            file.read(0)


def test_a_picture_that_does_not_end_is_a_row(tmp_path: Path) -> None:
    data = endless_jpeg()
    assert len(data) < 1_200_000
    settings = make_settings(tmp_path, parser_timeout_s=2)
    with ParserPool(settings) as pool:
        file = open_file(write(tmp_path, data), settings, pool.run)
        assert list_outcomes(file) == ["this picture cannot be read: it took longer than 2 s"]
        assert not list_readers()


def test_a_killed_decoder_and_a_cancel(patient: ParserPool, tmp_path: Path, settings: Settings) -> None:
    file = open_file(write(tmp_path, endless_jpeg()), settings, patient.run)
    with ThreadPoolExecutor(1) as threads:
        page = threads.submit(file.read, 0)
        find_busy_reader().kill()
        error = page.exception(30)
        assert isinstance(error, UnreadableError)
        assert error.message.startswith("this picture cannot be read: its reader crashed")
        page = threads.submit(file.read, 0)
        find_busy_reader()
        patient.close()
        assert isinstance(page.exception(30), NotReadyError)


def test_pages_of_a_tiff_fail_alone(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    frames = [picture((300, 400), name) for name in ("one", "two", "three")]
    data = bytearray(encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:], compression="tiff_lzw"))
    with Image.open(write(tmp_path, bytes(data))) as image:
        image.seek(1)
        (offset,) = image.tag_v2[273][:1]  # type: ignore[attr-defined]
    data[offset : offset + 200] = bytes(200)
    file = open_file(write(tmp_path, bytes(data)), settings, parse)
    first, second, third = list(file)
    assert isinstance(first, Page) and isinstance(third, Page)
    assert isinstance(second, UnreadableError) and "damaged" in second.message


@pytest.mark.parametrize("answer", [b"{", b"[]", b"[-1]", b'{"frames": [0]}'])
def test_a_reader_that_a_file_took_over_is_not_believed(answer: bytes, tmp_path: Path, settings: Settings) -> None:
    path = write(tmp_path, encoded(picture()))
    with pytest.raises(UnreadableError, match="this picture cannot be read: its reader sent an invalid answer"):
        open_file(path, settings, lambda *_: (bytearray(b"{}"), bytearray(answer)))
    with pytest.raises(UnreadableError, match="this picture cannot be read: its reader sent an invalid answer"):
        open_file(path, settings, lambda *_: (bytearray(b"{}"), bytearray(b"[0]"))).read(0)


def test_a_reader_of_pictures_imports_no_settings() -> None:
    code = "import sys, serving.documents.image_frames; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {name.split(".")[0] for name in found.stdout.split()} & {"gradio", "pydantic", "pypdfium2", "ui"}
