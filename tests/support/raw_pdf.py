"""PDFs written object by object, for what no library would write."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence

FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"
FIRST_MORE = 6
"""The number of the first object of `more`."""


def one_page(
    content: str, page: str = "", catalogue: str = "", resources: str = "", more: Sequence[bytes] = (), fonts: str = ""
) -> bytes:
    """Return a PDF of one A4 page, whose font is /Helv. The other texts are entries of that dictionary."""
    used = f"/Resources<</Font<</Helv 3 0 R{fonts}>>{resources}>>"
    return document(
        [
            f"<</Type/Catalog/Pages 2 0 R{catalogue}>>".encode(),
            b"<</Type/Pages/Count 1/Kids[4 0 R]>>",
            FONT,
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]{used}/Contents 5 0 R{page}>>".encode(),
            stream(content.encode(), ""),
            *more,
        ]
    )


def packed(data: bytes, entries: str = "") -> bytes:
    return stream(zlib.compress(data), f"{entries}/Filter/FlateDecode")


def stream(data: bytes, entries: str) -> bytes:
    return f"<<{entries}/Length {len(data)}>>stream\n".encode() + data + b"\nendstream"


def document(objects: list[bytes]) -> bytes:
    """Numbered from 1, the first one is the catalogue."""
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    out.write(b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table))
    return out.getvalue()
