"""Removes the rows and files of collections that nobody can see any more."""

from __future__ import annotations

import logging
import math
import threading
import time

from serving.library.catalogue import ORIGINAL, Catalogue
from serving.library.database import Database, LibraryError, redo_rolled_back
from serving.library.originals import Originals
from serving.library.pictures import Pictures
from serving.library.records import CollectionKey
from serving.library.rows import IMPORTING

REMOVED_AT_ONCE = 200
"""Pages of a deleted collection that are removed in one transaction: with lines, a tenth of a second."""
IMPORT_S = 24 * 3600.0
"""A hidden collection that is older than this is no import of another machine that still goes on."""
EMPTY_S = 30 * 24 * 3600.0
"""An empty collection that was made on a page open to everybody is kept so long: its owner may never come back."""
SELECT_EMPTY = (
    "SELECT id FROM collections WHERE owner NOT IN ('', ?) AND created < ?"
    " AND NOT EXISTS (SELECT 1 FROM pages WHERE collection = collections.id)"
)
DELETE_EMPTY = (
    "DELETE FROM collections WHERE id = ? AND NOT EXISTS (SELECT 1 FROM pages WHERE collection = collections.id)"
)
"""Looks once more: another machine may have added a page before the row was claimed."""
log = logging.getLogger(__name__)


class CollectionRemover:
    """Of one library."""

    def __init__(self, database: Database, catalogue: Catalogue, pictures: Pictures, originals: Originals) -> None:
        self._database, self._catalogue = database, catalogue
        self._pictures, self._originals = pictures, originals
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def open(self) -> None:
        self._closing.clear()

    def close(self) -> None:
        """Stop between two parts; the rest goes with the next start."""
        self._closing.set()
        for thread in self._threads:
            thread.join()

    def remove(self, key: CollectionKey, pages: int) -> None:
        """Remove a collection that nobody can see any more: now if it is small, else while others use the library."""
        if pages <= REMOVED_AT_ONCE:
            self._remove_rows(key)
            return
        thread = threading.Thread(target=self._remove_quietly, args=[key], name="remove-collection", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _remove_quietly(self, key: CollectionKey) -> None:
        try:
            self._remove_rows(key)
        except LibraryError as error:
            log.warning("a deleted collection stays on the disk until the next start: %s", error.message)

    @redo_rolled_back
    def _remove_rows(self, key: CollectionKey) -> None:
        """Delete a few pages at a time: one statement for all would hold up every other change for a minute."""
        select = "SELECT p.id FROM pages p JOIN collections c ON c.id = p.collection WHERE c.key = ? LIMIT ?"
        while ids := [page_id for (page_id,) in self._database.fetch_all(select, [key, REMOVED_AT_ONCE])]:
            if self._closing.is_set():
                return
            originals = self._catalogue.find_originals(ids)
            with self._database.transaction() as db:
                db.executemany("DELETE FROM pages WHERE id = ?", [(page_id,) for page_id in ids])
            self._pictures.remove_pages(ids)
            self._originals.remove_unused(originals)
        with self._database.transaction() as db:
            db.execute("DELETE FROM collections WHERE key = ?", [key])

    def remove_leftovers(self) -> None:
        """Remove half-imported collections, old empty ones of visitors, and files that no page has."""
        began = time.time() - IMPORT_S if self._database.is_shared else math.inf
        count = "SELECT key, (SELECT count(*) FROM pages WHERE collection = c.id) FROM collections c"
        for key, pages in self._database.fetch_all(f"{count} WHERE owner = ? AND created <= ?", [IMPORTING, began]):
            self.remove(key, pages)
        with self._database.transaction() as db:
            for (number,) in db.claim(SELECT_EMPTY, [IMPORTING, time.time() - EMPTY_S]).fetchall():
                db.execute(DELETE_EMPTY, [number])
        if not self._pictures.has_files:
            return
        known = {page_id for (page_id,) in self._database.fetch_all("SELECT id FROM pages")}
        if known:  # a database without pages may have been lost and made anew: then only the pictures are left
            self._pictures.remove_unknown(known)
            self._originals.remove_unknown({sha256 for (sha256,) in self._database.fetch_all(ORIGINAL)})
