"""PDFs with what is kept beside the page: fields, comments, stamps, signatures, with and without an appearance."""

from __future__ import annotations

from tests.support.raw_pdf import FIRST_MORE, one_page, stream

WIDGET, COMMENT = "/Type/Annot/Subtype/Widget", "/Type/Annot/Subtype/"
FONT = "/DA(/Helv 12 Tf 0 g)"
RESOURCES = "/Resources<</Font<</Helv 3 0 R>>>>"


def form_pdf(*annotations: tuple[str, str | None], words: str = "Claim form of the Meadow Society") -> bytes:
    """Return a PDF of one page with these annotations below each other. Each is its entries, and the text of its
    appearance stream; None if it comes without one, as programs write it that leave drawing to the reader."""
    references = " ".join(f"{FIRST_MORE + 2 * number} 0 R" for number in range(len(annotations)))
    more: list[bytes] = []
    for number, (entries, shown) in enumerate(annotations):
        top = 720 - 40 * number
        look = "" if shown is None else f"/AP<</N {FIRST_MORE + len(more) + 1} 0 R>>"
        more.append(f"<<{entries}/Rect[60 {top - 20} 300 {top}]{look}>>".encode())
        drawn = f"BT /Helv 12 Tf 2 5 Td ({shown or ''}) Tj ET".encode()
        more.append(stream(drawn, f"/Type/XObject/Subtype/Form/BBox[0 0 240 20]{RESOURCES}"))
    return one_page(
        f"BT /Helv 18 Tf 60 780 Td ({words}) Tj ET",
        page=f"/Annots[{references}]",
        catalogue=f"/AcroForm<</Fields[{references}]/DR<</Font<</Helv 3 0 R>>>>{FONT}>>",
        more=more,
    )


def text_field(value: str, shown: str | None = None) -> tuple[str, str | None]:
    return f"{WIDGET}/FT/Tx/T({value})/V({value})/F 4{FONT}", shown


def choice_field(value: str, shown: str | None = None) -> tuple[str, str | None]:
    return f"{WIDGET}/FT/Ch/Ff 131072/T({value})/V({value})/Opt[(something else)({value})]/F 4{FONT}", shown


def signature(shown: str) -> tuple[str, str | None]:
    return f"{WIDGET}/FT/Sig/T(signature)/F 4", shown


def comment(kind: str, text: str, shown: str | None = None, flags: int = 4) -> tuple[str, str | None]:
    return f"{COMMENT}{kind}/Contents({text})/F {flags}{FONT}", shown
