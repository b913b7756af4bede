"""The pages of a job: its files are opened and counted, zips unpacked, and what is in the collection is left out."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from serving.documents.archives import is_clutter, is_zip, unpack_members
from serving.documents.files import open_file
from serving.documents.images import encode_jpeg, encode_thumbnail
from serving.documents.page import Line, PageFile
from serving.documents.parser_pool import ParserPool
from serving.errors import NotReadyError
from serving.library.jobs import AddedPage
from serving.library.library import Library
from serving.library.records import CollectionKey, guess_file_type
from serving.settings import Settings
from serving.system.display_names import display_path
from serving.system.files import hash_file
from ui.access.uploads import Upload
from ui.core.jobs import IngestJob, SkippedFile

EncodedPage = tuple[bytes, tuple[Line, ...] | None, bytes, tuple[int, int]]
"""A page as it is sent and kept, a tenth of the size of its pixels; its text layer, thumbnail, width and height."""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file that can be read, with its content hash and the numbers of the pages that are wanted."""

    number: int
    """Of the upload that it is, or is a part of."""
    upload: Upload
    digest: str
    file: PageFile
    wanted: tuple[int, ...]

    @property
    def kind(self) -> str:
        """What its pages are, as far as their name says so: pages of PDFs mostly have a text layer."""
        return "pdf" if guess_file_type(self.upload.name) == "pdf" else "picture"

    def name_page(self, number: int) -> str:
        return self.upload.name if self.file.count == 1 else f"{self.upload.name}, page {number}"


@dataclass(frozen=True, slots=True)
class PageToAdd:
    """A page that is not in the collection yet."""

    source: OpenedFile
    number: int

    @property
    def name(self) -> str:
        return self.source.name_page(self.number)


class PageClaims:
    """The pages that jobs are adding now: a file that was dropped in twice is embedded once."""

    def __init__(self) -> None:
        self._claimed: set[tuple[CollectionKey, str, int]] = set()
        self._lock = threading.Lock()

    def claim(self, collection: CollectionKey, page: PageToAdd) -> bool:
        """Return whether no other job is adding the page. Then it is the caller's until `release`."""
        key = (collection, page.source.digest, page.number)
        with self._lock:
            if key in self._claimed:
                return False
            self._claimed.add(key)
            return True

    def release(self, collection: CollectionKey, page: PageToAdd) -> None:
        with self._lock:
            self._claimed.discard((collection, page.source.digest, page.number))


class PageSource:
    """The pages of one job, each handed out once. `open` comes first, `close` last."""

    def __init__(
        self,
        job: IngestJob,
        library: Library,
        settings: Settings,
        parsers: ParserPool,
        claims: PageClaims,
        added: Iterable[AddedPage] = (),
    ) -> None:
        """`added`: what the job added before a restart."""
        self._job = job
        self._library = library
        self._settings = settings
        self._parse = partial(parsers.run, cancelled=job.cancelled)
        self._claims = claims
        self._before: dict[str, set[int]] = {}
        for page in added:
            self._before.setdefault(page.sha256, set()).add(page.page)
        self._failed = {(item.upload, item.file) for item in job.failures}
        self._folder: TemporaryDirectory[str] | None = None
        self._pages: Iterator[PageToAdd] = iter(())
        self._lock = threading.Lock()

    def open(self) -> None:
        """Open all files: the total is known before the first page is embedded. Raises ServingError or OSError."""
        unpacked = self._settings.data / "unpacked"
        unpacked.mkdir(parents=True, exist_ok=True)
        self._folder = TemporaryDirectory(dir=unpacked, ignore_cleanup_errors=True)
        self._pages = self._find_new(self._open_all(Path(self._folder.name)))

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def take(self) -> PageToAdd | None:
        """Return the next page, claimed for the job; None if there is none. Raises ServingError."""
        with self._lock:
            return None if self._job.cancelled.is_set() else next(self._pages, None)

    # Files

    def _open_all(self, folder: Path) -> list[OpenedFile]:
        job, files, total = self._job, [], 0
        for number, upload in self._expand_zips(folder):
            if job.cancelled.is_set():
                break
            with job.skip_on_error(upload.name, upload=number):
                try:
                    found = open_file(upload.path, self._settings, self._parse)
                except NotReadyError:
                    if job.cancelled.is_set():
                        break
                    raise
                opened = OpenedFile(number, upload, hash_file(upload.path), found, ())
                files.append(self._select_pages(opened))
                total += len(files[-1].wanted)
                with job.lock:
                    job.total = max(job.total, total)  # of a job that goes on, it is known already
                    job.left[files[-1].kind] += self._count_new(files[-1])
        with job.lock:
            job.total = total
        return files

    def _select_pages(self, opened: OpenedFile) -> OpenedFile:
        numbers = range(1, opened.file.count + 1)
        whole = self._wants(opened.number, opened.upload.name)
        wanted = tuple(n for n in numbers if whole or (opened.number, opened.name_page(n)) in self._job.only)
        return replace(opened, wanted=wanted)

    def _wants(self, number: int, name: str) -> bool:
        """Return whether the job takes all pages of a file, as such or with the zip that it was in."""
        only = self._job.only
        return not only or (number, name) in only or (number, self._job.uploads[number].name) in only

    def _expand_zips(self, folder: Path) -> Iterator[tuple[int, Upload]]:
        """Yield the uploads with their numbers, and in place of a zip its members."""
        for number, upload in enumerate(self._job.uploads):
            if is_clutter(upload.name) or not self._takes_part(number, upload.name):
                continue
            with self._job.skip_on_error(upload.name, "unpacked", upload=number):
                if is_zip(upload.path):
                    yield from self._unpack(number, upload, folder / f"{number}")
                else:
                    yield number, upload

    def _unpack(self, number: int, upload: Upload, inside: Path) -> Iterator[tuple[int, Upload]]:
        inside.mkdir()
        for member in unpack_members(upload.path, inside, self._settings):
            name = display_path(f"{upload.name}/{member.name}")
            if not self._takes_part(number, name):
                if isinstance(member.found, Path):
                    member.found.unlink()
            elif isinstance(member.found, Path):
                yield number, Upload(member.found, name)
            else:
                self._job.skip(SkippedFile(name, member.found.message, upload=number))

    def _takes_part(self, number: int, name: str) -> bool:
        """Return whether the job takes anything that has this name, or begins with it."""
        names = [file for upload, file in self._job.only if upload == number]
        return self._wants(number, name) or any(file.startswith((f"{name}/", f"{name}, page ")) for file in names)

    # Pages

    def _find_new(self, files: list[OpenedFile]) -> Iterator[PageToAdd]:
        """Yield the pages that are not in the collection, claimed, and count the others as done."""
        sent: dict[str, dict[int, str]] = {}
        for opened in files:
            name, before = opened.upload.name, self._before.pop(opened.digest, set())
            # A twin in the same upload is on its way already, though not in the library yet.
            known = sent.setdefault(opened.digest, self._find_known(opened.digest))
            self._skip_known(opened, {n: known[n] for n in opened.wanted if n in known and n not in before})
            for n in opened.wanted:
                new = n not in known and n not in before and not self._has_failed(opened, n)
                known.setdefault(n, name)
                if new and self._claim(PageToAdd(opened, n)):
                    yield PageToAdd(opened, n)

    def _find_known(self, digest: str) -> dict[int, str]:
        return self._job.reach_store(lambda: self._library.catalogue.find_pages(self._job.collection, digest))

    def _count_new(self, opened: OpenedFile) -> int:
        """Return how many of the wanted pages were not dealt with before a restart."""
        before = self._before.get(opened.digest, set())
        return sum(n not in before and not self._has_failed(opened, n) for n in opened.wanted)

    def _has_failed(self, opened: OpenedFile, number: int) -> bool:
        return (opened.number, opened.name_page(number)) in self._failed

    def _skip_known(self, opened: OpenedFile, known: dict[int, str]) -> None:
        """Count pages that are in the collection, `known` by their numbers, and say so unless they are tried again."""
        for _ in known:
            self._job.count_page(opened.kind)
        if known and not self._job.only:
            name, count = opened.upload.name, opened.file.count
            pages = "" if len(known) == count else f"{len(known)} of its {count} pages are "
            first = next(iter(known.values()))
            reason = f"{pages}already here{'' if first == name else f' as {first}'}"
            self._job.skip(SkippedFile(name, reason, known=True, upload=opened.number))

    def _claim(self, page: PageToAdd) -> bool:
        """Return whether the page is the job's to add; count it if another one has added it meanwhile, or does so."""
        job, free = self._job, self._claims.claim(self._job.collection, page)
        if free:
            try:
                known = partial(self._library.catalogue.has_page, job.collection, page.source.digest, page.number)
                there = job.reach_store(known)
            except BaseException:
                self._claims.release(job.collection, page)
                raise
            if not there:
                return True
            self._claims.release(job.collection, page)
        job.count_page(page.source.kind)
        name = page.source.upload.name
        if not any(item.known and item.file == name for item in job.skipped):
            job.skip(SkippedFile(name, "another upload is adding it", known=True, upload=page.source.number))
        return False


def encode_page(page: PageToAdd) -> EncodedPage:
    """Raises ServingError."""
    drawn = page.source.file.read(page.number - 1)
    assert drawn.image is not None
    return encode_jpeg(drawn.image), drawn.lines, encode_thumbnail(drawn.image), drawn.image.size
