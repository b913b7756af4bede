"""Stores the files that a library's pages are of, each once by its content, for as long as a page refers to it.

A file is written before its first page's row and removed after its last one's. A kill in between leaves a file that no
page refers to; the next start removes it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from serving.library.database import LibraryError
from serving.library.pictures import count_file_bytes, estimate_total
from serving.library.records import OriginalKind
from serving.system.files import COPY_CHUNK_BYTES, link_or_copy, remove_files, sync_folder

NAME = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]+\.part)?")
PDF_HEAD_BYTES = 1024
"""A PDF's mark stands in its first so many bytes: readers allow that something comes before it."""


class Originals:
    """The folder of the original files, readable by this user only."""

    def __init__(self, folder: Path, own: Path, is_used: Callable[[str], bool]) -> None:
        """`own`: below it nobody changes a file, so it may be linked. `is_used`: a page refers to this sha256."""
        self.folder = folder
        self._own = own.resolve()
        self._is_used = is_used
        self._held: Counter[str] = Counter()
        """Those of pages that are being added: nobody removes them."""
        self._lock = threading.Lock()

    def locate(self, sha256: str) -> Path:
        return self.folder / sha256

    @contextmanager
    def keep(self, files: Mapping[str, Path]) -> Iterator[Mapping[str, OriginalKind]]:
        """Store files, by their sha256, and yield what they are; when the block ends, those go that no page refers to.

        Left out is a file that is gone, or has changed since it was read. Raises OSError.
        """
        with self._lock:
            self._held.update(files.keys())
        try:
            yield {sha256: self._store(path, sha256) for sha256, path in files.items()}
        finally:
            with self._lock:
                self._held -= Counter(files.keys())
            with suppress(LibraryError):  # the next start removes them
                self.remove_unused(files)

    def _store(self, source: Path, sha256: str) -> OriginalKind:
        target = self.locate(sha256)
        if not target.is_file():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = target.with_name(f"{sha256}.{secrets.token_hex(4)}.part")
            try:
                if not self._write_part(source, part, sha256):
                    return ""
                part.replace(target)
                sync_folder(self.folder)
            finally:
                part.unlink(missing_ok=True)
        return "pdf" if is_pdf(target) else "file"

    def _write_part(self, source: Path, part: Path, sha256: str) -> bool:
        """Return False for a file that is gone or has another content."""
        try:
            if source.resolve().is_relative_to(self._own):
                link_or_copy(source, part)
                return True
            return copy_and_hash(source, part) == sha256
        except FileNotFoundError:
            return False

    def remove_unused(self, digests: Iterable[str]) -> None:
        """Remove those of the files that no page refers to. Raises LibraryError."""
        with self._lock:
            remove_files([self.locate(one) for one in digests if not self._held[one] and not self._is_used(one)])

    def remove_unknown(self, known: Collection[str]) -> None:
        """Remove all files but these. Files of other names stay: they may be the user's own."""
        if not self.folder.is_dir():
            return
        with os.scandir(self.folder) as entries:
            ours = [entry.name for entry in entries if NAME.fullmatch(entry.name) and entry.is_file()]
        remove_files([self.folder / name for name in ours if name not in known])

    def estimate_bytes(self, digests: Sequence[str]) -> int:
        """Return how many bytes these files take; of many only a sample is measured."""
        return estimate_total(digests, lambda some: count_file_bytes(map(self.locate, some)))


def is_pdf(path: Path) -> bool:
    """Return whether a file is one, by its content."""
    with path.open("rb") as stream:
        return b"%PDF-" in stream.read(PDF_HEAD_BYTES)


def copy_and_hash(source: Path, target: Path) -> str:
    """Copy a file so that the copy survives a power cut, and return the sha256 of what was copied. Raises OSError."""
    digest = hashlib.sha256()
    with (
        source.open("rb") as read,
        os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream,
    ):
        while chunk := read.read(COPY_CHUNK_BYTES):
            digest.update(chunk)
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest()
