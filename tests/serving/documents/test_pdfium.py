"""What PDFium draws and reads of a page."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from serving.documents.parser_pool import Parse
from serving.settings import Settings
from tests.support.files import pdf, picture
from tests.support.readers import read_pages

WORDS = ["The tenant may keep one dog", "The deposit is two months of rent"]


def test_text_layer_with_boxes(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    pages = read_pages(tmp_path, pdf([WORDS, ["Second page with a few more words"]]), settings, parse)
    assert len(pages) == 2
    first = pages[0]
    assert first.image is not None and first.image.mode == "RGB" and max(first.image.size) <= 2000
    assert first.lines is not None and [line.text for line in first.lines] == WORDS
    box = first.lines[0].box
    assert box is not None
    assert box[0] == pytest.approx(60 / 595, abs=0.01) and box[3] == pytest.approx(62 / 842, abs=0.01)


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_boxes_follow_rotation(tmp_path: Path, settings: Settings, rotate: int, parse: Parse) -> None:
    """The box lies on ink: the darkest part of the page picture is inside it."""
    page = read_pages(tmp_path, pdf([WORDS], rotate=rotate, size=(700, 700)), settings, parse)[0]
    assert page.lines and page.image
    box = page.lines[0].box
    assert box is not None
    width, height = page.image.size
    area = page.image.convert("L").crop(
        (int(box[0] * width), int(box[1] * height), int(box[2] * width), int(box[3] * height))
    )
    assert area.getextrema()[0] < 60


def test_scan_has_no_text(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    buffer = io.BytesIO()
    picture((600, 800), "a scan").save(buffer, "PDF")
    assert read_pages(tmp_path, buffer.getvalue(), settings, parse)[0].lines is None


def test_page_of_14400_points_is_bounded(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    page = read_pages(tmp_path, pdf([WORDS], size=(14_400, 14_400)), settings, parse)[0]
    assert page.image is not None and max(page.image.size) <= 2000
