"""Search through the indexes of a real PostgreSQL, while pages come and go, and how the indexes are made and lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import psycopg
import pytest

from bench.speed.many_pages import FILE_PAGES, FINGERPRINT, NAME, Shape, draw_questions, fill_library, name_file
from bench.speed.shared_pages import fill_store
from serving.library import postgres_indexing, postgres_search
from serving.library.library import Library
from serving.library.postgres_search import MOST_CANDIDATES, PostgresPages
from serving.library.records import ALL_PAGES, Hit, IndexChoice, IndexName, Selection
from serving.settings import Settings
from tests.support.libraries import at, new
from tests.support.postgres import PostgresServer
from tests.support.stores import LibraryOpener
from tests.support.waiting import until

SHAPE = Shape(600, 64, has_lines=False)
LEAST = 300
PDF = Selection(types=("pdf",))
"""450 of the pages: so many that the index is searched."""
INDEXES = (
    "SELECT n.relname, i.indisvalid FROM pg_index i JOIN pg_class n ON n.oid = i.indexrelid"
    " WHERE i.indrelid = 'vectors'::regclass AND n.relname ~ '^(hnsw|binary)_'"
)
BUILDS = "SELECT pid FROM pg_stat_progress_create_index WHERE relid = 'vectors'::regclass"


class Machines:
    """Libraries of one store, each as of a machine of its own."""

    def __init__(self, postgres: PostgresServer, folder: Path) -> None:
        self._opener = LibraryOpener(postgres)
        self._folder = folder
        self._count = 0
        self.exact = self.open("exact")
        self.address = self._opener.locate(folder / "0")
        fill_store(self.address, self.exact, SHAPE)
        self.key = at(self.exact, NAME)

    def open(self, kind: IndexName, least_pages: int = LEAST) -> Library:
        folder, first = self._folder / str(self._count), self._folder / "0"
        if self._count:
            self._opener.schemas[folder] = self._opener.schemas[first]
        self._count += 1
        return self._opener.open(folder, index=IndexChoice(kind, least_pages))

    def open_indexed(self, kind: IndexName = "hnsw") -> Library:
        library = self.open(kind)
        library.begin_indexing()
        until(lambda: library.is_indexed(self.key), 60)
        return library

    def list_indexes(self) -> list[tuple[str, bool]]:
        """Return the names of all indexes of vectors, and whether they can be searched."""
        return [(str(name), bool(valid)) for name, valid in self.exact.database.fetch_all(INDEXES)]

    def list_builds(self) -> list[int]:
        return [pid for (pid,) in self.exact.database.fetch_all(BUILDS)]

    @contextmanager
    def hold_builds(self) -> Iterator[None]:
        """Let no build come to its end: each waits for who reads what was there before it."""
        with psycopg.connect(self.address) as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT 1 FROM vectors LIMIT 1")
            yield

    def close(self) -> None:
        self._opener.close()


@pytest.fixture
def machines(postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    monkeypatch.setattr(postgres_indexing, "LOOK_S", 0.05)
    monkeypatch.setattr(postgres_indexing, "FAILED_S", 0.05)
    monkeypatch.setattr(postgres_search, "EXACT_TIMES", 1)
    machines = Machines(postgres, tmp_path)
    yield machines
    machines.close()


QUESTIONS = draw_questions(SHAPE, 20)


def ask(library: Library, question: np.ndarray, of: Selection = ALL_PAGES, top_k: int = 10) -> list[Hit]:
    return library.ranking.search(at(library, NAME), question, top_k, FINGERPRINT, of)


def ids(hits: list[Hit]) -> list[str]:
    return [hit.page.id for hit in hits]


def compare(library: Library, exact: Library, of: Selection = ALL_PAGES) -> float:
    """Return how much of the ten nearest is found; what is found has the score that it has exactly."""
    shares = []
    for question in QUESTIONS:
        scores = {hit.page.id: hit.score for hit in ask(exact, question, of)}
        found = {hit.page.id: hit.score for hit in ask(library, question, of)}
        common = scores.keys() & found.keys()
        assert len(found) == 10 and [found[n] for n in common] == pytest.approx([scores[n] for n in common], abs=1e-6)
        shares.append(len(common) / 10)
    return float(np.mean(shares))


def test_exact_search_is_that_of_the_embedded_library(machines: Machines, tmp_path: Path) -> None:
    fill_library(tmp_path / "embedded", SHAPE, has_pictures=False)
    with closing(Library(tmp_path / "embedded")) as embedded:
        for of in (ALL_PAGES, PDF, Selection(files=(name_file(7),)), Selection(folder="area 0/shelf 0")):
            for question in QUESTIONS[:5]:
                ours, theirs = ask(machines.exact, question, of), ask(embedded, question, of)
                assert ids(ours) == ids(theirs) and len(ours) == 10
                assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=1e-3)
    assert machines.list_indexes() == []


@pytest.mark.parametrize("kind", ["hnsw", "binary"])
def test_an_index_finds_the_nearest_pages(machines: Machines, kind: IndexName) -> None:
    library = machines.open_indexed(kind)
    assert [name.partition("_")[0] for name, _ in machines.list_indexes()] == [kind]
    for of in (ALL_PAGES, PDF):
        assert compare(library, machines.exact, of) >= 0.95
    for question in QUESTIONS[:3]:
        assert all(hit.page.file.endswith(".pdf") for hit in ask(library, question, PDF))


def test_a_filter_that_leaves_few_enough_is_exact(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    library = machines.open_indexed()
    monkeypatch.setattr(postgres_search, "EXACT_TIMES", 2)
    monkeypatch.setattr(PostgresPages, "_search_index", None)
    assert compare(library, machines.exact, PDF) == 1


@pytest.mark.parametrize("kind", ["hnsw", "binary"])
def test_no_filter_and_no_number_of_hits_loses_pages(
    machines: Machines, kind: IndexName, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = machines.open_indexed(kind)
    few = Selection(files=(name_file(7),))  # searched exactly
    assert ids(ask(library, QUESTIONS[0], few)) == ids(ask(machines.exact, QUESTIONS[0], few))
    for of, pages in ((ALL_PAGES, 600), (PDF, 450)):
        for top_k in (200, 450, 600, MOST_CANDIDATES + 1):
            assert len(set(ids(ask(library, QUESTIONS[1], of, top_k)))) == min(top_k, pages)
    asked = frozenset(ids(ask(machines.exact, QUESTIONS[2], top_k=400)))
    among = library.ranking.search_among(machines.key, QUESTIONS[0], 400, FINGERPRINT, asked)
    assert set(ids(among)) == asked
    monkeypatch.setattr(PostgresPages, "_search_index", lambda *_: [])  # it gives up
    assert ids(ask(library, QUESTIONS[0], PDF)) == ids(ask(machines.exact, QUESTIONS[0], PDF))


def test_fewer_numbers_are_compared_exactly(machines: Machines) -> None:
    library = machines.open_indexed()
    for question in QUESTIONS[:3]:
        ours, exact = (
            one.ranking.search(machines.key, question, 10, FINGERPRINT, dimension=16)
            for one in (library, machines.exact)
        )
        assert ids(ours) == ids(exact)


def test_pages_come_move_and_go_while_the_index_stands(machines: Machines) -> None:
    library = machines.open_indexed()
    other = library.create_collection("other").key
    question = QUESTIONS[0]
    page = library.add_page(machines.key, new("near.pdf", vector=question), fingerprint=FINGERPRINT, model="m").id
    assert ids(ask(library, question))[0] == page
    assert library.move_pages(machines.key, [page], other) == [page]
    assert page not in ids(ask(library, question, top_k=600))
    assert ids(library.ranking.search(other, question, 10, FINGERPRINT)) == [page]
    assert library.move_pages(other, [page], machines.key) == [page]
    assert ids(ask(library, question))[0] == page
    assert library.delete_pages(machines.key, [page]) == [page]
    before = ids(ask(library, question))
    assert page not in before
    assert library.delete_pages(machines.key, before[:2]) == before[:2]
    assert ids(ask(library, question))[:8] == before[2:]


def test_a_collection_of_two_machines_grows_while_it_is_indexed(machines: Machines) -> None:
    """Searches are exact, additions do not wait, and what came meanwhile is in the index."""
    library, other = machines.open("hnsw"), machines.open("hnsw")
    with machines.hold_builds():
        library.begin_indexing()
        other.begin_indexing()
        until(lambda: machines.list_indexes() and machines.list_builds(), 60)
        assert not library.is_indexed(machines.key)
        found = ids(ask(library, QUESTIONS[0]))
        assert found == ids(ask(machines.exact, QUESTIONS[0]))
        vector = QUESTIONS[1]
        page = other.add_page(machines.key, new("late.pdf", vector=vector), fingerprint=FINGERPRINT, model="m").id
        assert ids(ask(library, vector))[0] == page
        assert len(machines.list_builds()) == 1 and len(machines.list_indexes()) == 1
    until(lambda: library.is_indexed(machines.key) and other.is_indexed(machines.key), 60)
    assert ids(ask(library, vector))[0] == page
    assert len(machines.list_indexes()) == 1


def test_a_build_that_is_killed_is_made_anew(machines: Machines, caplog: pytest.LogCaptureFixture) -> None:
    library = machines.open("hnsw")
    with machines.hold_builds():
        library.begin_indexing()
        until(lambda: machines.list_indexes() and machines.list_builds(), 60)
        library.vectors.clear()  # no further one, so that what it leaves can be seen
        for pid in machines.list_builds():
            machines.exact.database.fetch_all("SELECT pg_terminate_backend(?)", [pid])
        until(lambda: not machines.list_builds(), 60)
        assert [valid for _, valid in machines.list_indexes()] == [False]
        assert not library.is_indexed(machines.key)
        assert compare(library, machines.exact) == 1
    with caplog.at_level(logging.INFO, "serving.library.postgres_indexing"):
        library.begin_indexing()
        until(lambda: library.is_indexed(machines.key), 60)
    assert "useless" in caplog.text and "was made in" in caplog.text
    assert [valid for _, valid in machines.list_indexes()] == [True]
    assert compare(library, machines.exact) >= 0.95


def test_the_server_finishes_the_index_of_a_page_that_ends(machines: Machines) -> None:
    library = machines.open("hnsw")
    with machines.hold_builds():
        library.begin_indexing()
        until(lambda: machines.list_indexes() and machines.list_builds(), 60)
        library.close()
    until(lambda: [valid for _, valid in machines.list_indexes()] == [True], 60)


def test_the_index_goes_with_its_collection(machines: Machines) -> None:
    library = machines.open_indexed()
    library.delete_collection(machines.key)
    until(lambda: machines.list_indexes() == [], 60)


def test_who_may_only_read_makes_no_index_and_searches_in_it(
    machines: Machines, postgres: PostgresServer, tmp_path: Path
) -> None:
    schema = str(machines.exact.database.fetch_one("SELECT current_schema()")[0])
    address, choice = postgres.create_reader(schema), IndexChoice("hnsw", LEAST)
    with closing(Library(tmp_path / "reader", address=address, index=choice)) as reader:
        assert reader.read_only
        reader.begin_indexing()
        assert machines.list_indexes() == [] and not reader.is_indexed(machines.key)
        machines.open_indexed()
        assert reader.is_indexed(machines.key)
        assert compare(reader, machines.exact) >= 0.95


def test_who_does_not_own_the_tables_says_so_and_searches_exactly(
    machines: Machines, postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    schema = str(machines.exact.database.fetch_one("SELECT current_schema()")[0])
    address = postgres.create_reader(schema)
    user = address.partition("//")[2].partition("@")[0]
    postgres.run(f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {user}")
    with closing(Library(tmp_path / "user", address=address, index=IndexChoice("hnsw", LEAST))) as library:
        library.begin_indexing()
        until(lambda: "may make no index" in caplog.text, 60)
        assert compare(library, machines.exact) == 1


def test_a_server_that_is_too_old_a_small_collection_and_exact_have_no_index(machines: Machines) -> None:
    for library in (machines.open("hnsw", 601), machines.open("exact")):
        with psycopg.connect(machines.address, autocommit=True) as link:
            choice = library.vectors._choice  # type: ignore[attr-defined]
            postgres_indexing.IndexBuilder("", choice).tend(link)
        assert machines.list_indexes() == [] and not library.is_indexed(machines.key)
    library = machines.open_indexed()
    library.database.has_iterative_scans = False  # type: ignore[attr-defined]
    assert not library.is_indexed(machines.key) and compare(library, machines.exact) == 1


def test_lines_are_ranked_where_some_page_has_them(machines: Machines) -> None:
    library = machines.open_indexed()
    lines = np.stack([QUESTIONS[0], QUESTIONS[1]])
    assert not library.vectors.load_vectors(machines.key).has_lines
    page = new("lined.pdf", vector=QUESTIONS[0], line_vectors=lines)
    added = library.add_page(machines.key, page, fingerprint=FINGERPRINT, model="m").id
    assert library.vectors.load_vectors(machines.key).has_lines
    for one in (library, machines.exact):
        (hit, *_) = ask(one, QUESTIONS[0])
        assert hit.page.id == added and hit.line is not None


def test_the_settings_choose_the_index(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, store_index="binary", store_index_pages=7)
    assert (settings.store_index, settings.store_index_pages) == ("binary", 7)


def test_made_up_pages_are_the_same_on_both_stores(machines: Machines) -> None:
    assert len(machines.exact.catalogue.list_files(machines.key)) == SHAPE.pages // FILE_PAGES
    assert machines.exact.ranking.count_pages(machines.key, PDF) == 450
