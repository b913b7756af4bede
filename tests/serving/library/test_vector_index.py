"""Vectors of searched collections in memory: loaded once, changed meanwhile, evicted.

Only the embedded store has them; the last two tests are of what a search sees, and hold for a server's as well.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from serving.errors import BadValueError
from serving.library import vector_index
from serving.library.database import LibraryError
from serving.library.library import Library
from serving.library.records import ABSENT, Selection
from serving.library.vectors import ID_BYTES, Row, VectorMatrix
from tests.support.libraries import LINES, UNKNOWN, add, at, made, new
from tests.support.scripted import unit
from tests.support.stores import LibraryOpener


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Library]:
    library = Library(tmp_path)
    yield library
    library.close()


def found(library: Library, text: str, name: str = "c", count: int = 9) -> set[str]:
    """Ids of the pages that a search finds."""
    return {hit.page.id for hit in library.ranking.search(at(library, name), unit(text, 64), count, "f1")}


@contextmanager
def gated_loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Whoever loads vectors says so by the first event, and goes on with the second."""
    begun, gate = threading.Event(), threading.Event()
    real = VectorMatrix.from_rows

    def gated(rows: Iterable[Row]) -> VectorMatrix:
        begun.set()
        assert gate.wait(60)
        return real(rows)

    monkeypatch.setattr(VectorMatrix, "from_rows", gated)
    try:
        yield begun, gate
    finally:
        gate.set()


def test_loading_a_collection_lets_others_be_searched_and_added_to(
    embedded: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {name: add(embedded, new("a.png"), name) for name in ("big", "small")}
    found(embedded, "a", "small")
    with ThreadPoolExecutor(3) as pool, gated_loading(monkeypatch) as (begun, gate):
        searching = pool.submit(found, embedded, "a", "big")
        assert begun.wait(30)
        assert pool.submit(found, embedded, "a", "small").result(30) == {pages["small"]}
        added = pool.submit(add, embedded, new("b.png"), "small").result(30)
        assert found(embedded, "a", "small") == {pages["small"], added}
        gate.set()
        assert searching.result(30) == {pages["big"]}


def test_changes_while_a_collection_is_loaded_are_seen_by_the_next_search(
    embedded: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (add(embedded, new(f"{name}.png")) for name in "abc")
    with ThreadPoolExecutor(2) as pool, gated_loading(monkeypatch) as (begun, gate):
        searching = pool.submit(found, embedded, "a")
        assert begun.wait(30)
        lines = np.stack([unit(line.text, 64) for line in LINES])
        fourth = add(embedded, new("d.png", line_vectors=lines))
        assert embedded.delete_pages(at(embedded), [second]) == [second]
        waiting = pool.submit(found, embedded, "a")
        gate.set()
        assert searching.result(30) == waiting.result(30) == {first, third, fourth}
    hits = embedded.ranking.search(at(embedded), unit(LINES[0].text, 64), 9, "f1")
    assert next(hit.line for hit in hits if hit.page.id == fourth) == LINES[0]
    embedded.close()
    again = Library(embedded.folder)
    pages, _ = again.ranking.score_pages(at(again), unit("q", 64)[None], "f1")
    assert [page.id for page in pages] == [first, third, fourth], "in the order they were added"


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_collection_that_goes_while_it_is_loaded_leaves_nothing_in_memory(
    embedded: Library, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    page, other = add(embedded, new("a.png")), embedded.create_collection("other").key
    with ThreadPoolExecutor(1) as pool, gated_loading(monkeypatch) as (begun, gate):
        searching = pool.submit(found, embedded, "a")
        assert begun.wait(30)
        if how == "deleted":
            embedded.delete_collection(at(embedded))
        else:
            embedded.move_pages(at(embedded), [page], other)
        gate.set()
        searching.result(30)
    assert embedded.vectors.bytes == 0
    assert found(embedded, "a") == set() and found(embedded, "a", "other") == ({page} if how == "moved" else set())


def test_vectors_that_cannot_be_loaded_are_tried_again(embedded: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    page = add(embedded, new("a.png"))

    def broken(_: object) -> VectorMatrix:
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(VectorMatrix, "from_rows", broken)
        found(embedded, "a")
    assert found(embedded, "a") == {page}


def test_vectors_that_the_memory_does_not_hold_are_refused_in_a_sentence(
    embedded: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = add(embedded, new("a.png"))
    with monkeypatch.context() as patch, pytest.raises(LibraryError, match="end other programs, or move") as refused:
        patch.setattr(vector_index, "measure_free_memory", lambda: 64)
        found(embedded, "a")
    assert refused.value.code == "out_of_memory" and embedded.vectors.bytes == 0
    assert found(embedded, "a") == {page}


def test_vectors_are_loaded_before_they_are_asked_for(embedded: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    page = add(embedded, new("a.png"))
    with gated_loading(monkeypatch) as (begun, gate), ThreadPoolExecutor(1) as pool:
        embedded.vectors.begin_loading(at(embedded))
        assert begun.wait(30)
        embedded.vectors.begin_loading(at(embedded))  # a second view of the page
        searching = pool.submit(found, embedded, "a")
        gate.set()
        assert searching.result(30) == {page}
    for gone in (UNKNOWN, ABSENT):
        embedded.vectors.begin_loading(gone)
    assert set(embedded.vectors.list_loaded()) == {at(embedded)}


def test_a_slow_disk_is_read_ahead_and_the_reading_ends(embedded: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    page = add(embedded, new("a.png"))
    begun, ended, real = threading.Event(), threading.Event(), vector_index.read_file

    def read(path: Path, stop: threading.Event) -> None:
        assert path == embedded.database.path
        real(path, stop)
        begun.set()
        assert stop.wait(60)
        real(path, stop)
        ended.set()

    monkeypatch.setattr(vector_index, "read_file", read)
    monkeypatch.setattr(vector_index, "AHEAD_S", 0.0)
    monkeypatch.setattr(vector_index, "AHEAD_RATIO", 1_000_000)
    with gated_loading(monkeypatch) as (_, gate), ThreadPoolExecutor(1) as pool:
        searching = pool.submit(found, embedded, "a")
        assert begun.wait(30)
        gate.set()
        assert searching.result(30) == {page} and ended.wait(30)


def test_the_least_recently_searched_vectors_go(tmp_path: Path) -> None:
    one = 10 * (64 * 2 + ID_BYTES)
    library = Library(tmp_path, vector_bytes=2 * one)
    for name in "abc":
        for page in range(1, 11):
            add(library, new("a.pdf", page), name)
    before = {name: library.ranking.search(at(library, name), unit("q", 64), 9, "f1") for name in "abc"}
    assert library.vectors.bytes == 2 * one and set(library.vectors.list_loaded()) == {
        at(library, "b"),
        at(library, "c"),
    }
    found(library, "q", "b")
    assert library.ranking.search(at(library, "a"), unit("q", 64), 9, "f1") == before["a"]
    assert set(library.vectors.list_loaded()) == {at(library, "a"), at(library, "b")}
    for name in "bcabcc":
        assert library.ranking.search(at(library, name), unit("q", 64), 9, "f1") == before[name]
        assert library.vectors.bytes <= 2 * one
    added = add(library, new("new.png"), "a")  # which is not in memory now
    assert library.vectors.bytes <= 2 * one and added in found(library, "new.png 1", "a")
    more = [add(library, new("more.pdf", page), "c") for page in range(1, 200)]  # which is, and grows too large
    assert library.vectors.bytes <= 2 * one and more[-1] in found(library, "more.pdf 199", "c")
    assert set(library.vectors.list_loaded()) == {at(library, "c")}, "held alone, or nobody could search it"


def test_a_renamed_file_is_selected_by_its_new_name(library: Library) -> None:
    page = add(library, new("old/a.png"))
    question = unit("a", 64)
    assert library.ranking.search(at(library), question, 3, "f1", Selection(folder="old"))
    library.rename_files(at(library), {"sha of old/a.png": "new/b.png"})
    hits = library.ranking.search(at(library), question, 3, "f1", Selection(("new/b.png",), folder="new"))
    assert [hit.page.id for hit in hits] == [page]
    with pytest.raises(BadValueError, match="no folder 'old'"):
        library.ranking.count_pages(at(library), Selection(folder="old"))
    later = add(library, new("later.png"))
    assert library.ranking.count_pages(at(library), Selection(("later.png",))) == 1
    library.delete_pages(at(library), [later])
    with pytest.raises(BadValueError, match=r"no file 'later\.png'"):
        library.ranking.count_pages(at(library), Selection(("later.png",)))


def test_searches_additions_and_deletions_at_once_end_in_what_is_there(store: LibraryOpener, tmp_path: Path) -> None:
    library = store.open(tmp_path, vector_bytes=3_000)  # so that each search loads
    kept: dict[str, set[str]] = {name: set() for name in "abc"}

    def change(name: str) -> None:
        for page in range(1, 31):
            page_id = add(library, new("a.pdf", page), name)
            kept[name].add(page_id)
            if page % 3 == 0:
                library.delete_pages(at(library, name), [page_id])
                kept[name].discard(page_id)
            assert kept[name] <= found(library, "q", name, 60)

    def look(name: str) -> None:
        for _ in range(30):
            found(library, "q", name, 60)

    with ThreadPoolExecutor(6) as pool:
        for name in "abc":
            made(library, name)
        for work in [pool.submit(what, name) for name in "abc" for what in (change, look)]:
            work.result(60)
    for name in "abc":
        assert found(library, "q", name, 60) == kept[name]
