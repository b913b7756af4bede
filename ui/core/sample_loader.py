"""Adds the sample pages with the vectors that ship with them, so that nobody waits for a server to read them.

`assets/samples-read.zip` has their text and vectors in the form of an exported collection, but no pictures: these are
drawn from the sample files. `make samples` writes it. It is of use where a server's vectors can be compared with those
in it; elsewhere the pages are read as any upload is.
"""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from serving.documents.archives import Bounds, open_archive
from serving.documents.files import open_file
from serving.documents.images import decode_image, encode_jpeg, encode_thumbnail
from serving.documents.page import PageFile
from serving.documents.parser_pool import ParserPool
from serving.errors import NotReadyError, ServingError, UnreadableError
from serving.library.exporting import Progress, ignore_progress
from serving.library.importing import OTHERS, ExportHead, PageEntry, PagePicture, read_head, read_pages
from serving.library.library import Library
from serving.library.records import CollectionKey
from serving.settings import Settings
from serving.system.files import hash_file
from ui.access.uploads import Upload
from ui.core.ingest import Ingestor
from ui.core.jobs import IngestJob
from ui.core.sample_pages import SAMPLE_FOLDER, SAMPLE_PAGES, list_sample_files
from ui.servers.target import Target

SAMPLES_READ = SAMPLE_FOLDER.parent / "samples-read.zip"
Pictures = Mapping[tuple[str, int], PagePicture]
"""By the sha256 of the file and the number of the page."""


@dataclass(frozen=True, slots=True)
class SampleFile:
    """A sample file that can be drawn."""

    digest: str
    path: Path
    pages: PageFile | None
    """None for a picture. It is one of ours, so that no other process need decode it."""

    @property
    def count(self) -> int:
        return 1 if self.pages is None else self.pages.count


class SampleLoader:
    """The sample pages, and the collections that have them as they ship."""

    def __init__(self, library: Library, settings: Settings, parsers: ParserPool, ingestor: Ingestor) -> None:
        self._library = library
        self._settings = settings
        self._parsers = parsers
        self._ingestor = ingestor
        self._loading = threading.Lock()
        self._loaded: set[CollectionKey] = set()

    def fits(self, target: Target) -> bool:
        """Return whether a server's vectors can be compared with those that ship. Wakes no worker.

        Raises ServingError for a server that is none of ours.
        """
        try:
            shipped, here = read_shipped_fingerprint(self._settings), target.fetch_info().fingerprint
        except (NotReadyError, UnreadableError):
            return False
        return self._library.catalogue.are_comparable(shipped, here)

    def is_loaded(self, collection: CollectionKey) -> bool:
        """Return whether it got its sample pages from here, and no server has been asked to read them since."""
        return collection in self._loaded

    def load(self, collection: CollectionKey, step: Progress = ignore_progress) -> int:
        """Add the pages that a collection has not, in one transaction, and return how many.

        Raises ServingError, or what `step` raises; then none was added.
        """
        with self._loading:  # it takes all cores: visitors wait for each other
            digests = {hash_file(path): path for path in list_sample_files()}
            known = sum(len(self._library.catalogue.find_pages(collection, digest)) for digest in digests)
            if known < SAMPLE_PAGES:
                self._add_pages(collection, digests, step)
                self._loaded.add(collection)
        return max(0, SAMPLE_PAGES - known)

    def _add_pages(self, collection: CollectionKey, digests: Mapping[str, Path], step: Progress) -> None:
        pictures = self._draw_pages(digests, step)
        with open_samples_read(self._settings) as (archive, head):
            found = read_pages(archive, head, self._settings, lambda page: find_picture(pictures, page))
            keep = self._settings.keep_originals
            pages = [replace(page, original=digests[page.sha256] if keep else None) for page in found]
        self._library.add_pages(collection, pages, fingerprint=head.fingerprint or "", model=head.model or "")

    def _draw_pages(self, digests: Mapping[str, Path], step: Progress) -> Pictures:
        """Return the pictures of all sample pages. Raises ServingError, or what `step` raises."""
        pictures: dict[tuple[str, int], PagePicture] = {}
        with ThreadPoolExecutor(self._settings.pages_ahead) as pool:
            opened = list(pool.map(self._open_sample, digests, digests.values()))
            pages = [(one, number) for one in opened for number in range(1, one.count + 1)]
            try:
                for (one, number), picture in zip(
                    pages, pool.map(self._draw_page, *zip(*pages, strict=True)), strict=True
                ):
                    pictures[one.digest, number] = picture
                    step(len(pictures), len(pages))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return pictures

    def _open_sample(self, digest: str, path: Path) -> SampleFile:
        pages = open_file(path, self._settings, self._parsers.run) if path.suffix == ".pdf" else None
        return SampleFile(digest, path, pages)

    def _draw_page(self, sample: SampleFile, number: int) -> PagePicture:
        """Return a page as an upload of the file would keep it. Raises ServingError."""
        pages = sample.pages
        image = decode_image(sample.path, self._settings) if pages is None else pages.read(number - 1).image
        assert image is not None
        return PagePicture(encode_jpeg(image), encode_thumbnail(image), image.width, image.height)

    def read_again(self, collection: CollectionKey, target: Target) -> IngestJob:
        """Return a job in which a server reads the sample pages, in place of those that are there.

        Raises ServingError; then the pages are there as they ship.
        """
        target.check_fingerprint(self._library, collection)
        files = list_sample_files()
        pages = self._library.catalogue.list_file_pages(collection, [hash_file(path) for path in files])
        self._library.delete_pages(collection, pages)
        self._ingestor.forget_ended(collection)
        try:
            job = self._ingestor.start(collection, [Upload(path, path.name) for path in files], target)
        except ServingError:
            self.load(collection)
            raise
        self._loaded.discard(collection)
        return job


@contextmanager
def open_samples_read(settings: Settings) -> Iterator[tuple[zipfile.ZipFile, ExportHead]]:
    """Open what ships with the sample pages. Raises UnreadableError."""
    bounds = Bounds(SAMPLE_PAGES + OTHERS, settings.max_export_bytes, settings.max_zip_ratio)
    try:
        with open_archive(SAMPLES_READ, bounds) as archive:
            yield archive, read_head(archive, settings)
    except OSError as error:
        raise UnreadableError(f"{SAMPLES_READ.name} cannot be read: {error.strerror or error}") from None


def read_shipped_fingerprint(settings: Settings) -> str:
    """Return the fingerprint of the vectors that ship with the sample pages. Raises UnreadableError."""
    with open_samples_read(settings) as (_, head):
        return head.fingerprint or ""


def find_picture(pictures: Pictures, page: PageEntry) -> PagePicture:
    """Raises UnreadableError for a page that no sample file has."""
    found = pictures.get((page.sha256, page.page))
    if found is None:
        raise UnreadableError(f"{SAMPLES_READ.name} is of other sample files: run `make samples`")
    return found
