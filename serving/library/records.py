"""The records that a library takes and returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NewType

from serving.documents.page import Line
from serving.embedders.base import Vectors
from serving.settings import STORE_INDEX_PAGES
from serving.system.display_names import compose_name

CollectionKey = NewType("CollectionKey", str)
"""Opens a collection. Nobody can guess it, so having it is the permission to use the collection; a name is only its
label. The page resolves a name or a key to a key once, where it comes in; all code below takes keys only."""
OriginalKind = Literal["", "pdf", "file"]
"""What the file is that a page is of, where it is kept: only a PDF opens at a page."""
ABSENT = CollectionKey("")
"""Stands for a collection that does not exist yet: it is empty, and nothing can be added to it."""

IndexName = Literal["hnsw", "binary", "exact"]


@dataclass(frozen=True, slots=True)
class IndexChoice:
    """How a server searches large collections: those of `least_pages` or more, unless `exact`."""

    kind: IndexName = "hnsw"
    least_pages: int = STORE_INDEX_PAGES


DEFAULT_INDEX = IndexChoice()


@dataclass(frozen=True, eq=False, slots=True)
class NewPage:
    """A page to add: `picture` and `thumbnail` are encoded images, `vector` is float32[dimension]."""

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
    """float32[len(lines), dimension], zeros for lines that are not compared."""
    original: Path | None = None
    """The file that the page is of, to be kept as well."""


@dataclass(frozen=True, eq=False, slots=True)
class CopiedPage:
    """A page of another library, which keeps its id and the time when it was added, in seconds since 1970."""

    id: str
    added: float
    new: NewPage


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A page of a collection."""

    id: str
    collection: str
    file: str
    page: int
    pages: int
    width: int
    height: int
    read: bool
    """False if no text was looked for. If True and there are no lines, the page has no readable text."""
    original: OriginalKind = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result. `line` is the page's line that answers best, None where nobody can tell."""

    rank: int
    score: float
    page: StoredPage
    line: Line | None = None
    by_words: bool = False
    """Found by the words of the pages' text: the score compares with those of this search only."""
    is_exact: bool = False
    """The page has the number or name that was all of the question: it comes before pages that are nearer."""
    line_by_words: bool = False
    """The line says most of the question's words; else its vector is the nearest one."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects pages of a collection by file, type, folder and time; an empty field selects all."""

    files: tuple[str, ...] = ()
    """Names, as they are shown; letters with accents are the same however they are composed."""
    types: tuple[str, ...] = ()
    """Keys of `TYPES`."""
    folder: str = ""
    """Of the files' names, with the folders in it: `manuals` for `manuals/pump/a.pdf`."""
    added_after: float | None = None
    """Seconds since 1970: pages that were added then or later."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tuple(map(compose_name, self.files)))
        object.__setattr__(self, "folder", compose_name(self.folder).strip("/"))


ALL_PAGES = Selection()
PageChoice = Selection | frozenset[str]
"""Pages by a selection, or by their ids."""
TYPES = {
    "pdf": "PDF pages", "image": "Images of any kind", "png": "PNG", "jpeg": "JPEG", "webp": "WebP", "tiff": "TIFF",
    "gif": "GIF", "bmp": "BMP", "avif": "AVIF", "jp2": "JPEG 2000", "heic": "HEIC", "other": "Other",
}  # fmt: skip
ENDINGS = {
    "jpg": "jpeg", "jpe": "jpeg", "tif": "tiff", "j2k": "jp2", "jpx": "jp2", "jpf": "jp2", "heif": "heic",
    "dib": "bmp", "avifs": "avif", "jfif": "jpeg",
}  # fmt: skip


def guess_file_type(file: str) -> str:
    """Return the type that a file's name ends with: one of `TYPES`, never "image"."""
    ending = file.rpartition(".")[2].lower() if "." in file else ""
    kind = ENDINGS.get(ending, ending)
    return kind if kind in TYPES and kind not in ("image", "other") else "other"


def list_folders(file: str) -> list[str]:
    """Return the folders that a file's name lies in, the outermost first."""
    parts = file.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a collection."""

    name: str
    sha256: str
    pages: int
    """Those that are in the collection."""
    pages_of_file: int
    """Those that the file has."""
    added: float = 0.0
    """Seconds since 1970, of its first page."""

    @property
    def is_complete(self) -> bool:
        return self.pages >= self.pages_of_file


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection and what made its vectors: None while it has none."""

    name: str
    pages: int
    fingerprint: str | None
    model: str | None
    dimension: int | None
    key: CollectionKey = ABSENT


@dataclass(frozen=True, slots=True)
class Storage:
    """Use of the disk by a collection: its pages, bytes of their `pictures`, bytes of text and vectors as `data`.

    `originals`: bytes of the files that were added, which other collections may have too.
    """

    pages: int
    pictures: int
    data: int
    originals: int = 0

    @property
    def total(self) -> int:
        return self.pictures + self.data + self.originals

    @property
    def per_1000(self) -> int:
        return round(self.total / self.pages * 1000) if self.pages else 0
