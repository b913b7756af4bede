"""Text of a PDF that nobody sees on the page is not found; text that stands for what is seen is."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.documents.files import open_file
from serving.documents.parser_pool import Parse
from serving.settings import Settings
from tests.support.raw_pdf import one_page

SEEN = "These words are on the page"
LAYER = {
    "catalogue": "/OCProperties<</OCGs[6 0 R]/D<</OFF[6 0 R]/Order[6 0 R]>>>>",
    "resources": "/Properties<</Layer 6 0 R>>",
}


def write(words: str, top: int, before: str = "") -> str:
    return f"q {before} BT /Helv 18 Tf 60 {top} Td ({words}) Tj ET Q\n"


def make_page(content: str, **entries: str) -> bytes:
    return one_page(content, more=[b"<</Type/OCG/Name(drafts)>>"], **entries)


PAGES = {
    "white on white": make_page(write(SEEN, 700) + write("cheap flights", 600, "1 g")),
    "teal on teal": make_page(f"0 .5 .5 rg 40 590 500 40 re f\n{write('cheap flights', 600)}{write(SEEN, 700, '0 g')}"),
    "outside the crop box": make_page(write(SEEN, 700) + write("cheap flights", 100), page="/CropBox[0 400 595 842]"),
    "a layer that is off": make_page(write(SEEN, 700) + f"/OC /Layer BDC {write('cheap flights', 600)} EMC", **LAYER),
    "drawn without ink": make_page(write(SEEN, 700) + write("cheap flights", 600, "3 Tr")),
}
SHOWN = {
    "black on teal": make_page(f"0 .5 .5 rg 40 590 500 40 re f\n{write(SEEN, 700, '0 g')}{write('words', 600, '0 g')}"),
    "a layer that is on": make_page(
        write(SEEN, 700) + f"/OC /Layer BDC {write('words', 600)} EMC", **{**LAYER, "catalogue": ""}
    ),
    "the text of a scan": make_page(write(SEEN, 700) + "0 g 60 602 m 180 610 l S\n" + write("words", 600, "3 Tr")),
    "small grey print": make_page(write(SEEN, 700) + "q .9 g BT /Helv 4 Tf 60 600 Td (words) Tj ET Q"),
}


def read_lines(data: bytes, tmp_path: Path, settings: Settings, parse: Parse) -> list[str]:
    path = tmp_path / "page.pdf"
    path.write_bytes(data)
    lines = open_file(path, settings, parse).read(0).lines
    assert lines is not None
    return [line.text for line in lines]


@pytest.mark.parametrize("kind", PAGES)
def test_text_that_nobody_sees_is_not_read(kind: str, tmp_path: Path, settings: Settings, parse: Parse) -> None:
    assert read_lines(PAGES[kind], tmp_path, settings, parse) == [SEEN]


@pytest.mark.parametrize("kind", SHOWN)
def test_text_that_is_seen_is_read(kind: str, tmp_path: Path, settings: Settings, parse: Parse) -> None:
    assert read_lines(SHOWN[kind], tmp_path, settings, parse) in ([SEEN, "words"], ["words", SEEN])
