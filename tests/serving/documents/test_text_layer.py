"""Which pieces a text layer has, and where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.documents.page import Line
from serving.documents.parser_pool import Parse
from serving.settings import Settings
from tests.support.raw_pdf import FIRST_MORE, one_page
from tests.support.readers import read_pages
from tests.support.text_pages import find_cjk_font, write


def at(left: float, bottom: float, turn: str = "1 0 0 1") -> str:
    return f"BT /Helv 12 Tf {turn} {left} {bottom} Tm "


SHOWN = {
    "kerned letters": (at(60, 700) + "[(T) 90 (uesday) -280 (T) 120 (a) 60 (vern)] TJ ET", "Tuesday Tavern"),
    "words placed one by one": (write("Harbour", 60, 700) + write("gazette", 107, 700), "Harbour gazette"),
    "letters placed one by one": (
        "".join(write(letter, 60 + 9 * n, 700) for n, letter in enumerate("GRAND")), "GRAND"
    ),
    "letters struck twice": (write("Certificate", 60, 700) + write("Certificate", 60.3, 700), "Certificate"),
    "letters set wide": (at(60, 700) + "4 Tc (Mahnbescheid) Tj ET", "Mahnbescheid"),
    "signs above and below the others": (write("def f_0(x): 'x', x^2 . _-", 60, 700), "def f_0(x): 'x', x^2 . _-"),
    "text that runs up": (at(60, 400, "0 1 -1 0") + "(Archive copy shelf) Tj ET", "Archive copy shelf"),
    "text that runs down": (at(60, 400, "0 -1 1 0") + "(Archive copy shelf) Tj ET", "Archive copy shelf"),
    "text upside down": (at(400, 400, "-1 0 0 -1") + "(Archive copy shelf) Tj ET", "Archive copy shelf"),
    "text askew": (at(60, 400, ".82 .57 -.57 .82") + "(Confidential draft) Tj ET", "Confidential draft"),
}  # fmt: skip


def read(data: bytes, tmp_path: Path, settings: Settings, parse: Parse) -> list[Line]:
    (page,) = read_pages(tmp_path, data, settings, parse)
    return list(page.lines or ())


@pytest.mark.parametrize("kind", SHOWN)
def test_words_stay_whole(kind: str, tmp_path: Path, settings: Settings, parse: Parse) -> None:
    content, words = SHOWN[kind]
    found = read(one_page(content + "\n" + write("Another line", 60, 100)), tmp_path, settings, parse)
    assert [line.text for line in found] == [words, "Another line"]


def test_cells_and_columns_are_pieces_of_their_own(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    rows = [("Total due", "2,917.43"), ("The harbour was quiet", "Bakers of the valley")]
    content = "".join(
        write(left, 60, 700 - 20 * n) + write(right, 200, 700 - 20 * n) for n, (left, right) in enumerate(rows)
    )
    found = read(one_page(content), tmp_path, settings, parse)
    assert [line.text for line in found] == [cell for row in rows for cell in row]
    boxes = [line.box for line in found]
    assert [box and box[0] for box in boxes] == [pytest.approx(left / 595, abs=0.005) for left in (60, 200, 60, 200)]


@pytest.mark.parametrize("second", ["Spare fuses are kept in the cellar.", '"gs -h" shows the settings of the cellar.'])
def test_a_short_line_close_above_a_longer_one_is_its_own(
    second: str, tmp_path: Path, settings: Settings, parse: Parse
) -> None:
    """Their box would be two lines high: the mark of a hit would be, and the OCR would read the second one again."""
    content = write("Tip", 60, 700) + write(second, 60, 687)
    assert [line.text for line in read(one_page(content), tmp_path, settings, parse)] == ["Tip", second]


def test_letters_in_boxes_come_one_by_one(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    """Whether they are a word is told by their distances: `text_rows`."""
    content = "".join(write(letter, 60 + 18 * n, 700) for n, letter in enumerate("471108"))
    assert [line.text for line in read(one_page(content), tmp_path, settings, parse)] == list("471108")


def test_a_word_split_at_a_line_end_keeps_its_hyphen(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    content = write("Gegenstand ist die Haushalts-", 60, 700) + write("glasbruchversicherung.", 60, 685)
    found = [line.text for line in read(one_page(content), tmp_path, settings, parse)]
    assert found == ["Gegenstand ist die Haushalts-", "glasbruchversicherung."]


def test_japanese_in_columns(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    if find_cjk_font() is None:
        pytest.skip("no typeface with Japanese signs is installed")
    columns = ["山の朝は静か", "猟師は古い小屋"]
    content = "".join(
        f"BT /Jp 16 Tf 1 0 0 1 {400 - 30 * column} {700 - 18 * place} Tm <{ord(sign):04X}> Tj ET\n"
        for column, signs in enumerate(columns)
        for place, sign in enumerate(signs)
    )
    fonts = [
        f"<</Type/Font/Subtype/Type0/BaseFont/Mincho/Encoding/UniJIS-UCS2-H/DescendantFonts[{FIRST_MORE + 1} 0 R]>>",
        "<</Type/Font/Subtype/CIDFontType0/BaseFont/Mincho"
        "/CIDSystemInfo<</Registry(Adobe)/Ordering(Japan1)/Supplement 2>>"
        f"/FontDescriptor {FIRST_MORE + 2} 0 R>>",
        "<</Type/FontDescriptor/FontName/Mincho/Flags 4/FontBBox[0 -200 1000 900]/ItalicAngle 0/Ascent 900/Descent -200"
        "/CapHeight 700/StemV 80>>",
    ]
    data = one_page(content, fonts=f"/Jp {FIRST_MORE} 0 R", more=[font.encode() for font in fonts])
    assert [line.text for line in read(data, tmp_path, settings, parse)] == columns
