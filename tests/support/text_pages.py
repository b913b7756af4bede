"""Pages of text as people scan, photograph and print them, drawn here."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tests.support import raw_pdf
from tests.support.raw_pdf import FIRST_MORE, one_page, stream

A4 = (1240, 1754)
LETTER = (
    "Wasserwerk Rabental GmbH",
    "Kundennummer 884-2071-Q",
    "Abschlag fuer das Quartal",
    "Betrag 84,50 EUR am 14.03.2031",
    "Bitte zahlen Sie rechtzeitig",
)
PROSE = (
    "The society thanks all members for their patience.",
    "Keys are kept at the lodge until the end of the month.",
    "Please sign the list in the hallway before you leave.",
)
CJK_FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/opentype/noto/NotoSerifCJK-Regular.ttc",
)


def draw_sheet(
    lines: Sequence[str], size: tuple[int, int] = A4, letters: int = 38, left: int = 100, top: int = 120
) -> Image.Image:
    """Return a white page with lines below each other."""
    page = Image.new("RGB", size, "white")
    font = ImageFont.load_default(letters)
    for number, line in enumerate(lines):
        ImageDraw.Draw(page).text((left, top + int(1.8 * letters * number)), line, "black", font)
    return page


def find_cjk_font() -> str | None:
    """Return a typeface with Chinese and Japanese signs, if one is installed."""
    return next((path for path in CJK_FONTS if Path(path).is_file()), None)


def draw_columns(columns: Sequence[str], font: str, letters: int = 40) -> Image.Image:
    """Return a page of signs that are read from top to bottom, from right to left."""
    page = Image.new("RGB", (900, 1200), "white")
    face = ImageFont.truetype(font, letters)
    for number, column in enumerate(columns):
        for place, sign in enumerate(column):
            where = (800 - int(1.8 * letters * number), 60 + int(1.1 * letters * place))
            ImageDraw.Draw(page).text(where, sign, "black", face)
    return page


def write(words: str, left: float, bottom: float, size: float = 12, font: str = "Helv") -> str:
    """Return the drawing of a line in a PDF."""
    return f"BT /{font} {size} Tf 1 0 0 1 {left} {bottom} Tm ({words}) Tj ET\n"


def scan_pdf(
    picture: Image.Image,
    content: str = "",
    place: tuple[float, float, float, float] = (0, 0, 595, 842),
    page: str = "",
    catalogue: str = "",
) -> bytes:
    """Return a PDF of one page that shows a picture at left, bottom, width and height, and draws `content` over it.

    `page` and `catalogue` are more entries of these dictionaries.
    """
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    size = f"/Width {picture.width}/Height {picture.height}/ColorSpace/DeviceRGB/BitsPerComponent 8"
    image = stream(buffer.getvalue(), f"/Type/XObject/Subtype/Image{size}/Filter/DCTDecode")
    left, bottom, width, height = place
    shown = f"q {width} 0 0 {height} {left} {bottom} cm /Picture Do Q\n"
    resources = f"/XObject<</Picture {FIRST_MORE} 0 R>>"
    return one_page(shown + content, page, catalogue, resources, more=[image])


def garbled_pdf(content: str, letters: dict[str, str]) -> bytes:
    """Return a PDF whose font /Odd looks like any, but says that its letters are others."""
    rows = "\n".join(f"<{ord(seen):02X}> <{ord(said):04X}>" for seen, said in letters.items())
    mapping = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /Odd def "
        f"1 begincodespacerange <00> <FF> endcodespacerange {len(letters)} beginbfchar\n{rows}\n"
        "endbfchar endcmap end end"
    )
    odd = f"<</Type/Font/Subtype/Type1/BaseFont/Helvetica-Bold/ToUnicode {FIRST_MORE + 1} 0 R>>"
    return one_page(content, fonts=f"/Odd {FIRST_MORE} 0 R", more=[odd.encode(), raw_pdf.packed(mapping.encode())])
