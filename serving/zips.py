"""Zip files, member by member, within limits of count, bytes and ratio.

What a zip says of itself bounds what is read of it: the directory is refused before it is in memory if it is too large,
zipfile reads no more of a member than the directory says, and only methods that unpack in small steps are taken (a few
kilobytes of bzip2 or LZMA become gigabytes in one). Knows nothing of images, and never uses a name as a path.
"""

from __future__ import annotations

import errno
import io
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.errors import NotAnImageError, ServingError, TooLargeError, UnreadableError
from serving.names import shown_path
from serving.settings import MiB, Settings

MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DIRECTORY_BYTES = 4 * MiB
"""The list of what is in it takes 100 to 300 bytes a file, and ten times that in memory."""
SMALL_BYTES = 256 * MiB
"""Below this the ratio says nothing: a white page in BMP packs a thousandfold."""
CLUTTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
"""What systems put into folders, which nobody means to add."""


@dataclass(frozen=True, slots=True)
class Member:
    """`found` is where it was unpacked, or why it was not."""

    name: str
    found: Path | ServingError


class Bounded(io.BufferedReader):
    """Reads no piece that is larger than a zip's directory may be."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = DIRECTORY_BYTES
        if size > DIRECTORY_BYTES:
            raise TooLargeError("the zip lists too many files: split it")
        return super().read(size)


def is_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) in MAGIC


def is_clutter(name: str) -> bool:
    return any(part in CLUTTER or part.startswith("._") for part in name.replace("\\", "/").split("/"))


@contextmanager
def opened(path: Path, limits: Settings, max_files: int | None = None) -> Iterator[zipfile.ZipFile]:
    """`max_files`: where it is another limit than that of uploads. Raises TooLargeError or UnreadableError."""
    size = path.stat().st_size
    try:
        with Bounded(io.FileIO(path)) as stream, zipfile.ZipFile(stream) as archive:
            check(archive, size, limits, max_files or limits.max_zip_files)
            yield archive
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UnreadableError(f"the zip is damaged: {error}") from None


def check(archive: zipfile.ZipFile, size: int, limits: Settings, max_files: int) -> None:
    """`size`: of the zip itself. Raises TooLargeError."""
    count, total = len(archive.infolist()), sum(info.file_size for info in archive.infolist())
    if count > max_files:
        raise TooLargeError(f"the zip has {count} files; the limit is {max_files}: split it")
    if total > limits.max_zip_bytes:
        raise TooLargeError(
            f"the zip has {total / 1e6:.0f} MB in it; the limit is {limits.max_zip_bytes / 1e6:.0f} MB: split it"
        )
    if total > SMALL_BYTES and total > limits.max_zip_ratio * size:
        raise TooLargeError(
            f"the zip unpacks to {total // size} times its size; the limit is {limits.max_zip_ratio}:"
            " add its files without it"
        )


def unpacked(path: Path, folder: Path, limits: Settings) -> Iterator[Member]:
    """Its files one by one, each written into `folder` under a name of ours before the next is begun.

    Raises TooLargeError or UnreadableError for the zip as a whole, OSError where it cannot be written.
    """
    with opened(path, limits) as archive:
        files = (info for info in archive.infolist() if not info.filename.endswith("/"))
        infos = [info for info in files if not is_clutter(info.filename)]
        names = {info.filename for info in infos}
        if names & {"[Content_Types].xml", "mimetype", "META-INF/container.xml"}:
            raise NotAnImageError("this is an Office document or an e-book: save it as PDF and add that")
        if "collection.json" in names:
            raise NotAnImageError("this is an exported collection: bring it back with Import, below the list of files")
        if not infos:
            raise UnreadableError("the zip is empty")
        for number, info in enumerate(infos):
            target = folder / f"{number:06d}"
            name = shown_path(info.filename)
            try:
                write(archive, info, target, limits)
            except ServingError as error:
                yield Member(name, error)
            else:
                yield Member(name, target)


def write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, limits: Settings) -> None:
    """Raises ServingError."""
    if info.flag_bits & 1:
        raise UnreadableError(
            "the file is encrypted: unpack the zip with its password and add the file", code="encrypted"
        )
    if info.compress_type not in METHODS:
        raise UnreadableError("the file is packed in a way that is not read here: make the zip anew, with deflate")
    if info.file_size > limits.max_file_bytes:
        raise TooLargeError(
            f"the file has {info.file_size / 1e6:.1f} MB; the limit is {limits.max_file_bytes / 1e6:.1f} MB"
        )
    try:
        with archive.open(info) as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream, MiB)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        target.unlink(missing_ok=True)
        raise UnreadableError(f"the file is damaged in the zip: {error}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # of the disk
            raise
        raise UnreadableError("the file is damaged in the zip: it begins before the zip does") from None
    if is_zip(target):
        target.unlink()
        raise NotAnImageError("a zip inside a zip is not opened: unpack it and add its files")
