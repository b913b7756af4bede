from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from serving.documents.page import Line
from serving.errors import BadValueError, NotFoundError
from serving.library.catalogue import FingerprintError
from serving.library.database import LibraryError
from serving.library.library import Library
from serving.library.records import Selection
from serving.library.search import LINE_WEIGHT
from serving.library.vectors import ID_BYTES, VectorMatrix
from tests.support.libraries import LINES, add, at, made, new
from tests.support.scripted import unit


def found(library: Library, text: str, name: str = "c", count: int = 9) -> set[str]:
    """Ids of the pages that a search finds."""
    return {hit.page.id for hit in library.ranking.search(at(library, name), unit(text, 64), count, "f1")}


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


def test_what_is_added_is_found_and_survives_reopening(tmp_path: Path) -> None:
    library = Library(tmp_path)
    ids = [add(library, new("a.pdf", page)) for page in (1, 2, 3)]
    for _ in range(2):
        hits = library.ranking.search(at(library), unit("a.pdf 2", 64), 2, "f1")
        assert [hit.rank for hit in hits] == [1, 2] and hits[0].page.id == ids[1]
        assert hits[0].score == pytest.approx(1, abs=1e-3) and hits[1].score < 0.6
        assert (hits[0].page.file, hits[0].page.page, hits[0].page.pages, hits[0].page.read) == ("a.pdf", 2, 3, True)
        assert library.catalogue.read_lines(ids[1]) == LINES
        assert (
            library.pictures.locate_picture(ids[1]).read_bytes() == b"jpeg"
            and library.pictures.locate_thumbnail(ids[1]).read_bytes() == b"webp"
        )
        library.close()
        library = Library(tmp_path)
    assert oct((tmp_path / "library.db").stat().st_mode)[-3:] == "600"
    library.close()


def test_same_content_is_kept_once(library: Library) -> None:
    first = add(library, new("a.png"))
    assert add(library, new("a.png", vector=unit("other", 64))) == first
    assert library.catalogue.find_pages(at(library), "sha of a.png") == {1: "a.png"}
    assert library.catalogue.find_collection("c").pages == 1 and len(list(library.pictures.folder.iterdir())) == 2
    assert add(library, new("a.png"), collection="other") != first


def test_fingerprints_never_meet(library: Library) -> None:
    add(library, new())
    with pytest.raises(FingerprintError, match="another embedder"):
        add(library, new("b.png"), fingerprint="f2")
    with pytest.raises(FingerprintError, match="another embedder"):
        library.ranking.search(at(library), unit("q", 64), 3, "f2")
    assert library.catalogue.find_collection("c").pages == 1 and len(list(library.pictures.folder.iterdir())) == 2
    add(library, new("b.png"), collection="d", fingerprint="f2")


def test_delete_page_file_and_collection(library: Library) -> None:
    ids = [add(library, new("a.pdf", page)) for page in (1, 2, 3)] + [add(library, new("b.png"))]
    other = add(library, new("a.pdf"), collection="other")
    library.ranking.search(at(library), unit("q", 64), 3, "f1")
    assert library.delete_pages(at(library), [ids[0], ids[0], other, "no such id", "../../etc/passwd"]) == [ids[0]]
    assert [file.pages for file in library.catalogue.list_files(at(library))] == [2, 1]
    assert ids[0] not in [hit.page.id for hit in library.ranking.search(at(library), unit("a.pdf 1", 64), 9, "f1")]
    with pytest.raises(NotFoundError):
        library.catalogue.read_page(ids[0])
    assert library.delete_file(at(library), "sha of a.pdf") == ids[1:3]
    assert library.delete_collection(at(library)) == 1 and library.delete_collection(at(library)) == 0
    assert [found.name for found in library.catalogue.list_collections()] == ["other"]
    assert {path.name.split(".")[0] for path in library.pictures.folder.iterdir()} == {other}


def test_pages_added_after_a_search_are_found(library: Library) -> None:
    add(library, new("a.png"))
    library.ranking.search(at(library), unit("q", 64), 3, "f1")
    ids = [add(library, new("b.png", page)) for page in range(1, 200)]
    for page in (1, 64, 65, 199):
        assert library.ranking.search(at(library), unit(f"b.png {page}", 64), 1, "f1")[0].page.id == ids[page - 1]


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\0b", "a\u202eb"])
def test_bad_names(library: Library, name: str) -> None:
    with pytest.raises(BadValueError, match="printable"):
        library.catalogue.find_collection(name)


def test_names_are_trimmed_and_empty_collections_answer(library: Library) -> None:
    assert library.catalogue.find_collection("  a   b ").name == "a b"
    assert (
        library.ranking.search(at(library, "nobody"), unit("q", 64), 3, "f1") == []
        and library.catalogue.list_files(at(library, "nobody")) == []
    )
    assert library.delete_pages(at(library, "nobody"), ["x"]) == [] and library.catalogue.find_latest_name() is None
    with pytest.raises(BadValueError, match="at least 1"):
        library.ranking.search(at(library), unit("q", 64), 0, "f1")


def test_second_process_is_told(tmp_path: Path) -> None:
    library = Library(tmp_path)
    with pytest.raises(LibraryError, match="another process is using"):
        Library(tmp_path)
    library.close()
    Library(tmp_path).close()


def test_newer_and_damaged_databases_are_left_untouched(tmp_path: Path) -> None:
    Library(tmp_path).close()
    path = tmp_path / "library.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(LibraryError, match="newer release"):
        Library(tmp_path)
    assert path.read_bytes() == before
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LibraryError, match="damaged"):
        Library(tmp_path)
    assert path.read_bytes() == b"not a database at all" * 100


def test_pictures_outlive_a_lost_database(tmp_path: Path) -> None:
    library = Library(tmp_path)
    add(library, new())
    library.close()
    for path in tmp_path.glob("library.db*"):
        path.unlink()
    for _ in range(2):
        Library(tmp_path).close()
    assert len(list((tmp_path / "pages").iterdir())) == 2


def test_emptied_collection_that_was_searched_takes_pages_again(library: Library) -> None:
    first = add(library, new("a.png"))
    library.ranking.search(at(library), unit("q", 64), 3, "f1")
    library.delete_pages(at(library), [first])
    assert library.ranking.search(at(library), unit("q", 64), 3, "f1") == []
    again = add(library, new("a.png"))
    assert [hit.page.id for hit in library.ranking.search(at(library), unit("q", 64), 3, "f1")] == [again]
    assert library.pictures.locate_picture(again).is_file()
    library.delete_pages(at(library), [again])
    library.close()
    reopened = Library(library.folder)
    assert reopened.ranking.search(at(reopened), unit("q", 64), 3, "f1") == []
    assert add(reopened, new("b.png")) == reopened.ranking.search(at(reopened), unit("q", 64), 3, "f1")[0].page.id
    reopened.close()


def test_files_of_others_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pages" / "trip").mkdir(parents=True)
    theirs = [tmp_path / "pages" / name for name in ("holiday.jpg", "trip/0123456789abcdef.jpg", "notes.part")]
    for path in theirs:
        path.write_bytes(b"theirs")
    for _ in range(3):
        library = Library(tmp_path)
        add(library, new())
        library.close()
    assert all(path.read_bytes() == b"theirs" for path in theirs)


def test_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LibraryError, match="cannot use the folder"):
        Library(tmp_path / "file")


def test_leftovers_of_a_kill_are_swept(tmp_path: Path) -> None:
    library = Library(tmp_path)
    kept = add(library, new())
    library.close()
    for name in ("0123456789abcdef.jpg", "0123456789abcdef.jpg.1a2b3c4d.part"):
        (tmp_path / "pages" / name).write_bytes(b"x")
    library = Library(tmp_path)
    assert {path.name.split(".")[0] for path in library.pictures.folder.iterdir()} == {kept}
    library.close()


def test_disk_full_is_an_error_and_nothing_is_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(tmp_path)
    add(library, new("a.png"))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(LibraryError, match="No space left"):
            add(library, new("b.png"))
    assert library.catalogue.find_collection("c").pages == 1
    assert len([path for path in library.pictures.folder.iterdir() if path.suffix != ".part"]) == 2
    add(library, new("b.png"))
    library.close()


INGEST = """
import sys
from pathlib import Path
from serving.library.library import Library
from tests.support.libraries import made, new
library = Library(Path(sys.argv[1]))
start = int(sys.argv[2])
for page in range(start, start + 100_000):
    stored = library.add_page(made(library), new("a.pdf", page, picture=b"p" * 50_000), fingerprint="f1", model="m")
    print(page, stored.id, flush=True)
"""


def test_20_kills_lose_no_acknowledged_page(tmp_path: Path) -> None:
    """kill -9 at a random moment of an ingest, twenty times: every page that was acknowledged is there, whole."""
    chance = random.Random(4)
    acknowledged: dict[int, str] = {}
    for number in range(20):
        start = number * 100_000 + 1
        command = [sys.executable, "-c", INGEST, str(tmp_path), str(start)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            first = child.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.15))
            child.send_signal(signal.SIGKILL)
            lines = [first, *child.stdout.read().split("\n")]
        pairs = (line.strip().partition(" ") for line in lines)
        acknowledged |= {int(page): page_id for page, _, page_id in pairs if len(page_id) == 16}
    assert len(acknowledged) >= 20
    db = sqlite3.connect(tmp_path / "library.db")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    library = Library(tmp_path)
    vectors = {page: unit(f"a.pdf {page}", 64) for page in acknowledged}
    for page, page_id in acknowledged.items():
        assert library.catalogue.read_page(page_id).page == page
        assert (
            library.pictures.locate_picture(page_id).read_bytes() == b"p" * 50_000
            and library.pictures.locate_thumbnail(page_id).is_file()
        )
        assert library.catalogue.read_lines(page_id) == LINES
    sample = chance.sample(sorted(acknowledged), 20)
    assert all(
        library.ranking.search(at(library), vectors[page], 1, "f1")[0].page.id == acknowledged[page] for page in sample
    )
    known = {path.name.split(".")[0] for path in library.pictures.folder.iterdir()}
    assert len(known) == library.catalogue.find_collection("c").pages  # what was not acknowledged is whole, or gone
    library.close()


def test_the_best_line_counts_and_is_told(library: Library) -> None:
    """Three pages alike but for one line: the page whose line is nearest comes first, and its line is named."""
    base = unit("all alike", 64)
    for number in range(3):
        lines = tuple(Line(f"line {number} {n}", (0.0, n / 10, 1.0, n / 10 + 0.05)) for n in range(4))
        vectors = np.stack([unit(line.text, 64) for line in lines])
        add(library, new("a.pdf", number + 1, vector=base, lines=lines, line_vectors=vectors))
    add(library, new("plain.png", vector=base, lines=None))
    hits = library.ranking.search(at(library), unit("line 1 2", 64), 4, "f1")
    assert hits[0].page.page == 2 and hits[0].line == Line("line 1 2", (0.0, 0.2, 1.0, 0.25))
    page = float(base @ unit("line 1 2", 64))
    assert hits[0].score == pytest.approx((1 - LINE_WEIGHT) * page + LINE_WEIGHT, abs=2e-3)
    plain = next(hit for hit in hits if hit.page.file == "plain.png")
    assert plain.line is None and plain.score == pytest.approx(page, abs=2e-3)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_matrix_agrees_with_numpy(library: Library) -> None:
    rows = {add(library, new("a.pdf", page, dimension=2560)): unit(f"a.pdf {page}", 2560) for page in range(1, 300)}
    names, matrix = list(rows), np.stack(list(rows.values()))
    for number in range(20):
        query = unit(f"query {number}", 2560)
        best = [names[n] for n in np.argsort(-(matrix @ query))[:5]]
        assert [hit.page.id for hit in library.ranking.search(at(library), query, 5, "f1")] == best


def test_a_selection_is_made_before_ranking(library: Library) -> None:
    """The nearest pages are of other files: they take no place, whatever top_k is."""
    near = [add(library, new("near.pdf", page)) for page in (1, 2, 3)]
    far = [add(library, new(name)) for name in ("far.png", "Photo.JPG", "scan")]
    question = unit("near.pdf 1", 64)
    assert library.ranking.search(at(library), question, 1, "f1")[0].page.id == near[0]
    for of, ids in (
        (Selection(("far.png",)), {far[0]}),
        (Selection(types=("image",)), set(far[:2])),
        (Selection(types=("jpeg",)), {far[1]}),
        (Selection(types=("other",)), {far[2]}),
        (Selection(types=("pdf", "png")), {*near, far[0]}),
        (Selection(("near.pdf", "scan"), ("pdf",)), set(near)),
        (Selection(("scan",), ("pdf",)), set()),
    ):
        hits = library.ranking.search(at(library), question, 9, "f1", of)
        assert {hit.page.id for hit in hits} == ids and library.ranking.count_pages(at(library), of) == len(ids)
        assert [hit.rank for hit in hits] == list(range(1, len(ids) + 1))
    assert len(library.ranking.search(at(library), question, 1, "f1", Selection(types=("image",)))) == 1
    assert library.catalogue.list_file_names(at(library)) == [
        ("near.pdf", 3),
        ("far.png", 1),
        ("Photo.JPG", 1),
        ("scan", 1),
    ]
    assert library.ranking.count_pages(at(library), Selection()) == 6
    with pytest.raises(BadValueError, match=r"no file 'gone\.png'"):
        library.ranking.search(at(library), question, 3, "f1", Selection(("gone.png",)))


@pytest.mark.parametrize("lined", [False, True])
def test_fewer_numbers_rank_as_cut_vectors_do(library: Library, lined: bool) -> None:
    rows, lines = {}, {}
    for page in range(1, 40):
        line = np.stack([unit(f"line {page} {n}", 64) for n in range(3)])
        line[2] = 0  # a line that answers nothing
        page_id = add(library, new("a.pdf", page, line_vectors=line if lined else None))
        rows[page_id], lines[page_id] = unit(f"a.pdf {page}", 64), line
    question = unit("question", 64)

    def cosine(a: np.ndarray, b: np.ndarray, size: int) -> float:
        length = float(np.linalg.norm(a[:size]) * np.linalg.norm(b[:size]))
        return float(a[:size] @ b[:size]) / length if length else 0.0

    def score(page_id: str, size: int) -> float:
        page = cosine(rows[page_id], question, size)
        best = max(cosine(line, question, size) for line in lines[page_id])
        return (1 - LINE_WEIGHT) * page + LINE_WEIGHT * best if lined else page

    orders = []
    for size in (8, 32, 64):
        expected = sorted(rows, key=lambda page_id: -score(page_id, size))[:12]
        hits = library.ranking.search(at(library), question, 12, "f1", dimension=size)
        assert [hit.page.id for hit in hits] == expected
        assert [hit.score for hit in hits] == pytest.approx([score(hit.page.id, size) for hit in hits], abs=2e-3)
        orders.append(expected)
    assert orders[0] != orders[2] and library.ranking.search(at(library), question, 12, "f1") == hits


def test_scores_of_many_questions_are_those_of_each_search(library: Library) -> None:
    for page in range(1, 8):
        lines = tuple(Line(f"line {page} {n}") for n in range(3))
        vectors = np.stack([unit(line.text, 64) for line in lines])
        add(library, new("a.pdf", page, lines=lines, line_vectors=vectors))
    add(library, new("plain.png", lines=None))
    questions = np.stack([unit(text, 64) for text in ("line 3 1", "a.pdf 5", "else")])
    for of, dimension in ((Selection(), None), (Selection(types=("pdf",)), 16)):
        pages, scores = library.ranking.score_pages(at(library), questions, "f1", of, dimension)
        assert [page.page for page in pages][:7] == list(range(1, 8)) and scores.shape == (
            3,
            library.ranking.count_pages(at(library), of),
        )
        for row, question in zip(scores, questions, strict=True):
            hits = library.ranking.search(at(library), question, 20, "f1", of, dimension)
            by_id = {hit.page.id: hit.score for hit in hits}
            assert [by_id[page.id] for page in pages] == pytest.approx(list(row), abs=1e-5)
    assert library.ranking.score_pages(at(library, "nobody"), questions, "f1")[1].shape == (3, 0)
    with pytest.raises(FingerprintError):
        library.ranking.score_pages(at(library), questions, "f2")


# Vectors in memory


@contextmanager
def gated_loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Whoever loads vectors says so by the first event, and goes on with the second."""
    begun, gate = threading.Event(), threading.Event()
    real = VectorMatrix.from_rows

    def gated(rows: Iterable[tuple[str, bytes]]) -> VectorMatrix:
        begun.set()
        assert gate.wait(60)
        return real(rows)

    monkeypatch.setattr(VectorMatrix, "from_rows", gated)
    try:
        yield begun, gate
    finally:
        gate.set()


def test_loading_a_collection_lets_others_be_searched_and_added_to(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {name: add(library, new("a.png"), name) for name in ("big", "small")}
    found(library, "a", "small")
    with ThreadPoolExecutor(3) as pool, gated_loading(monkeypatch) as (begun, gate):
        searching = pool.submit(found, library, "a", "big")
        assert begun.wait(30)
        assert pool.submit(found, library, "a", "small").result(30) == {pages["small"]}
        added = pool.submit(add, library, new("b.png"), "small").result(30)
        assert found(library, "a", "small") == {pages["small"], added}
        gate.set()
        assert searching.result(30) == {pages["big"]}


def test_changes_while_a_collection_is_loaded_are_seen_by_the_next_search(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (add(library, new(f"{name}.png")) for name in "abc")
    with ThreadPoolExecutor(2) as pool, gated_loading(monkeypatch) as (begun, gate):
        searching = pool.submit(found, library, "a")
        assert begun.wait(30)
        lines = np.stack([unit(line.text, 64) for line in LINES])
        fourth = add(library, new("d.png", line_vectors=lines))
        assert library.delete_pages(at(library), [second]) == [second]
        waiting = pool.submit(found, library, "a")
        gate.set()
        assert searching.result(30) == waiting.result(30) == {first, third, fourth}
    hits = library.ranking.search(at(library), unit(LINES[0].text, 64), 9, "f1")
    assert next(hit.line for hit in hits if hit.page.id == fourth) == LINES[0]
    library.close()
    again = Library(library.folder)
    pages, _ = again.ranking.score_pages(at(again), unit("q", 64)[None], "f1")
    assert [page.id for page in pages] == [first, third, fourth], "in the order they were added"


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_collection_that_goes_while_it_is_loaded_leaves_nothing_in_memory(
    library: Library, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    page, other = add(library, new("a.png")), library.create_collection("other").key
    with ThreadPoolExecutor(1) as pool, gated_loading(monkeypatch) as (begun, gate):
        searching = pool.submit(found, library, "a")
        assert begun.wait(30)
        if how == "deleted":
            library.delete_collection(at(library))
        else:
            library.move_pages(at(library), [page], other)
        gate.set()
        searching.result(30)
    assert library.vectors.bytes == 0
    assert found(library, "a") == set() and found(library, "a", "other") == ({page} if how == "moved" else set())


def test_vectors_that_cannot_be_loaded_are_tried_again(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    page = add(library, new("a.png"))

    def broken(_: object) -> VectorMatrix:
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(VectorMatrix, "from_rows", broken)
        found(library, "a")
    assert found(library, "a") == {page}


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


def test_searches_additions_and_deletions_at_once_end_in_what_is_there(tmp_path: Path) -> None:
    library = Library(tmp_path, vector_bytes=3_000)  # so that each search loads
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
