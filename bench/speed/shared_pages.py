"""The pages of `many_pages` in a store on a server, and what searches take and find there, for `bench store`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from psycopg.types import TypeInfo

from bench.results.record import Say
from bench.speed.many_pages import (
    DAY_S,
    DAYS,
    FILE_PAGES,
    MODEL,
    NAME,
    Shape,
    draw_file_vectors,
    draw_questions,
    fill_library,
    name_file,
    name_page,
    seed_file,
)
from bench.speed.timing import summarise_seconds, time_call
from bench.speed.worker import FINGERPRINT
from serving.errors import BadValueError
from serving.library.library import Library
from serving.library.postgres_database import configure, find_pgvector
from serving.library.postgres_indexing import KINDS
from serving.library.records import ALL_PAGES, IndexChoice, IndexName, Selection
from serving.library.rows import SET_EMBEDDER, read_collection_row
from serving.settings import STORE_INDEX_PAGES

FILES_AT_ONCE = 1_000
"""Files whose pages are copied in one transaction."""
COPY_PAGES = (
    "COPY pages (id, collection, file, sha256, page, pages, width, height, added, read) FROM STDIN (FORMAT BINARY)"
)
COPY_VECTORS = "COPY vectors (page, vector) FROM STDIN (FORMAT BINARY)"
PAGE_TYPES = ("text", "int4", "text", "text", "int4", "int4", "int4", "int4", "float8", "bool")
SERVER_SETTINGS = ("server_version", "shared_buffers", "maintenance_work_mem", "max_parallel_maintenance_workers")
TOP_K, UNCOUNTED = 10, 3
LOOK_S = 0.1


def measure_store(address: str, folder: Path, size: tuple[int, int], n: int, say: Say) -> dict[str, Any]:
    """Fill a library in a folder and one on a server, index that, and search all. Raises BadValueError.

    `size`: pages, and numbers of each vector.
    """
    shape = Shape(*size, has_lines=False)
    with ExitStack() as stack:

        def open_shared(kind: IndexName) -> Library:
            index = IndexChoice(kind, min(shape.pages, STORE_INDEX_PAGES))
            return stack.enter_context(closing(Library(folder / kind, address=address, index=index)))

        shared = {"exact": open_shared("exact"), "hnsw": open_shared("hnsw"), "binary": open_shared("binary")}
        if shared["exact"].catalogue.list_collections():
            raise BadValueError("the store has collections: name a database that has none")
        say(f"making {shape.words}, twice")
        fill_s = {"embedded": time_call(partial(fill_library, folder / "embedded", shape, has_pictures=False))}
        fill_s["postgres"] = time_call(partial(fill_store, address, shared["exact"], shape))
        build_s = {}
        for kind in KINDS:
            say(f"making the index {kind}")
            build_s[kind] = time_call(partial(index_pages, shared[kind]))
        say("searching")
        embedded = stack.enter_context(closing(Library(folder / "embedded")))
        searches = compare_selections({"embedded": embedded} | shared, shape, n)
        return {
            "pages": shape.pages,
            "dimension": shape.dimension,
            "top_k": TOP_K,
            "server": read_server(address),
            "fill_s": round_values(fill_s),
            "build_s": round_values(build_s),
            "searches": searches,
            "mb": {"embedded": round(embedded.vectors.bytes / 1e6, 1)} | measure_sizes(address),
        }


def round_values(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in values.items()}


def compare_selections(libraries: dict[str, Library], shape: Shape, n: int) -> dict[str, dict[str, Any]]:
    """Return what each library takes and finds, by what is selected; `cut`: of a quarter of the numbers."""
    selections = {
        "plain": ALL_PAGES,
        "folder": Selection(folder="area 0"),
        "type": Selection(types=("pdf",)),
        "last half": Selection(added_after=time.time() - DAYS / 2 * DAY_S),
    }
    found = {name: compare_libraries(libraries, shape, n, of) for name, of in selections.items()}
    return found | {"cut": compare_libraries(libraries, shape, n, ALL_PAGES, shape.dimension // 4)}


def compare_libraries(
    libraries: dict[str, Library], shape: Shape, n: int, of: Selection, dimension: int | None = None
) -> dict[str, Any]:
    """Ask all libraries the same in turn. Recall is of what the `exact` one finds."""
    keys = {way: library.catalogue.find_collection(NAME).key for way, library in libraries.items()}
    seconds: dict[str, list[float]] = {way: [] for way in libraries}
    recall: dict[str, list[float]] = {way: [] for way in libraries}
    for question in draw_questions(shape, n + UNCOUNTED):
        found: dict[str, set[str]] = {}
        for way, library in libraries.items():
            began = time.perf_counter()
            hits = library.ranking.search(keys[way], question, TOP_K, FINGERPRINT, of, dimension)
            seconds[way].append(time.perf_counter() - began)
            found[way] = {hit.page.id for hit in hits}
        for way, ids in found.items():
            recall[way].append(len(ids & found["exact"]) / len(found["exact"]))
    return {
        way: summarise_seconds(seconds[way][UNCOUNTED:]) | {"recall": round(sum(recall[way]) / (n + UNCOUNTED), 4)}
        for way in libraries
    }


def index_pages(library: Library) -> None:
    """Return when the index of the collection can be searched."""
    key = library.catalogue.find_collection(NAME).key
    library.begin_indexing()
    while not library.is_indexed(key):
        time.sleep(LOOK_S)


def read_server(address: str) -> dict[str, str]:
    with psycopg.connect(address) as link:
        shown = {name: str((link.execute(f"SHOW {name}".encode()).fetchone() or ("",))[0]) for name in SERVER_SETTINGS}
        return shown | {"pgvector": find_pgvector(link)}


def measure_sizes(address: str) -> dict[str, float]:
    """Return the MB of the vectors on the server, and of each index over them."""
    select = (
        "SELECT n.relname, pg_table_size(n.oid) FROM pg_class n WHERE n.oid = 'vectors'::regclass"
        " OR n.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'vectors'::regclass)"
    )
    with psycopg.connect(address) as link:
        sizes: dict[str, int] = dict(link.execute(select.encode()).fetchall())
    kinds = {kind: sizes[name] for kind in KINDS for name in sizes if name.startswith(f"{kind}_")}
    return round_values({name: size / 1e6 for name, size in ({"vectors": sizes["vectors"]} | kinds).items()})


def fill_store(address: str, library: Library, shape: Shape) -> None:
    """Make a collection of `shape`, without lines and pictures, in the library of a server."""
    key = library.create_collection(NAME).key
    with library.database.transaction() as db:
        collection = read_collection_row(db, key)[0]
        db.execute(SET_EMBEDDER, [FINGERPRINT, MODEL, shape.dimension, collection])
    with psycopg.connect(address, autocommit=True) as link:
        configure(link)
        for start in range(0, shape.pages // FILE_PAGES, FILES_AT_ONCE):
            files = range(start, min(start + FILES_AT_ONCE, shape.pages // FILE_PAGES))
            with link.transaction():
                copy_rows(link, COPY_PAGES, PAGE_TYPES, draw_page_rows(shape, collection, files))
                copy_rows(link, COPY_VECTORS, ("text", "halfvec"), draw_vector_rows(shape, files))
        link.execute("VACUUM ANALYZE pages")
        link.execute("VACUUM ANALYZE vectors")


def draw_page_rows(shape: Shape, collection: int, files: Iterable[int]) -> Iterator[list[object]]:
    began = time.time() - DAYS * DAY_S
    for file in files:
        for page in range(1, FILE_PAGES + 1):
            number = file * FILE_PAGES + page
            named = [name_page(number), collection, name_file(file), f"{file:064x}", page, FILE_PAGES]
            yield [*named, 1000, 1414, began + number * DAYS * DAY_S / shape.pages, False]


def draw_vector_rows(shape: Shape, files: Iterable[int]) -> Iterator[list[object]]:
    for file in files:
        vectors = draw_file_vectors(seed_file(file), shape.dimension).astype(np.float16)
        for page, vector in enumerate(vectors, 1):
            yield [name_page(file * FILE_PAGES + page), vector]


def copy_rows(
    link: psycopg.Connection[Any], statement: str, types: Iterable[str], rows: Iterable[list[object]]
) -> None:
    halfvec = TypeInfo.fetch(link, "halfvec")
    assert halfvec is not None
    with link.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.set_types([halfvec.oid if name == "halfvec" else name for name in types])
        for row in rows:
            copy.write_row(row)
