"""Pages for exports: drawn pictures, file names that are attacks, lines with vectors."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from serving.documents.images import encode_thumbnail
from serving.documents.page import Line
from serving.library.library import Library
from serving.library.records import CollectionKey, NewPage
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


def anything(_: str) -> None: ...


def changed(path: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    other = path.with_name("changed.zip")
    with zipfile.ZipFile(other, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return other


def state(library: Library, collection: CollectionKey) -> list[object]:
    """All that a person sees of it, and its vectors."""
    hits = library.ranking.search(collection, unit("page 3", 64), 9, "f1")
    return [
        (
            hit.score, hit.line, hit.page.file, hit.page.page, hit.page.pages, hit.page.width, hit.page.read,
            library.catalogue.read_lines(hit.page.id), library.pictures.read_picture(hit.page.id),
            (library.pictures.read_thumbnail(hit.page.id) or b"")[:4],
            library.catalogue.read_vector(collection, hit.page.id)[0].tolist(),
        )
        for hit in hits
    ]  # fmt: skip
