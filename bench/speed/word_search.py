"""A made-up library whose pages have texts, and how long pages take to be found by their words: first results.

Words are as frequent as in a language: the word of rank n is drawn with a chance of 1/n.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from bench.quality.recall import index_words
from bench.speed.timing import summarise_seconds
from bench.speed.worker import FINGERPRINT
from serving.documents.page import Line
from serving.library.library import Library
from serving.library.records import NewPage
from serving.library.rows import SET_EMBEDDER, insert_rows, read_collection_row

VOCABULARY, LINES, LINE_WORDS, LONGEST = 50_000, 40, 9, 8
"""Different words, lines of a page, words of a line, and of the longest question."""
TOP_K, UNCOUNTED = 8, 5
INDEX_BYTES = "SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'words%' OR name LIKE 'word_pages%'"


class MadeUpText:
    """Texts and questions of made-up words, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        letters = np.random.default_rng(1).choice([*"aeioubcdfghklmnprstvwz"], (VOCABULARY, 12))
        sizes = np.random.default_rng(2).integers(2, 13, VOCABULARY)
        self._words = ["".join(row[:size]) for row, size in zip(letters, sizes, strict=True)]
        chances = 1 / np.arange(1, VOCABULARY + 1)
        self._edges = np.cumsum(chances / chances.sum())

    def draw_line(self, words: int) -> str:
        ranks = np.searchsorted(self._edges, self._draw.random(words)).clip(max=VOCABULARY - 1)
        return " ".join(self._words[rank] for rank in ranks)


def fill_library(library: Library, pages: int) -> None:
    text, vector = MadeUpText(3), np.ones(8, np.float32) / np.sqrt(np.float32(8))
    key = library.create_collection("bench").key
    with library.database.transaction() as db:
        collection = read_collection_row(db, key)[0]
        db.execute(SET_EMBEDDER, [FINGERPRINT, "made up", 8, collection])
        for number in range(pages):
            lines = tuple(Line(text.draw_line(LINE_WORDS)) for _ in range(LINES))
            page = NewPage(f"{number}.pdf", f"{number:064x}", 1, 1, 1000, 1414, b"", b"", vector, lines)
            insert_rows(db, collection, f"{number:016x}", page, time.time())


def measure_words(pages: int, searches: int) -> dict[str, Any]:
    """Return the seconds in which so many pages are indexed, the index's size, and the times of searches in it."""
    with tempfile.TemporaryDirectory(prefix="dormouse-bench-") as folder, closing(Library(Path(folder))) as library:
        fill_library(library, pages)
        began = time.perf_counter()
        index_words(library)
        index_s = time.perf_counter() - began
        key, text = library.catalogue.find_collection("bench").key, MadeUpText(4)
        times = []
        for number in range(UNCOUNTED + searches):
            question = text.draw_line(1 + number % LONGEST)
            began = time.perf_counter()
            library.ranking.search_words(key, question, TOP_K)
            times.append(time.perf_counter() - began)
        size = library.database.fetch_one(INDEX_BYTES)[0]
    return {
        "pages": pages,
        "words_a_page": LINES * LINE_WORDS,
        "index_s": round(index_s, 1),
        "index_mb": round(size / 1e6, 1),
        "search": summarise_seconds(times[UNCOUNTED:], 3),
    }
