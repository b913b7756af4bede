"""Imports an exported collection as a new one: all of it, or nothing.

Anybody may have made the zip. Nothing in it is used as a path or an id; text, numbers and vectors are checked, and
pictures are decoded within limits. The limits follow from those of an export, so that each export can be imported.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from serving.documents.archives import Bounds, MemberReader, open_archive, open_member
from serving.documents.images import decode_image, encode_jpeg, encode_thumbnail
from serving.documents.page import Line
from serving.embedders.base import Vectors
from serving.errors import BadValueError, TooLargeError, UnreadableError
from serving.library.catalogue import NAME_CHARS, check_new_name, make_name_error
from serving.library.exporting import FORMAT, VERSION, Progress, ignore_progress
from serving.library.library import Library
from serving.library.records import Collection, CollectionKey, NewPage
from serving.settings import Settings
from serving.system.display_names import display_path

HEAD_BYTES = 64 * 1024
READ_LINES = 1_000
"""Lines that the OCR reads on one page at most."""
JPEG_BYTES = 4
"""Upper bound for each pixel of the JPEGs that are written here: those of noise have 1."""
OTHERS = 10
"""Upper bound of an export's files that are no pictures."""
TRIES = 100
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, eq=False, slots=True)
class PagePicture:
    """A page's picture and thumbnail, encoded, and its size in pixels."""

    picture: bytes
    thumbnail: bytes
    width: int
    height: int


class ExportHead(BaseModel, frozen=True, strict=True):
    """The content of `collection.json`."""

    format: Literal["dormouse-collection"]
    version: int
    name: str
    model: Annotated[str, Field(max_length=200)] | None
    fingerprint: Annotated[str, Field(max_length=200)] | None
    dimension: Annotated[int, Field(ge=1, le=16_384)] | None
    pages: Annotated[int, Field(ge=0)]


class LineEntry(BaseModel, frozen=True):
    """A line of a page's text. Not strict: JSON has no tuples."""

    text: str
    box: tuple[Share, Share, Share, Share] | None


class PageEntry(BaseModel, frozen=True, strict=True):
    """A line of `pages.jsonl`."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    file: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    page: Annotated[int, Field(ge=1, le=1_000_000)]
    pages: Annotated[int, Field(ge=1, le=1_000_000)]
    read: bool
    line_vectors: bool
    lines: list[LineEntry]


def import_collection(
    library: Library,
    path: Path,
    settings: Settings,
    check: Callable[[str], None],
    name: str = "",
    owner: str = "",
    progress: Progress = ignore_progress,
) -> Collection:
    """Import an export, and return the new collection.

    `name` is its name; default: the old one, with a number if it is in use. `check` raises for a fingerprint that no
    embedder here serves; `progress` is called for each page. The collection is hidden until it is complete, and is
    backed up once, with its last page. Raises ServingError, or what `progress` raises; then nothing of it is left.
    """
    bounds = Bounds(settings.max_export_pages + OTHERS, settings.max_export_bytes, settings.max_zip_ratio)
    with open_archive(path, bounds) as archive:
        head = read_head(archive, settings)
        if head.fingerprint is not None:
            check(head.fingerprint)
        if name and library.catalogue.find_collection(check_new_name(name), owner).key:
            raise make_name_error(name)
        key = library.begin_import()
        count = 0
        try:
            for count, page in enumerate(read_pages(archive, head, settings), 1):
                if count > head.pages:
                    break
                library.add_page(key, page, fingerprint=head.fingerprint or "", model=head.model or "", staged=True)
                progress(count, head.pages)
            if count != head.pages:
                more = "or more " if count > head.pages else ""
                raise UnreadableError(f"the export is incomplete: {count} {more}of {head.pages} pages are in it")
            return name_collection(library, key, name, head.name, owner)
        except BaseException:
            library.delete_collection(key)
            raise


def name_collection(library: Library, key: CollectionKey, name: str, old: str, owner: str) -> Collection:
    """Give the imported collection its name and owner. Raises BadValueError or LibraryError."""
    if name:
        return library.rename_collection(key, name, owner)
    printable = "".join(char if char.isprintable() else " " for char in old)
    wanted = " ".join(printable.split())[: NAME_CHARS - 6] or "imported"
    for number in ("", *(f" ({number})" for number in range(2, TRIES))):
        with suppress(BadValueError):
            return library.rename_collection(key, wanted + number, owner)
    raise BadValueError("give the collection a name: there are many of its old name already", param="name")


def read_head(archive: zipfile.ZipFile, settings: Settings) -> ExportHead:
    """Read `collection.json`. Raises BadValueError, TooLargeError or UnreadableError."""
    with open_entry(archive, "collection.json") as stream:
        data = stream.read(HEAD_BYTES)
    try:
        head = ExportHead.model_validate_json(data)
    except ValidationError:
        raise UnreadableError("this zip is no exported collection, or it was changed") from None
    if head.version != VERSION:
        raise BadValueError(f"this {FORMAT} was written by a newer release (version {head.version}): update Dormouse")
    if head.pages > settings.max_export_pages:
        raise TooLargeError(f"the export has {head.pages:,} pages; the limit is {settings.max_export_pages:,}")
    if head.pages and not (head.fingerprint and head.dimension):
        raise UnreadableError("the export does not say what made its vectors")
    return head


def open_entry(archive: zipfile.ZipFile, name: str) -> AbstractContextManager[MemberReader]:
    """Open a file of the export. Raises UnreadableError."""
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise UnreadableError(f"this zip is no exported collection, or incomplete: {name} is missing") from None
    return open_member(archive, entry, "the export is damaged")


def read_pages(
    archive: zipfile.ZipFile,
    head: ExportHead,
    settings: Settings,
    find_picture: Callable[[PageEntry], PagePicture] | None = None,
) -> Iterator[NewPage]:
    """Yield the pages one by one. `find_picture`: for an archive without pictures. Raises ServingError."""
    if not head.pages:
        return
    assert head.dimension is not None
    lined = "line_vectors.npy" in archive.namelist()
    find_picture = find_picture or (lambda page: read_picture(archive, page.id, settings))
    with (
        open_entry(archive, "pages.jsonl") as described,
        open_vectors(archive, "vectors.npy", head.dimension) as vectors,
        open_vectors(archive, "line_vectors.npy" if lined else "vectors.npy", head.dimension) as lines,
    ):
        # A page's text was once part of one request, together with its picture.
        while text := described.readline(settings.max_body_bytes):
            try:
                page = PageEntry.model_validate_json(text)
            except ValidationError:
                raise UnreadableError("the export is damaged, or was changed: a page's entry is invalid") from None
            if page.line_vectors and not lined:
                raise UnreadableError("the export is incomplete: line_vectors.npy is missing")
            if len(page.lines) > (most := max(settings.max_lines_per_page, READ_LINES)):
                raise TooLargeError(f"a page of the export has more than {most} lines")
            of_lines = lines(len(page.lines)) if page.line_vectors else None
            yield make_page(page, vectors(1)[0], of_lines, find_picture)


def make_page(
    page: PageEntry, vector: Vectors, lines: Vectors | None, find_picture: Callable[[PageEntry], PagePicture]
) -> NewPage:
    """Return a page of the export with its picture and vectors. Raises ServingError."""
    if abs(float(np.linalg.norm(vector)) - 1) > 0.01:
        raise UnreadableError("the export is damaged, or was changed: a vector has not the length 1")
    shown = find_picture(page)
    found = tuple(Line(line.text, line.box) for line in page.lines)
    return NewPage(
        file=display_path(page.file),
        sha256=page.sha256,
        page=page.page,
        pages=max(page.pages, page.page),
        width=shown.width,
        height=shown.height,
        picture=shown.picture,
        thumbnail=shown.thumbnail,
        vector=vector,
        lines=found if page.read else None,
        line_vectors=lines,
    )


def read_picture(archive: zipfile.ZipFile, page_id: str, settings: Settings) -> PagePicture:
    """Return a page's JPEG with its thumbnail: the file's own bytes if we would write the same, else encoded anew.

    A page may be as large as `max_side` and `max_page_pixels` allow, even where a picture sent to a worker may not.
    Raises ServingError.
    """
    pixels = max(settings.max_side**2, settings.max_page_pixels)
    most = max(settings.max_image_bytes, JPEG_BYTES * pixels)
    name = f"pictures/{page_id}.jpg"
    if name in archive.NameToInfo and archive.NameToInfo[name].file_size > most:
        raise TooLargeError("a picture of the export is larger than any that this library stores")
    with open_entry(archive, name) as stream:
        data = stream.read()
    image = decode_image(data, settings.model_copy(update={"max_pixels": max(settings.max_pixels, pixels)}))
    with Image.open(io.BytesIO(data)) as header:
        same = header.format == "JPEG" and header.size == image.size
    return PagePicture(data if same else encode_jpeg(image), encode_thumbnail(image), image.width, image.height)


@contextmanager
def open_vectors(archive: zipfile.ZipFile, name: str, dimension: int) -> Iterator[Callable[[int], Vectors]]:
    """Yield a function that reads the next rows, float32[count, dimension]. Both raise UnreadableError."""
    with open_entry(archive, name) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            shape, fortran, kind = np.lib.format.read_array_header_1_0(stream)
            fits = version == (1, 0) and not fortran and kind == np.dtype("<f2") and shape[1:] == (dimension,)
        except Exception:  # numpy takes the header for Python: SyntaxError, TokenError and more
            fits = False
        if not fits:
            raise UnreadableError(f"the export is damaged, or was changed: {name} cannot be read")

        def read_rows(count: int) -> Vectors:
            data = stream.read(count * dimension * 2)
            if len(data) != count * dimension * 2:
                raise UnreadableError(f"the export is incomplete: {name} ends too early")
            found = np.frombuffer(data, "<f2").astype(np.float32).reshape(count, dimension)
            if not np.isfinite(found).all() or float(np.abs(found).max(initial=0.0)) > 1.01:
                raise UnreadableError(f"the export is damaged, or was changed: {name} has invalid vectors")
            return found

        yield read_rows
