"""Which words of a page are found: those that a person sees on it, whatever its text layer says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from serving.documents.images import decode_image
from serving.documents.page import Line, Page
from serving.documents.parser_pool import Parse
from serving.embedders.builtin import page_reader
from serving.embedders.builtin.ocr import Ocr
from serving.embedders.builtin.page_reader import PageReader
from serving.settings import Settings
from tests.support.form_pdfs import comment, form_pdf
from tests.support.raw_pdf import one_page
from tests.support.readers import read_pages
from tests.support.repository import SAMPLES
from tests.support.script_pages import NOTICES, draw_landscape, draw_notice
from tests.support.tesseract import ADVICE, SCRIPTS, is_missing
from tests.support.text_pages import A4, LETTER, PROSE, draw_sheet, garbled_pdf, scan_pdf, write

SHIFT = {chr(n): chr(n + 1) for n in (*range(65, 90), *range(97, 122))}
SWAP = dict(zip("aeioubcdfghklmnprstw", "eioauwtsrpnmlkhgfdcb", strict=True))
"""Vowels for vowels: what comes out looks like words of some language."""
DIGITS = {str(n): str((n + 3) % 10) for n in range(10)}
CYRILLIC = {chr(n): chr(0x410 + n - 65) for n in (*range(65, 91), *range(97, 123))}
GREEK_FONT = "/usr/share/fonts/truetype/noto/NotoSans-Regular.ttf"
ODD = [
    "Inspection of the chimney flue",
    "The north side of the stack is cracked",
    "Repair before the heating season",
    "Inspector Magdalena Oberhuber",
]


Read = Callable[[bytes], str]


@pytest.fixture
def read(ocr: Ocr, tmp_path: Path, settings: Settings, parse: Parse) -> Read:
    def read_page(data: bytes) -> str:
        (page,) = read_pages(tmp_path, data, settings, parse)
        return squeeze("\n".join(line.text for line in PageReader(ocr).read_page(page)))

    return read_page


def squeeze(text: str) -> str:
    """The text without the spaces that an OCR may leave out."""
    return text.replace(" ", "")


def draw(lines: list[str] | tuple[str, ...], top: float, font: str = "Helv") -> str:
    return "".join(write(line, 60, top - 22 * number, 13, font) for number, line in enumerate(lines))


STAMPS = {
    "a scanner's name": write("Scanned with CamScanner", 230, 20, 9),
    "a Bates number": write("ACME-0004711", 470, 20, 9),
    "an envelope's id": write("DocuSign Envelope ID: 8F3A22C1-77B0-4E1D-9A55-0C2B41D7A9EE", 20, 826, 8),
    "two long lines": write("Received by the registry of the court on 12 March 2031", 20, 826, 8)
    + write("This copy was made for the file and may not be passed on to third parties.", 20, 14, 8),
}


@pytest.mark.parametrize("stamp", STAMPS)
def test_a_scan_with_printed_lines_is_read(read: Read, stamp: str) -> None:
    found = read(scan_pdf(draw_sheet(LETTER), STAMPS[stamp]))
    assert all(squeeze(line) in found for line in LETTER)
    assert squeeze(STAMPS[stamp].split("(")[1].split(")")[0]) in found


@pytest.mark.parametrize("kind", ["Text", "Highlight", "FreeText", "Stamp"])
def test_a_scan_with_a_comment_is_read(read: Read, kind: str) -> None:
    """What is drawn and what is typed behind a mark, beside the words of the picture."""
    remark = "please call Magda about the invoice"
    entries = f"/Type/Annot/Subtype/{kind}/Contents({remark})/F 4/DA(/Helv 12 Tf 0 g)/Rect[60 700 300 720]"
    fonts = "/AcroForm<</Fields[]/DR<</Font<</Helv 3 0 R>>>>>>"
    found = read(scan_pdf(draw_sheet(LETTER, top=400), page=f"/Annots[<<{entries}>>]", catalogue=fonts))
    assert all(squeeze(line) in found for line in LETTER)
    if kind != "Stamp":  # a stamp is a picture: its contents are a remark of the program
        assert squeeze(remark) in found


def test_a_picture_between_paragraphs_is_read(read: Read) -> None:
    screenshot = draw_sheet(["Error 8007 in module kestrel", "Disk quota exceeded"], (900, 260), top=40)
    found = read(scan_pdf(screenshot, draw(PROSE, 780) + draw(PROSE, 160), (60, 300, 450, 130)))
    assert "8007inmodulekestrel" in found and "Diskquotaexceeded" in found
    assert [found.count(squeeze(line)) for line in PROSE] == [2, 2, 2], "what the text layer has is not read twice"
    assert found.index("patience") < found.index("Diskquota") < found.rindex("patience")


GARBLED = {
    "letters shifted": (SHIFT, ODD),
    "letters that make words": (SWAP, ODD),
    "another script": (CYRILLIC, ODD),
    "digits": (DIGITS, ["Meter 4471882 read 1902", "Meter 5513907 read 2278", "Meter 6604123 read 3310"]),
}


@pytest.mark.parametrize("kind", GARBLED)
def test_a_font_that_names_other_letters_is_not_believed(read: Read, kind: str) -> None:
    letters, lines = GARBLED[kind]
    found = read(garbled_pdf(draw(lines, 760, "Odd"), letters))
    assert all(squeeze(line) in found for line in lines)


def test_only_the_lines_of_that_font_are_read_again(read: Read) -> None:
    found = read(garbled_pdf(draw(ODD[:2], 760, "Odd") + draw(PROSE * 4, 640), SWAP))
    assert all(squeeze(line) in found for line in [*ODD[:2], *PROSE])
    assert found.count(squeeze(PROSE[0])) == 4
    wrong = "".join(SWAP.get(letter, letter) for letter in ODD[1])
    assert squeeze(wrong) not in found


@pytest.mark.parametrize(
    "words", ["Pages of ordinary words", "Заявление на отпуск сотрудника", "विद्युत का मासिक बिल पत्र"]
)
def test_a_right_layer_is_kept_as_it_is(ocr: Ocr, words: str) -> None:
    """Of a script that the OCR reads, and of others."""
    page = draw_sheet([words], (1_000, 300), top=100)  # the typeface has boxes for what it lacks
    line = Line(words, (0.1, 0.33, 0.9, 0.5))
    found = PageReader(ocr).read_page(Page(page, (line,)))
    assert found[0] == line


def test_a_greek_layer_is_kept_whose_capitals_look_like_latin_ones(ocr: Ocr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # no Tesseract
    if not Path(GREEK_FONT).is_file():
        pytest.skip("no typeface with Greek letters is installed")
    words = ["ΗΜΕΡΟΜΗΝΙΑ ΕΚΔΟΣΗΣ", "Αίτηση άδειας εργαζομένου", "Λογαριασμός ρεύματος για τον Μάρτιο"]
    page, font = Image.new("RGB", A4, "white"), ImageFont.truetype(GREEK_FONT, 36)
    for number, line in enumerate(words):
        ImageDraw.Draw(page).text((100, 100 + 80 * number), line, "black", font)
    layer = tuple(
        Line(line, (0.08, (100 + 80 * n) / A4[1], 0.08 + font.getlength(line) / A4[0], (145 + 80 * n) / A4[1]))
        for n, line in enumerate(words)
    )
    assert PageReader(ocr).read_page(Page(page, layer)) == layer


def test_a_watermark_across_a_scan_hides_no_words(read: Read) -> None:
    askew = "q .9 G 1 Tr BT /Helv 60 Tf .7 .7 -.7 .7 120 250 Tm (CONFIDENTIAL) Tj ET Q"
    found = read(scan_pdf(draw_sheet(LETTER * 4), askew))
    assert [found.count(squeeze(line)) for line in LETTER] == [4] * 5 and "CONFIDENTIAL" in found


def test_a_long_note_leaves_the_rows_of_its_page(read: Read) -> None:
    remark = "please check the amount with the customer before the end of the month, " * 4
    entries = f"/Annots[<</Type/Annot/Subtype/Text/Contents({remark})/F 4/Rect[500 690 520 710]>>]"
    drawn = draw(["Invoice 2024", "Customer Miller", "Total due"], 760) + write("2,917.43", 300, 716, 13)
    found = read(one_page(drawn, page=entries)).splitlines()
    assert found[:3] == ["Invoice2024", "CustomerMiller", "Totaldue2,917.43"]


def test_copies_of_lines_and_boxes_without_height_are_no_trouble(ocr: Ocr) -> None:
    copies = (Line("Invoice total amount", (0.0, 0.0, 1.0, 1.0)),) * 5
    assert PageReader(ocr).read_page(Page(draw_sheet(LETTER), copies))
    flat = (Line("Invoice total amount", (0.0, 0.5, 1.0, 0.5)), Line("Invoice number", (1.0, 1.0, 1.0, 1.0)))
    assert ocr.read_boxes(draw_sheet(LETTER), [line.box for line in flat if line.box]) == [("", 0.0)] * 2
    assert {*flat} <= {*PageReader(ocr).read_page(Page(draw_sheet(LETTER), flat))}


def test_lines_without_boxes_are_all_that_is_known(ocr: Ocr) -> None:
    lines = (Line("The tenant may keep one dog"), Line("12.00"))
    assert PageReader(ocr).read_page(Page(draw_sheet(LETTER), lines)) == lines
    assert PageReader(ocr).read_page(Page(None, lines)) == lines


@pytest.mark.parametrize("direction", [90, 180, 270])
def test_rows_of_a_turned_page_are_joined(ocr: Ocr, direction: int) -> None:
    page = draw_sheet(LETTER)
    page.paste(draw_sheet(["9855,50"], (300, 60), left=5, top=5), (900, 118))
    upright, turned = (PageReader(ocr).read_page(Page(image)) for image in (page, page.rotate(direction, expand=True)))
    assert [squeeze(line.text) for line in upright] == [squeeze(line.text) for line in turned]
    assert squeeze(turned[0].text) == squeeze(LETTER[0]) + "9855,50"


def test_rules_and_even_areas_cost_no_ocr(ocr: Ocr, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Image.Image) -> None:
        raise AssertionError("read as a picture")

    monkeypatch.setattr(ocr, "read_pieces", fail)
    page = draw_sheet(PROSE)
    page.paste((40, 90, 160), (0, 0, 1240, 60))
    for left in (60, 1180):
        page.paste((0, 0, 0), (left, 80, left + 3, 1700))
    lines = tuple(
        Line(text, (0.08, (120 + 68 * n) / 1754, (110 + 18.5 * len(text)) / 1240, (170 + 68 * n) / 1754))
        for n, text in enumerate(PROSE)
    )
    assert PageReader(ocr).read_page(Page(page, lines)) == lines


def test_comments_are_told_by_their_own_words(read: Read) -> None:
    found = read(form_pdf(comment("Highlight", "please call Magda"), words="Claim form of the Meadow Society"))
    assert found.splitlines() == [squeeze("Claim form of the Meadow Society"), squeeze("please call Magda")]


@pytest.mark.skipif(is_missing(), reason=ADVICE)
@pytest.mark.parametrize("turn", [0, 180])
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_that_the_ocr_does_not_know_are_read_by_tesseract(ocr: Ocr, script: str, turn: int) -> None:
    page = draw_notice(script)
    page.paste(draw_sheet(["Invoice AL-2031-77"], (900, 90), top=20), (60, page.height - 100))
    lines = PageReader(ocr).read_page(Page(page.rotate(turn)))
    found = squeeze("".join(line.text for line in lines))
    words = " ".join(NOTICES[script]).split()
    assert sum(word in found for word in words) > 0.85 * len(words)
    assert "InvoiceAL-2031-77" in found, "what the OCR read itself is kept"
    assert [line.text for line in lines].index("Invoice AL-2031-77") == (len(lines) - 1 if turn == 0 else 0)


@pytest.mark.skipif(is_missing(), reason=ADVICE)
@pytest.mark.parametrize("name", ["invoice-aurora-lamps.jpg", "chart-honey-harvest.png", "photo"])
def test_tesseract_is_not_asked_about_pages_that_were_read(
    ocr: Ocr, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise AssertionError("asked for Tesseract")

    monkeypatch.setattr(page_reader, "find_tesseract", fail)
    page = draw_landscape() if name == "photo" else decode_image(SAMPLES / name, Settings())
    PageReader(ocr).read_page(Page(page))


@pytest.mark.skipif(is_missing(), reason=ADVICE)
@pytest.mark.parametrize("turn", [0, 90, 180])
def test_cells_read_by_tesseract_are_joined_as_they_are_read(ocr: Ocr, turn: int) -> None:
    page, font = Image.new("RGB", A4, "white"), ImageFont.truetype(GREEK_FONT, 36)
    rows = [("Сумма платежа", "Двести рублей"), ("Плательщик", "Иванова Мария"), ("Назначение", "Аренда квартиры")]
    for number, row in enumerate(rows):
        for left, cell in zip((100, 700), row, strict=True):
            ImageDraw.Draw(page).text((left, 200 + 90 * number), cell, "black", font)
    found = PageReader(ocr).read_page(Page(page.rotate(turn, expand=True)))
    assert [line.text for line in found] == [" ".join(row) for row in rows]
