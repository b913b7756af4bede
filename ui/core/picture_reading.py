"""Reads pages that are only pictures, and that their own server has not read: then they are found by their words.

One thread, page by page. What is still to be read stands in the library, so a restart goes on with it, and pages of an
older release are read as well.
"""

from __future__ import annotations

import logging
import threading
import time

from serving.client import PagePayload
from serving.errors import BusyError, NotReadyError, ServingError
from serving.library.database import LibraryError
from serving.library.library import Library
from serving.library.records import CollectionKey
from ui.servers.text_server import TextServer

BATCH = 16
PAUSE_S = 2.0
"""Between two looks at what is to be read, while pages are added."""
RETRY_S = 30.0
"""After the reader or the library could not be reached."""
log = logging.getLogger(__name__)


class PictureReading:
    """What is read, until `close`."""

    def __init__(self, library: Library, server: TextServer) -> None:
        self._library = library
        self._server = server
        self._failed: set[str] = set()
        """Pages that cannot be read: the next start tries them once more."""
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closing = threading.Event()

    def begin(self) -> None:
        """Read what is there and what comes, in a thread; nothing in a library that must not be changed."""
        if self._thread is None and not self._library.read_only:
            self._thread = threading.Thread(target=self._run, name="read-pictures", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._wake.set()
        self._server.stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def count_left(self, key: CollectionKey) -> int:
        """Return how many pages of a collection are still to be read; 0 where nothing is read. Raises LibraryError."""
        return self._library.unread.count(key) if self._thread is not None else 0

    def _run(self) -> None:
        with self._library.changes.follow(None, self._wake.set):
            while not self._closing.is_set():
                self._wake.clear()
                try:
                    self._read_all()
                except ServingError as error:
                    log.warning("pictures are read later: %s", error.message)
                    self._closing.wait(RETRY_S)
                    self._wake.set()
                self._wake.wait()
                self._closing.wait(PAUSE_S)

    def _read_all(self) -> None:
        """Read all pages that are not, the oldest first. Raises ServingError where none can be read now."""
        last, began, count = 0, time.monotonic(), 0
        while pages := self._library.unread.list_after(last, BATCH):
            for row, page_id, key in pages:
                if self._closing.is_set():
                    return
                if page_id not in self._failed:
                    count += self._read(page_id, key)
                last = row
        if count:
            log.info("the text of %d pages was read in %.0f s", count, time.monotonic() - began)

    def _read(self, page_id: str, key: CollectionKey) -> bool:
        """Return whether a page was read."""
        picture = self._library.pictures.read_picture(page_id)
        if picture is None:  # it was deleted meanwhile
            return False
        try:
            answer = self._server.find_client().embed_pages([PagePayload(picture)], explain=True)
        except (NotReadyError, BusyError, LibraryError):
            raise
        except ServingError as error:
            log.warning("a page could not be read: %s", error.message)
            self._failed.add(page_id)
            return False
        is_kept = self._library.unread.keep_lines(page_id, answer.pages[0].lines or ())
        self._library.note_change(key)
        return is_kept
