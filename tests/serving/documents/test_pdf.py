from __future__ import annotations

from pathlib import Path

import pytest

from serving.documents.files import open_file
from serving.documents.images import decode_image, encode_jpeg
from serving.documents.parser_pool import Parse
from serving.errors import TooLargeError, UnreadableError
from serving.settings import Settings
from tests.support.files import encoded, pdf, picture

WORDS = ["The tenant may keep one dog", "The deposit is two months of rent"]


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


@pytest.mark.parametrize(("size", "kept"), [((595, 14_400), (813, 19_675)), ((595, 842), (1_240, 1_755))])
def test_a_web_page_printed_as_one_page_is_readable(
    size: tuple[float, float], kept: tuple[int, int], tmp_path: Path, settings: Settings, parse: Parse
) -> None:
    path = tmp_path / "file.pdf"
    path.write_bytes(pdf([WORDS], size=size))
    page = open_file(path, settings, parse).read(0)
    assert page.image is not None and page.lines is not None and page.lines[0].text == WORDS[0]
    assert abs(page.image.width - kept[0]) <= 1 and abs(page.image.height - kept[1]) <= 1
    assert decode_image(encode_jpeg(page.image), settings).size == page.image.size, "a worker keeps it as it is"


def write_long_pdf(path: Path, pages: int) -> Path:
    kids = " ".join(["3 0 R"] * pages)
    path.write_text(
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        f"2 0 obj<</Type/Pages/Count {pages}/Kids[{kids}]>>endobj\n"
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\ntrailer<</Root 1 0 R>>\n"
    )
    return path


def test_a_pdf_may_have_5000_pages(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    file = open_file(write_long_pdf(tmp_path / "long.pdf", 5_000), settings, parse)
    assert file.count == 5_000 and file.read(4_999).image is not None


def test_a_longer_pdf_is_refused_without_reading_its_pages(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    with pytest.raises(TooLargeError, match="5001 pages; the limit is 5000: split it"):
        open_file(write_long_pdf(tmp_path / "long.pdf", 5_001), settings, parse)
