"""What goes into a library and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from serving.documents.page import Line
from serving.embedders.base import Vectors

CollectionKey = NewType("CollectionKey", str)
"""Opens a collection: whoever has it may use that, and nobody can guess it. A name is only what a collection is called;
the page finds the key once, where a name or a key comes in, and below that there are keys alone."""
ABSENT = CollectionKey("")
"""Stands for a collection that does not exist yet: there is nothing in it, and nothing can be put into it."""


@dataclass(frozen=True, eq=False, slots=True)
class NewPage:
    """What `add` keeps: `picture` and `thumbnail` are encoded images, `vector` is float32[dimension]."""

    file: str
    sha256: str
    page: int
    pages: int
    width: int
    height: int
    picture: bytes
    thumbnail: bytes
    vector: Vectors
    lines: tuple[Line, ...] | None
    line_vectors: Vectors | None = None
    """float32[len(lines), dimension], zeros for lines that answer nothing."""


@dataclass(frozen=True, slots=True)
class StoredPage:
    id: str
    collection: str
    file: str
    page: int
    pages: int
    width: int
    height: int
    read: bool
    """False if no text was looked for; a page that was read and has no lines has no readable text."""


@dataclass(frozen=True, slots=True)
class Hit:
    """`line` is the one nearest to the query, where the page's lines have vectors."""

    rank: int
    score: float
    page: StoredPage
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Some pages of a collection: those of these files and of these types; empty, of all of them."""

    files: tuple[str, ...] = ()
    """Names, as they are shown."""
    types: tuple[str, ...] = ()
    """Of `TYPES`."""

    def takes(self, file: str) -> bool:
        named = not self.files or file in self.files
        kind = type_of(file)
        return named and (
            not self.types or kind in self.types or ("image" in self.types and kind not in ("pdf", "other"))
        )


EVERY = Selection()
TYPES = {
    "pdf": "PDF pages", "image": "Images of any kind", "png": "PNG", "jpeg": "JPEG", "webp": "WebP", "tiff": "TIFF",
    "gif": "GIF", "bmp": "BMP", "avif": "AVIF", "jp2": "JPEG 2000", "heic": "HEIC", "other": "Other",
}  # fmt: skip
ENDINGS = {
    "jpg": "jpeg", "jpe": "jpeg", "tif": "tiff", "j2k": "jp2", "jpx": "jp2", "jpf": "jp2", "heif": "heic",
    "dib": "bmp", "avifs": "avif", "jfif": "jpeg",
}  # fmt: skip


def type_of(file: str) -> str:
    """What a file's name says that it is: one of `TYPES`, never "image"."""
    ending = file.rpartition(".")[2].lower() if "." in file else ""
    kind = ENDINGS.get(ending, ending)
    return kind if kind in TYPES and kind not in ("image", "other") else "other"


@dataclass(frozen=True, slots=True)
class StoredFile:
    name: str
    sha256: str
    pages: int


@dataclass(frozen=True, slots=True)
class Collection:
    name: str
    pages: int
    fingerprint: str | None
    model: str | None
    dimension: int | None
    key: CollectionKey = ABSENT


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes that a collection takes on disk."""

    pages: int
    pictures: int
    data: int
    """Text and vectors."""

    @property
    def per_1000(self) -> int:
        return round((self.pictures + self.data) / self.pages * 1000) if self.pages else 0
