"""The words of all pages in the library's database: which pages have those of a question, found in milliseconds.

Pages are indexed after they were added, in a thread with transactions of its own: an index that is damaged keeps
nobody from adding pages, and is made again. What is not indexed yet is not found here. What ranks a page is how many
of a question's words it has, and how rare these are, less on a page with many words.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from serving.library.catalogue import CollectionGoneError, sql_placeholders
from serving.library.database import Connection, Database, LibraryError
from serving.library.file_names import select_names
from serving.library.records import ABSENT, CollectionKey, Selection
from serving.library.sqlite_database import SqliteDatabase, make_words
from serving.library.words import WHOLE, WeighedWords, split_words, weigh_words

T = TypeVar("T")
MOST_ASKED = 96
"""Different words of a question that are counted, the whole ones first."""
COMMON = 20_000
"""Pages that a server counts for one word: it is no rare one."""
LONG_PAGES = 0.4
"""The share of a score that is divided by the page's words, over the mean of the pages that were found."""
BATCH = 16
"""Pages of one transaction."""
RETRY_S = 30.0
LOOK_S = 60.0
"""How often pages are looked for that other machines have added, with commands that index none."""
WASTE = 10_000
"""Pages that are gone, and still have words, until the index is made again: four for each that is there, and these."""
FILES = "SELECT file FROM pages WHERE collection = ? GROUP BY file"
MISSING = (
    "FROM pages p WHERE p.rowid > ? AND CAST(p.read AS INTEGER) = 1"
    " AND NOT EXISTS (SELECT 1 FROM word_pages w WHERE w.page = p.id)"
)
NUMBERS = (
    "SELECT count(*), (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'word_pages') FROM word_pages"
)
"""Pages that are indexed, and numbers that were given to some."""
TEXT = (
    "SELECT p.id, l.text FROM pages p LEFT JOIN lines l ON l.page = p.id"
    " WHERE p.id IN ({}) AND CAST(p.read AS INTEGER) = 1 ORDER BY p.id, l.number"
)
RANKED = """
SELECT page, score FROM (
  SELECT w.page, w.number, f.weight / (1 - {share} + {share} * w.size / avg(w.size) OVER ()) AS score
  FROM (SELECT number, sum(weight) AS weight FROM ({found}) a GROUP BY number) f
  JOIN word_pages w ON w.number = f.number{pages} WHERE w.collection = ?{where}
) r ORDER BY score DESC, number LIMIT ?
"""
WITH_WORD = (
    "SELECT w.page FROM ({match}) f JOIN word_pages w ON w.number = f.number{pages}"
    " WHERE w.collection = ?{where} LIMIT ?"
)
OF_PAGES = " JOIN pages p ON p.id = w.page"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundPages:
    """Pages that have words of a question, best first."""

    pages: list[tuple[str, float]] = field(default_factory=list)
    """Ids, and scores above 0: 1 is a page of usual length with all of the words that some page has."""
    words: WeighedWords = field(default_factory=WeighedWords)


class WordIndex(ABC):
    """The words of a library's pages, each of which has a row with the number by which its words are found."""

    among: str
    """Follows a name: whether it is one of a list."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._look_for_all = False
        """The thread is to go through all pages."""
        self._new: deque[str] = deque()
        """Pages that were added since."""
        self._looked_at = [0, 0]
        """The newest row at the last two looks at what others add: a row may come to light later than newer ones."""

    # Search

    def find_pages(self, key: CollectionKey, question: str, count: int, of: Selection) -> FoundPages:
        """Return the `count` pages with most of a question's words.

        Raises CollectionGoneError, LibraryError; BadValueError for a selection of what is not there.
        """

        def find(db: Connection, collection: int) -> FoundPages:
            where, values = self._select_pages(db, collection, of)
            words = self._weigh_words(db, collection, question)
            weights = words.weights
            if not weights:
                return FoundPages()
            given = [value for word, weight in weights.items() for value in (weight, self._quote(word))]
            found = " UNION ALL ".join([self._write_match(collection)] * len(weights))
            select = RANKED.format(share=LONG_PAGES, found=found, pages=OF_PAGES if where else "", where=where)
            ranked = db.execute(select, [*given, collection, *values, count]).fetchall()
            whole = sum(weights.values())
            return FoundPages([(str(page_id), float(score) / whole) for page_id, score in ranked], words)

        return self._ask(key, find, FoundPages())

    def find_exact(self, key: CollectionKey, word: str, most: int, of: Selection) -> list[str]:
        """Return the ids of the pages that have a word; none where more than `most` do. Raises as `find_pages`."""

        def find(db: Connection, collection: int) -> list[str]:
            where, values = self._select_pages(db, collection, of)
            select = WITH_WORD.format(match=self._write_match(collection), pages=OF_PAGES if where else "", where=where)
            rows = db.execute(select, [1.0, self._quote(word), collection, *values, most + 1]).fetchall()
            return [] if len(rows) > most else [str(page_id) for (page_id,) in rows]

        return self._ask(key, find, [])

    def weigh_question(self, key: CollectionKey, question: str) -> WeighedWords:
        """Return the words of a question that pages of the collection have. Raises as `find_pages`."""
        return self._ask(key, lambda db, collection: self._weigh_words(db, collection, question), WeighedWords())

    def _ask(self, key: CollectionKey, find: Callable[[Connection, int], T], nothing: T) -> T:
        """Return what is found in a collection, by its number; `nothing` where there is none yet."""
        if key == ABSENT:
            return nothing
        with self._database.snapshot() as db:
            row = db.execute("SELECT id FROM collections WHERE key = ?", [key]).fetchone()
            if row is None:
                raise CollectionGoneError
            return find(db, int(row[0]))

    def _weigh_words(self, db: Connection, collection: int, question: str) -> WeighedWords:
        words = choose_words(question)
        return weigh_words(words, *self._count_pages(db, collection, words))

    def _select_pages(self, db: Connection, collection: int, of: Selection) -> tuple[str, list[object]]:
        """Return what follows WHERE, and its values."""
        where, values = "", list[object]()
        if of.files or of.types or of.folder:
            names = select_names([str(file) for (file,) in db.execute(FILES, [collection])], of)
            where, values = f" AND p.file {self.among}", [self._list_names(names)]
        if of.added_after is not None:
            where, values = f"{where} AND p.added >= ?", [*values, of.added_after]
        return where, values

    @abstractmethod
    def _count_pages(self, db: Connection, collection: int, words: Sequence[str]) -> tuple[dict[str, int], int]:
        """Return on how many pages each word is, and how many pages there are."""

    @abstractmethod
    def _write_match(self, collection: int) -> str:
        """Return what selects the numbers of pages with a word, and a weight; the weight is given first."""

    @abstractmethod
    def _quote(self, word: str) -> str:
        """Return a word as a query of the database takes it; it has letters and digits only."""

    @abstractmethod
    def _list_names(self, names: Sequence[str]) -> object: ...

    # Indexing

    def count_missing(self) -> int:
        """Return how many pages that were read are not indexed yet. Raises LibraryError."""
        return int(self._database.fetch_one(f"SELECT count(*) {MISSING}", [0])[0])

    def begin_indexing(self) -> None:
        """Index in a thread all pages that are not, and those that come, until `close`."""
        self._look_for_all = True
        if self._thread is None:
            self._closing.clear()
            self._thread = threading.Thread(target=self._run, name="index-words", daemon=True)
            self._thread.start()
        self._wake.set()

    def note_pages(self, ids: Iterable[str]) -> None:
        """Have pages indexed that were added just now; without a thread, the next one finds them."""
        if self._thread is not None:
            self._new.extend(ids)
            self._wake.set()

    def close(self) -> None:
        """Let the thread end. `begin_indexing` starts another one."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._closing.is_set():
            is_called = self._wake.wait(LOOK_S if self._database.is_shared else None)
            self._wake.clear()
            try:
                if not is_called:
                    self._index_what_others_add()
                self._index_pages()
            except LibraryError as error:
                log.warning("the words of pages are indexed later: %s", error.message)
                self._look_for_all = True
                self._closing.wait(RETRY_S)
                self._wake.set()

    def _index_pages(self) -> None:
        """Index what is known to be missing. Raises LibraryError."""
        if self._look_for_all:
            self._look_for_all = False
            self._drop_waste()
            self._index_missing(0)
        while self._new and not self._closing.is_set():
            self._index([self._new.popleft() for _ in range(min(BATCH, len(self._new)))])

    def _index_what_others_add(self) -> None:
        newest = int(self._database.fetch_one("SELECT coalesce(max(rowid), 0) FROM pages")[0])
        self._index_missing(self._looked_at[0])
        self._looked_at = [self._looked_at[1], newest]

    def _index_missing(self, last: int) -> None:
        """Index pages that came after a row."""
        indexed = 0
        select = f"SELECT p.rowid, p.id {MISSING} ORDER BY p.rowid LIMIT ?"
        while not self._closing.is_set() and (rows := self._database.fetch_all(select, [last, BATCH])):
            self._index([page_id for _, page_id in rows])
            last, indexed = rows[-1][0], indexed + len(rows)
        if indexed:
            log.info("the words of %d pages are indexed", indexed)

    def _index(self, ids: Sequence[str]) -> None:
        texts = defaultdict[str, list[str]](list)
        for page_id, text in self._database.fetch_all(TEXT.format(sql_placeholders(ids)), ids):
            texts[page_id].append(text or "")
        words = {page_id: sorted({*split_words("\n".join(lines))}) for page_id, lines in texts.items()}
        with self._database.transaction() as db:
            for page_id in words:
                self._insert(db, page_id, words[page_id])

    @abstractmethod
    def _insert(self, db: Connection, page_id: str, words: Sequence[str]) -> None:
        """Index a page; one that is gone, or indexed, stays as it is."""

    def _drop_waste(self) -> None:  # noqa: B027 - where a page's words go with it, there is none
        """Make the index anew where most of it is of pages that are gone."""


class SqliteWords(WordIndex):
    """That of the embedded database: FTS5, without the texts, which are in the lines, and without places in them."""

    among = "IN (SELECT value FROM json_each(?))"

    def __init__(self, database: SqliteDatabase) -> None:
        super().__init__(database)

    def _ask(self, key: CollectionKey, find: Callable[[Connection, int], T], nothing: T) -> T:
        """Return what is found; `nothing` where the index is damaged, which is made again then."""
        try:
            return super()._ask(key, find, nothing)
        except LibraryError as error:
            if not is_fault_of_words(error):
                raise
            if self._thread is not None:
                self._make_again(error)
            return nothing

    def _index(self, ids: Sequence[str]) -> None:
        try:
            super()._index(ids)
        except (LibraryError, sqlite3.IntegrityError) as error:
            if not is_fault_of_words(error):
                raise
            self._make_again(error)

    def _make_again(self, error: Exception) -> None:
        log.warning("the index of words is damaged, and made again: %s", error)
        with self._database.transaction() as db:
            make_words(db)
        self._look_for_all = True
        self._wake.set()

    def _drop_waste(self) -> None:
        pages, numbers = self._database.fetch_one(NUMBERS)
        if numbers > 5 * pages + WASTE:
            with self._database.transaction() as db:
                make_words(db)

    def _insert(self, db: Connection, page_id: str, words: Sequence[str]) -> None:
        new = "INSERT INTO word_pages (page, collection, size) SELECT id, collection, ? FROM pages WHERE id = ?"
        if db.execute(f"{new} ON CONFLICT DO NOTHING", [len(words), page_id]).rowcount:
            number = "INSERT INTO words (rowid, parts) SELECT number, ? FROM word_pages WHERE page = ?"
            db.execute(number, [" ".join(words), page_id])

    def _count_pages(self, db: Connection, _: int, words: Sequence[str]) -> tuple[dict[str, int], int]:
        found = {}
        for word in words:
            for (count,) in db.execute("SELECT doc FROM word_counts WHERE term = ?", [word]):
                found[word] = int(count)
        return found, int(db.execute("SELECT count(*) FROM word_pages").fetchone()[0])

    def _write_match(self, _: int) -> str:
        return "SELECT rowid AS number, ? AS weight FROM words WHERE words MATCH ?"

    def _quote(self, word: str) -> str:
        return f'"{word}"'

    def _list_names(self, names: Sequence[str]) -> object:
        return json.dumps(names)


class PostgresWords(WordIndex):
    """That of a server: its own text search, over words that are told apart here."""

    among = "= ANY(?)"

    def _insert(self, db: Connection, page_id: str, words: Sequence[str]) -> None:
        if row := db.hold("SELECT collection FROM pages WHERE id = ?", [page_id]).fetchone():
            db.execute(
                "INSERT INTO word_pages (page, collection, size, words) VALUES (?, ?, ?, array_to_tsvector(?))"
                " ON CONFLICT DO NOTHING",
                [page_id, row[0], len(words), list(words)],
            )

    def _count_pages(self, db: Connection, collection: int, words: Sequence[str]) -> tuple[dict[str, int], int]:
        pages = db.execute("SELECT count(*) FROM word_pages WHERE collection = ?", [collection]).fetchone()[0]
        match = self._write_match(collection)
        each = [f"SELECT {n}, count(*) FROM ({match} LIMIT {COMMON}) w{n}" for n in range(len(words))]  # noqa: S608
        given = [value for word in words for value in (0.0, self._quote(word))]
        counts: list[Any] = db.execute(" UNION ALL ".join(each), given).fetchall() if words else []
        return {words[number]: int(count) for number, count in counts}, int(pages)

    def _write_match(self, collection: int) -> str:
        select = "SELECT number, CAST(? AS DOUBLE PRECISION) AS weight FROM word_pages"
        return f"{select} WHERE words @@ CAST(? AS tsquery) AND collection = {collection:d}"

    def _quote(self, word: str) -> str:
        return f"'{word}'"

    def _list_names(self, names: Sequence[str]) -> object:
        return list(names)


def is_fault_of_words(error: BaseException | None) -> bool:
    """Return whether an error while the index of words is used is its own: SQLite has several for one."""
    cause = error.__cause__ if isinstance(error, LibraryError) else error
    own = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT)
    return isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", 0) & 0xFF in own


def choose_words(question: str) -> list[str]:
    """Return the words of a question that are looked up, each once, the whole ones first."""
    return sorted(dict.fromkeys(split_words(question)), key=lambda word: not word.startswith(WHOLE))[:MOST_ASKED]
