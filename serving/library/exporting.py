"""Exports a collection as one zip that other programs can read, and that `importing` reads.

```
collection.json         model, fingerprint and dimension of its vectors
pages.csv               one row a page, for people
pages.jsonl             one object a page, in the order of the vectors: file, number, text with boxes
vectors.npy             float16[pages, dimension]
line_vectors.npy        float16[lines, dimension], of all pages that have some, one after another
pictures/ID.jpg
```

numpy.load reads the vectors from the zip. It is written page by page as of one moment; memory stays small. Nothing is
compressed: pictures would not get smaller, and the content is never larger than the zip, which bounds an import.
"""

from __future__ import annotations

import csv
import io
import re
import secrets
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson

from serving.errors import TooLargeError
from serving.library.catalogue import LINE
from serving.library.database import Connection, LibraryError
from serving.library.library import Library
from serving.library.records import CollectionKey
from serving.library.rows import read_collection_row
from serving.settings import Settings
from serving.system.display_names import escape_cell
from serving.system.files import open_replacement, remove_files, sync_folder

FORMAT = "dormouse-collection"
VERSION = 1
OURS = re.compile(r"[0-9a-f]{32}\.(zip|part|zip\.[0-9a-f]{8}\.part)")
COLUMNS = ("id", "file", "page", "pages", "width", "height", "read", "sha256")
PAGES = "SELECT id, file, page, pages, width, height, read, sha256 FROM pages WHERE collection = ? ORDER BY rowid"
KEPT_S = 3600.0
"""An export is deleted after this."""
Progress = Callable[[int, int], None]
"""Called with the number of pages done, and of all pages. An exception that it raises ends the work."""


@dataclass(frozen=True, slots=True)
class Export:
    """A written export."""

    path: Path
    """Has a name that nobody can guess."""
    pages: int
    bytes: int


def ignore_progress(done: int, total: int) -> None:
    """Do nothing: a `Progress` for callers that show none."""


def export_collection(
    library: Library, key: CollectionKey, folder: Path, settings: Settings, progress: Progress = ignore_progress
) -> Export:
    """Write a collection into `folder`.

    Raises CollectionGoneError; TooLargeError for one that could not be imported; LibraryError if it cannot be written;
    or what `progress` raises. Then no file is left.
    """
    path = folder / f"{secrets.token_hex(16)}.zip"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_old_exports(folder)
        with open_replacement(path) as stream:
            pages = write_archive(library, key, stream, settings, progress)
        sync_folder(folder)
        return Export(path, pages, path.stat().st_size)
    except OSError as error:
        raise LibraryError(
            f"the collection could not be exported: {error.strerror or error}. No file of it was left"
        ) from error


def remove_old_exports(folder: Path) -> None:
    """Delete exports that are older than KEPT_S, whole ones and those that a kill left half written."""
    old = time.time() - KEPT_S
    ours = [path for path in folder.glob("*") if OURS.fullmatch(path.name)]
    remove_files([path for path in ours if path.stat().st_mtime < old])


def write_archive(
    library: Library, key: CollectionKey, stream: BinaryIO, settings: Settings, progress: Progress
) -> int:
    """Write the zip, and return how many pages it has. Raises as `export_collection`, and OSError."""

    def check_size() -> None:
        if stream.tell() > settings.max_export_bytes:
            raise make_size_error(f"more than {settings.max_export_bytes / 1e9:.1f} GB")

    with library.database.snapshot() as db:  # all reads below see one moment
        number, name, fingerprint, model, dimension = read_collection_row(db, key)
        rows = db.execute(PAGES, [number]).fetchall()
        if len(rows) > settings.max_export_pages:
            raise make_size_error(f"{len(rows):,} pages, more than {settings.max_export_pages:,}")
        with zipfile.ZipFile(stream, "w") as archive:
            written = []
            for done, row in enumerate(rows, 1):
                written += [row] * write_picture(library, archive, row[0])
                check_size()
                progress(done, len(rows))
            ids = [row[0] for row in written]
            about = {
                "format": FORMAT, "version": VERSION, "name": name, "model": model, "fingerprint": fingerprint,
                "dimension": dimension, "pages": len(ids),
            }  # fmt: skip
            write_parts(archive, "collection.json", [orjson.dumps(about)])
            write_parts(archive, "pages.csv", format_csv(written))
            write_parts(archive, "pages.jsonl", (describe_page(db, row) for row in written))
            if ids and dimension is not None:
                write_vectors(archive, "vectors.npy", db, "vector", ids, dimension)
                write_vectors(archive, "line_vectors.npy", db, "lines", ids, dimension)
    check_size()
    return len(ids)


def make_size_error(what: str) -> TooLargeError:
    return TooLargeError(
        f"the collection has {what}, too much for one import: move some of its files to another collection, and export"
        " both"
    )


def write_picture(library: Library, archive: zipfile.ZipFile, page_id: str) -> bool:
    """Return False for a page that was deleted meanwhile."""
    data = library.pictures.read_picture(page_id)
    if data is None:
        return False
    archive.writestr(f"pictures/{page_id}.jpg", data)
    return True


def write_parts(archive: zipfile.ZipFile, name: str, parts: Iterable[bytes]) -> None:
    # Its length is not known yet: force_zip64 allows more than 4 GB.
    with archive.open(zipfile.ZipInfo(name, time.localtime()[:6]), "w", force_zip64=True) as stream:
        for part in parts:
            stream.write(part)


def format_csv(rows: Iterable[tuple[object, ...]]) -> Iterator[bytes]:
    for row in (COLUMNS, *rows):
        line = io.StringIO()
        csv.writer(line).writerow([escape_cell(value) for value in row])
        yield line.getvalue().encode()


def describe_page(db: Connection, row: tuple[object, ...]) -> bytes:
    page = dict(zip(COLUMNS, row, strict=True))
    lines = db.execute(f"{LINE} ORDER BY number", [row[0]]).fetchall()
    (lined,) = db.execute("SELECT lines IS NOT NULL FROM vectors WHERE page = ?", [row[0]]).fetchone()
    texts = [{"text": text, "box": None if box[0] is None else box} for text, *box in lines]
    return orjson.dumps({**page, "read": bool(page["read"]), "line_vectors": bool(lined), "lines": texts}) + b"\n"


def write_vectors(
    archive: zipfile.ZipFile, name: str, db: Connection, column: str, ids: list[str], dimension: int
) -> None:
    """Write the vectors of a column, as numpy has them; no file if no page has any."""
    data = f"SELECT {column} FROM vectors WHERE page = ?"  # noqa: S608 - a name of ours
    size = "SELECT coalesce(length(lines), 0) FROM vectors WHERE page = ?"
    if column == "vector":
        total = 2 * dimension * len(ids)
    else:
        total = sum(db.execute(size, [page_id]).fetchone()[0] for page_id in ids)
    if not total:
        return
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f2", "fortran_order": False, "shape": (total // 2 // dimension, dimension)}
    )
    vectors = (db.execute(data, [page_id]).fetchone()[0] or b"" for page_id in ids)
    write_parts(archive, name, chain([header.getvalue()], vectors))
