"""A made-up library of very many pages, and what the page does with it, for `python -m bench library`.

Vectors of length 1 are near those of their file, names lie in folders, pictures are tiny. All is written by the
library's own statements, in one transaction: a hundred thousand real additions are as many fsyncs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.speed.timing import summarise_seconds, time_call, time_in_turn
from bench.speed.worker import FINGERPRINT
from serving.documents.page import Line
from serving.library.library import Library
from serving.library.pictures import PictureFiles
from serving.library.records import ALL_PAGES, CollectionKey, NewPage, Selection
from serving.library.rows import SET_EMBEDDER, insert_rows, read_collection_row

NAME, MODEL = "bench", "made up"
FILE_PAGES, FOLDER_FILES = 10, 100
"""Pages of a file, and files of a folder."""
LINES = 30
"""Lines of a page, where lines have vectors."""
NOISE, LINE_NOISE = 0.6, 0.8
"""How far a page is from its file's centre, and a line from its page; both have length 1 before."""
QUESTION_NOISE = 1.5
"""The same for a question: its cosine to the page is 0.55."""
DAY_S = 24 * 3600.0
DAYS = 100
"""The pages were added over so many days."""
PICTURE = bytes(1000)
UNCOUNTED = 5
TOP_K, LISTED, ADDED, QUERIES = 8, 10, 50, 200


@dataclass(frozen=True)
class Shape:
    """A collection to measure."""

    pages: int
    dimension: int
    has_lines: bool

    @property
    def words(self) -> str:
        return f"{self.pages:,} pages x {self.dimension:,} numbers{', 30 lines each' if self.has_lines else ''}"


def name_file(number: int) -> str:
    kind = ("pdf", "pdf", "pdf", "png")[number % 4]
    return f"area {number // FOLDER_FILES % 10}/shelf {number // FOLDER_FILES}/report {number}.{kind}"


def draw_unit_rows(draw: np.random.Generator, centre: NDArray[np.float32], count: int, noise: float) -> Any:
    """Return float32[count, n], rows of length 1 near `centre`, which is float32[n] or float32[count, n]."""
    spread = draw.standard_normal((count, centre.shape[-1]), dtype=np.float32)
    rows = centre + noise / np.sqrt(centre.shape[-1]) * spread
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def draw_file_vectors(draw: np.random.Generator, dimension: int) -> NDArray[np.float32]:
    """Return float32[FILE_PAGES, dimension]."""
    start = np.zeros(dimension, np.float32)
    return np.asarray(draw_unit_rows(draw, draw_unit_rows(draw, start, 1, 1.0)[0], FILE_PAGES, NOISE))


def seed_file(number: int) -> np.random.Generator:
    return np.random.default_rng([7, number])


def draw_file(shape: Shape, number: int) -> list[NewPage]:
    """Return the pages of a file, always the same."""
    draw = seed_file(number)
    vectors = draw_file_vectors(draw, shape.dimension)
    return [make_page(shape, number, page, vector, draw) for page, vector in enumerate(vectors, 1)]


def make_page(shape: Shape, file: int, page: int, vector: NDArray[np.float32], draw: np.random.Generator) -> NewPage:
    lines = tuple(
        Line(f"line {n} of page {page}, report {file}", (0.1, n / 40, 0.9, n / 40 + 0.02)) for n in range(LINES)
    )
    return NewPage(
        file=name_file(file),
        sha256=f"{file:064x}",
        page=page,
        pages=FILE_PAGES,
        width=1000,
        height=1414,
        picture=PICTURE,
        thumbnail=PICTURE,
        vector=vector,
        lines=lines if shape.has_lines else None,
        line_vectors=draw_unit_rows(draw, vector, LINES, LINE_NOISE) if shape.has_lines else None,
    )


def name_page(number: int) -> str:
    """Return the id of the page with this number, counted from 1 through all files."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"


def fill_library(folder: Path, shape: Shape, *, has_pictures: bool = True) -> None:
    """Make a library with one collection of `shape`."""
    began = time.time() - DAYS * DAY_S
    with closing(Library(folder)) as library:
        key = library.create_collection(NAME).key
        pictures = PictureFiles(folder / "pages")
        with library.database.transaction() as db:
            collection = read_collection_row(db, key)[0]
            db.execute(SET_EMBEDDER, [FINGERPRINT, MODEL, shape.dimension, collection])
            for number in range(shape.pages // FILE_PAGES):
                for page in draw_file(shape, number):
                    page_id = name_page(number * FILE_PAGES + page.page)
                    insert_rows(db, collection, page_id, page, began)
                    for path in pictures.locate_files([page_id]) if has_pictures else ():
                        path.write_bytes(PICTURE)
            db.execute("UPDATE pages SET added = ? + rowid * ? / ?", [began, DAYS * DAY_S, shape.pages])


def draw_questions(shape: Shape, count: int) -> list[NDArray[np.float32]]:
    """Return vectors that are near the first page of some file, as far from it as `QUESTION_NOISE` says."""
    questions = []
    for number in range(count):
        draw = seed_file(number * 97 % (shape.pages // FILE_PAGES))
        page = draw_file_vectors(draw, shape.dimension)[0]
        questions.append(np.asarray(draw_unit_rows(draw, page, 1, QUESTION_NOISE)[0]))
    return questions


def draw_vectors(shape: Shape) -> NDArray[np.float16]:
    """Return float16[pages, dimension], the vectors of all pages."""
    rows = np.empty((shape.pages, shape.dimension), np.float16)
    for number in range(shape.pages // FILE_PAGES):
        rows[number * FILE_PAGES :][:FILE_PAGES] = draw_file_vectors(seed_file(number), shape.dimension)
    return rows


class OpenedLibrary:
    """A library that was just opened in this process."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        began = time.perf_counter()
        self.library = Library(folder)
        self.open_s = time.perf_counter() - began
        self.shape = shape
        self.key = self.library.catalogue.find_collection(NAME).key
        self.new_pages = draw_file(shape, 10**6)
        bare, files = replace(shape, has_lines=False), shape.pages // FILE_PAGES
        self.queries = [draw_file(bare, number * 97 % files)[0].vector for number in range(QUERIES)]

    def measure(self, n: int) -> dict[str, Any]:
        memory = {"opened": read_memory_mb()}
        first = time_call(partial(self.search, 0, ALL_PAGES))
        memory["searched"] = read_memory_mb()
        figures: dict[str, Any] = {"open_s": round(self.open_s, 3), "first_search_s": round(first, 3)}
        figures["searches"] = {name: self.measure_search(of, n) for name, of in self.list_selections().items()}
        memory["after_searches"] = read_memory_mb()
        figures["lists"] = {name: self.time(call, LISTED) for name, call in self.list_questions().items()}
        figures["changes"] = self.measure_changes()
        memory["after_changes"] = read_memory_mb()
        figures["memory_mb"], figures["vectors_mb"] = memory, round(self.library.vectors.bytes / 1e6, 1)
        figures["scan"] = self.compare_scan(n)
        figures["delete_collection_s"] = round(time_call(lambda: self.library.delete_collection(self.key)), 3)
        self.library.close()
        return figures

    def search(self, number: int, of: Selection) -> None:
        """Search as the page does: it counts the pages that are ranked as well."""
        self.library.ranking.count_pages(self.key, of)
        query = self.queries[number % len(self.queries)]
        self.library.ranking.search(self.key, query, TOP_K, FINGERPRINT, of)

    def list_selections(self) -> dict[str, Selection]:
        folder, now = "area 0/shelf 0", time.time()
        return {
            "plain": ALL_PAGES,
            "file": Selection(files=(name_file(0),)),
            "folder": Selection(folder=folder),
            "type": Selection(types=("pdf",)),
            "last half": Selection(added_after=now - DAYS / 2 * DAY_S),
        }

    def list_questions(self) -> dict[str, Callable[[int], object]]:
        """Return what the page asks when it shows a collection."""
        library, key = self.library, self.key
        return {
            "files": lambda _: library.catalogue.list_files(key),
            "collections": lambda _: library.catalogue.list_collections(),
            "storage": lambda _: library.measure_storage(key),
        }

    def measure_search(self, of: Selection, n: int) -> dict[str, Any]:
        return self.time(lambda number: self.search(number, of), n)

    def measure_changes(self) -> dict[str, Any]:
        """Add pages to an empty collection and to the large one, in turn; delete files of it, in one call too."""
        library = self.library
        small = library.create_collection("small").key

        def add(key: CollectionKey, number: int) -> None:
            page = replace(self.new_pages[number % FILE_PAGES], sha256=f"new {number}")
            library.add_page(key, page, fingerprint=FINGERPRINT, model=MODEL)

        large_s, small_s = time_in_turn(partial(add, self.key), partial(add, small), ADDED, UNCOUNTED)
        figures: dict[str, Any] = {"add": summarise_seconds(large_s), "add_to_empty": summarise_seconds(small_s)}
        some = [f"{number:064x}" for number in range(1, min(101, self.shape.pages // FILE_PAGES))]
        figures["delete_file"] = self.time(lambda number: library.delete_file(self.key, some[number]), len(some) // 5)
        many = some[len(some) // 5 :]
        pages = library.catalogue.list_file_pages(self.key, many)
        figures["delete_pages_s"] = round(time_call(lambda: library.delete_pages(self.key, pages)), 3)
        figures["deleted_pages"] = len(pages)
        return figures

    def compare_scan(self, n: int) -> dict[str, Any]:
        """Search plainly, and by usearch alone on the same vectors, in turn."""
        from usearch.index import MetricKind, search

        rows = draw_vectors(self.shape)
        halves = [query.astype(np.float16) for query in self.queries]
        ours, bare = time_in_turn(
            lambda number: self.search(number, ALL_PAGES),
            lambda number: search(rows, halves[number % QUERIES], TOP_K, MetricKind.IP, exact=True),
            n,
            UNCOUNTED,
        )
        ratio = statistics.median(ours) / statistics.median(bare)
        return {"library": summarise_seconds(ours), "usearch": summarise_seconds(bare), "ratio": round(ratio, 2)}

    def time(self, call: Callable[[int], object], n: int) -> dict[str, Any]:
        return summarise_seconds([time_call(partial(call, number)) for number in range(n)])


def read_memory_mb() -> dict[str, float]:
    """Return what this process has in memory, and the most it had. Nothing where the system does not say."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        sizes = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        return {key: round(int(sizes[name][0]) / 1e3, 1) for key, name in (("now", "VmRSS"), ("most", "VmHWM"))}
    return {}


def measure_opened(folder: Path, shape: Shape, n: int) -> dict[str, Any]:
    """Open a library and measure it. Runs in a process of its own, so that memory and first search are its own."""
    return OpenedLibrary(folder, shape).measure(n)
