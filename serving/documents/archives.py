"""Unpacks zip files member by member, within limits of count, bytes and ratio.

The limits are checked against the zip's directory: a directory that is too large is refused before it is in memory,
zipfile reads no more of a member than the directory says, and only methods that unpack in small steps are accepted (a
few kilobytes of bzip2 or LZMA become gigabytes in one). Knows nothing of images, and never uses a name as a path.
"""

from __future__ import annotations

import errno
import hashlib
import io
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from serving.documents.member_names import DOS, decode_names
from serving.errors import NotAnImageError, ServingError, TooLargeError, UnreadableError
from serving.settings import MiB, Settings
from serving.system.display_names import display_path

MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
UTF_8 = 0x800
"""The flag of a member whose name is UTF-8."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DIRECTORY_BYTES = 4 * MiB
"""Upper bound of a zip's directory. It takes 100 to 300 bytes a file, and ten times that in memory."""
ENTRY_BYTES = 128
"""Upper bound of a directory entry whose name has 30 letters."""
SMALL_BYTES = 256 * MiB
"""Below this the ratio is not checked: a white page in BMP packs a thousandfold."""
PARSER_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""Errors that `zipfile` raises for a zip that is damaged, by chance or on purpose."""
CLUTTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that operating systems put into folders, and users do not mean to add."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a zip. `found` is the path where it was unpacked, or the error why it was not."""

    name: str
    found: Path | ServingError


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a zip's content. `ratio` of its bytes to those of the zip is checked for large ones only."""

    files: int
    bytes: int
    ratio: int


class BoundedReader(io.BufferedReader):
    """Refuses to read more than `largest` bytes at once, as long as that is set."""

    largest: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self.largest is not None:
            if size is None or size < 0:
                size = self.largest
            if size > self.largest:
                raise TooLargeError("the zip lists too many files: split it")
        return super().read(size)


class MemberReader:
    """Reads a member of a zip. Errors of the parser become an UnreadableError that begins with `damaged`."""

    def __init__(self, stream: IO[bytes], damaged: str) -> None:
        self._stream = stream
        self._damaged = damaged

    def read(self, size: int = -1) -> bytes:
        with translate_parser_errors(self._damaged):
            return self._stream.read(size)

    def readline(self, size: int = -1) -> bytes:
        with translate_parser_errors(self._damaged):
            return self._stream.readline(size)


def is_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) in MAGIC


def check_file_size(size: int, limit: int) -> None:
    """Raise TooLargeError for a file that is too large to be added."""
    if size > limit:
        raise TooLargeError(f"the file has {size / 1e6:.1f} MB; the limit is {limit / 1e6:.1f} MB")


def is_clutter(name: str) -> bool:
    return any(part in CLUTTER or part.startswith("._") for part in name.replace("\\", "/").split("/"))


@contextmanager
def translate_parser_errors(damaged: str) -> Iterator[None]:
    """Raise UnreadableError for the parser's errors. For its calls only: other code raises the same types."""
    try:
        yield
    except PARSER_ERRORS as error:
        raise UnreadableError(f"{damaged}: {error}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # an error of the disk
            raise
        raise UnreadableError(f"{damaged}: an offset is before the beginning of the zip") from None


@contextmanager
def open_archive(path: Path, bounds: Bounds) -> Iterator[zipfile.ZipFile]:
    """Open a zip within its bounds. Raises TooLargeError or UnreadableError."""
    size = path.stat().st_size
    with BoundedReader(io.FileIO(path)) as stream:
        stream.largest = max(DIRECTORY_BYTES, ENTRY_BYTES * bounds.files)
        with translate_parser_errors("the zip is damaged"):
            archive = zipfile.ZipFile(stream)
        stream.largest = None
        with archive:
            check_bounds(archive, size, bounds)
            yield archive


@contextmanager
def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, damaged: str) -> Iterator[MemberReader]:
    """Open a member of a zip. Raises UnreadableError."""
    with translate_parser_errors(damaged):
        stream = archive.open(info)
    with stream:
        yield MemberReader(stream, damaged)


def check_bounds(archive: zipfile.ZipFile, size: int, bounds: Bounds) -> None:
    """Raise TooLargeError for content beyond the bounds. `size`: of the zip itself."""
    count, total = len(archive.infolist()), sum(info.file_size for info in archive.infolist())
    if count > bounds.files:
        raise TooLargeError(f"the zip has {count} files; the limit is {bounds.files}: split it")
    if total > bounds.bytes:
        most = f"{bounds.bytes / 1e6:.0f} MB"
        raise TooLargeError(f"the zip holds {total / 1e6:.0f} MB; the limit is {most}: split it")
    if total > SMALL_BYTES and total > bounds.ratio * size:
        raise TooLargeError(
            f"the zip unpacks to {total // size} times its size; the limit is {bounds.ratio}: add its files unpacked"
        )


def unpack_members(path: Path, folder: Path, settings: Settings) -> Iterator[Member]:
    """Unpack the files of a zip one by one, each into `folder` under a name of ours, before the next is read.

    Raises TooLargeError or UnreadableError for the zip as a whole, OSError where it cannot be written.
    """
    with open_archive(path, Bounds(settings.max_zip_files, settings.max_zip_bytes, settings.max_zip_ratio)) as archive:
        infos = list_members(archive)
        shown = show_names(infos)
        names = {info.filename for info in infos}
        if names & {"[Content_Types].xml", "mimetype", "META-INF/container.xml"}:
            raise NotAnImageError("this is an Office document or an e-book: save it as PDF and add that")
        if "collection.json" in names:
            raise NotAnImageError(
                "this is an exported collection: add it with Import, below the list of files, or with dormouse import"
            )
        if not infos:
            raise UnreadableError("the zip is empty")
        for number, (info, name) in enumerate(zip(infos, shown, strict=True)):
            target = folder / f"{number:06d}"
            try:
                write_member(archive, info, target, settings)
            except ServingError as error:
                yield Member(name, error)
            else:
                yield Member(name, target)


def hash_members(path: Path, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield name and sha256 of each member that can be read, under the name that `unpack_members` gives it.

    Writes nothing. Raises as `unpack_members` does.
    """
    with open_archive(path, Bounds(settings.max_zip_files, settings.max_zip_bytes, settings.max_zip_ratio)) as archive:
        infos = list_members(archive)
        for info, name in zip(infos, show_names(infos), strict=True):
            if info.flag_bits & 1 or info.compress_type not in METHODS or info.file_size > settings.max_file_bytes:
                continue
            with suppress(UnreadableError), open_member(archive, info, "the file is damaged in the zip") as stream:
                digest = hashlib.sha256()
                while chunk := stream.read(MiB):
                    digest.update(chunk)
                yield name, digest.hexdigest()


def list_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the files of a zip that somebody may mean to add."""
    files = (info for info in archive.infolist() if not info.filename.endswith("/"))
    return [info for info in files if not is_clutter(info.filename)]


def show_names(infos: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Return the names as a person sees them."""
    unmarked = [info.filename.encode(DOS, "replace") for info in infos if not info.flag_bits & UTF_8]
    decoded = iter(decode_names(unmarked))
    return [display_path(info.filename if info.flag_bits & UTF_8 else next(decoded)) for info in infos]


def write_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, settings: Settings) -> None:
    """Write a member of a zip to `target`. Raises ServingError."""
    if info.flag_bits & 1:
        raise UnreadableError(
            "the file is encrypted: unpack the zip with its password and add the file", code="encrypted"
        )
    if info.compress_type not in METHODS:
        raise UnreadableError("the zip's compression method is not supported: create it again with deflate")
    check_file_size(info.file_size, settings.max_file_bytes)
    try:
        with open_member(archive, info, "the file is damaged in the zip") as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream, MiB)
    except UnreadableError:
        target.unlink(missing_ok=True)
        raise
    if is_zip(target):
        target.unlink()
        raise NotAnImageError("a zip inside a zip is not opened: unpack it and add its files")
