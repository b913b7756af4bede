"""PDFs of some kilobytes that keep a reader busy for hours, or take all memory."""

from __future__ import annotations

import zlib

from serving.settings import MiB
from tests.support.raw_pdf import document, packed, stream

NESTED, TILED, STROKES, INFLATED = "(nested)", "(tiled)", "(strokes)", "(inflated)"
SLOW = (NESTED, TILED, STROKES)
"""Pages that are not drawn within a minute."""
AMPLE = 65_536 * MiB
"""Bytes of address space that a reader does not fill before its deadline; nested forms take 1 GiB in some 3 s."""
LEVELS, FAN = 12, 10
FIXED = 4
"""Objects that come before the nested forms."""


def hostile_pdf(*pages: str) -> bytes:
    """Return a PDF with a page for each: one of the kinds above, or words for an ordinary one."""
    first = FIXED + LEVELS + 1
    numbers = [first + 2 * n for n in range(len(pages))]
    kids = " ".join(f"{number} 0 R" for number in numbers)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        tile(),
        *(nested_form(level) for level in range(LEVELS)),
    ]
    resources = f"<</Font<</F 3 0 R>>/Pattern<</P 4 0 R>>/XObject<</X {FIXED + 1} 0 R>>>>"
    entries = f"/Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources{resources}"
    for number, page in zip(numbers, pages, strict=True):
        objects += [f"<<{entries}/Contents {number + 1} 0 R>>".encode(), content(page)]
    return document(objects)


def content(page: str) -> bytes:
    if page == NESTED:
        return packed(b"/X Do")
    if page == TILED:
        return packed(b"/Pattern cs /P scn 0 0 595 842 re f")
    if page == STROKES:  # one path of five million lines across the page
        return packed(b"0 0 m " + b"595 842 l 0 842 l 595 0 l " * 1_700_000 + b"S")
    if page == INFLATED:  # half a gigabyte of nothing, packed twice
        packer = zlib.compressobj(1)
        once = b"".join([packer.compress(bytes(2**20)) for _ in range(512)]) + packer.flush()
        return stream(zlib.compress(once), "/Filter[/FlateDecode/FlateDecode]")
    return packed(f"BT /F 18 Tf 60 780 Td ({page}) Tj ET".encode())


def nested_form(level: int) -> bytes:
    """A form that draws the next one ten times, and so on: 10^11 squares in all."""
    last = level == LEVELS - 1
    drawn = b"0 0 9 9 re f" if last else b"/X Do " * FAN
    inner = "" if last else f"/Resources<</XObject<</X {FIXED + level + 2} 0 R>>>>"
    return packed(drawn, f"/Type/XObject/Subtype/Form/BBox[0 0 595 842]{inner}")


def tile() -> bytes:
    """As large as the page, and repeated at every twentieth of a point."""
    drawn = b"0 0 595 842 re f 1 0 0 RG 0 0 m 500 800 l S"
    kind = "/Type/Pattern/PatternType 1/PaintType 1/TilingType 1/Resources<<>>"
    return packed(drawn, f"{kind}/BBox[0 0 595 842]/XStep .05/YStep .05")
