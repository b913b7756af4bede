from __future__ import annotations

import io
from pathlib import Path

import pytest

from serving.documents.files import open_file
from serving.documents.page import Page
from serving.documents.parser_pool import Parse
from serving.errors import TooLargeError, UnreadableError
from serving.settings import Settings
from tests.support.files import encoded, pdf, picture

WORDS = ["The tenant may keep one dog", "The deposit is two months of rent"]


def pages_of(folder: Path, data: bytes, settings: Settings, parse: Parse) -> list[Page]:
    path = folder / "file.pdf"
    path.write_bytes(data)
    pages = list(open_file(path, settings, parse))
    assert all(isinstance(page, Page) for page in pages), pages
    return [page for page in pages if isinstance(page, Page)]


def test_text_layer_with_boxes(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    pages = pages_of(tmp_path, pdf([WORDS, ["Second page with a few more words"]]), settings, parse)
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
    page = pages_of(tmp_path, pdf([WORDS], rotate=rotate, size=(700, 700)), settings, parse)[0]
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
    assert pages_of(tmp_path, buffer.getvalue(), settings, parse)[0].lines is None


def test_page_of_14400_points_is_bounded(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    page = pages_of(tmp_path, pdf([WORDS], size=(14_400, 14_400)), settings, parse)[0]
    assert page.image is not None and max(page.image.size) <= 2000


def test_refusals(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    path = tmp_path / "file.pdf"
    path.write_bytes(pdf([WORDS], password="secret"))
    with pytest.raises(UnreadableError, match="encrypted: remove its password"):
        open_file(path, settings, parse)
    path.write_bytes(b"%PDF-1.7\nnot really")
    with pytest.raises(UnreadableError, match="damaged"):
        open_file(path, settings, parse)
    whole = pdf([WORDS])
    path.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(UnreadableError, match="damaged"):
        open_file(path, settings, parse)
    path.write_bytes(pdf([WORDS] * 5))
    with pytest.raises(TooLargeError, match="5 pages"):
        open_file(path, Settings(data=tmp_path, max_pdf_pages=4), parse)


def test_one_bad_page_does_not_take_the_others(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    path = tmp_path / "file.pdf"
    path.write_bytes(pdf([WORDS, WORDS]))
    file = open_file(path, settings, parse)
    path.write_bytes(b"gone meanwhile")
    assert all(isinstance(page, UnreadableError) for page in file)


def test_polyglot_is_read_as_what_it_is(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    path = tmp_path / "file.png"
    path.write_bytes(encoded(picture()) + pdf([WORDS]))
    assert open_file(path, settings, parse).count == 1


def test_pdf_of_5000_pages_is_told_so_without_reading_them(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    kids = " ".join(["3 0 R"] * 5_000)
    path = tmp_path / "long.pdf"
    path.write_text(
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        f"2 0 obj<</Type/Pages/Count 5000/Kids[{kids}]>>endobj\n"
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\ntrailer<</Root 1 0 R>>\n"
    )
    with pytest.raises(TooLargeError, match="5000 pages; the limit is 200: split it"):
        open_file(path, settings, parse)
