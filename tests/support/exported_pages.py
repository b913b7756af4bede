"""Pages for exports: drawn pictures, file names that are attacks, lines with vectors."""

from __future__ import annotations

import numpy as np

from serving.documents.images import encode_thumbnail
from serving.documents.page import Line
from serving.library.records import NewPage
from tests.support.files import encoded, picture
from tests.support.scripted import unit

FILES = ["a.pdf", "=cmd|'x'!A1", "<img src=x onerror=alert(1)>.png"]
LINES = (Line("Total due 12.00 €", (0.1, 0.2, 0.5, 0.25)), Line("no box"))


def page(number: int, lined: bool = True) -> NewPage:
    image = picture((60, 40 + number), f"{number}")
    vectors = np.stack([unit(line.text, 64) for line in LINES])
    return NewPage(
        file=FILES[number % 3], sha256=f"{number % 3:064x}", page=number // 3 + 1, pages=3,
        width=60, height=40 + number,
        picture=encoded(image, "JPEG"), thumbnail=encode_thumbnail(image), vector=unit(f"page {number}", 64),
        lines=LINES if lined else None, line_vectors=vectors if lined else None,
    )  # fmt: skip
