"""Pages whose text nobody has looked for: those of a server that only sees, without a text layer of their own."""

from __future__ import annotations

from collections.abc import Sequence

from serving.documents.page import Line
from serving.library.database import Database, redo_rolled_back
from serving.library.records import CollectionKey
from serving.library.rows import INSERT_LINES, make_line_rows
from serving.library.word_index import WordIndex

NEXT = (
    "SELECT p.rowid, p.id, c.key FROM pages p JOIN collections c ON c.id = p.collection"
    " WHERE p.rowid > ? AND CAST(p.read AS INTEGER) = 0 ORDER BY p.rowid LIMIT ?"
)
COUNT = (
    "SELECT count(*) FROM pages p JOIN collections c ON c.id = p.collection"
    " WHERE c.key = ? AND CAST(p.read AS INTEGER) = 0"
)
SET_READ = "UPDATE pages SET read = ? WHERE id = ? AND CAST(read AS INTEGER) = 0"


class UnreadPages:
    """Those of all collections. All methods raise LibraryError."""

    def __init__(self, database: Database, words: WordIndex) -> None:
        self._database = database
        self._words = words

    def list_after(self, row: int, count: int) -> list[tuple[int, str, CollectionKey]]:
        """Return (row, page id, collection) of the next pages behind a row, in the order they were added."""
        rows = self._database.fetch_all(NEXT, [row, count])
        return [(int(number), str(page_id), CollectionKey(key)) for number, page_id, key in rows]

    def count(self, key: CollectionKey) -> int:
        return int(self._database.fetch_one(COUNT, [key])[0])

    @redo_rolled_back
    def keep_lines(self, page_id: str, lines: Sequence[Line]) -> bool:
        """Keep what was read on a page, and return whether it was wanted: the page may be gone, or read by others."""
        with self._database.transaction() as db:
            if not db.execute(SET_READ, [True, page_id]).rowcount:
                return False
            db.executemany(INSERT_LINES, make_line_rows(page_id, lines))
        self._words.note_pages([page_id])
        return True
