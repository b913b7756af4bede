"""The search by words, on both stores: what it finds, what changes it, and an index that is old, damaged or gone."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from serving.documents.page import Line
from serving.errors import BadValueError
from serving.library import word_index
from serving.library.catalogue import CollectionGoneError
from serving.library.library import Library
from serving.library.records import ABSENT, ALL_PAGES, Hit, Selection
from tests.support.libraries import UNKNOWN, add, at, made, new
from tests.support.stores import LibraryOpener
from tests.support.waiting import until

PUMP, TULIPS, PRICES = "The pump needs a new valve every 200 hours", "Tulips flower in April", "Pumps: price 1,234.50"


def lines(*texts: str) -> tuple[Line, ...]:
    return tuple(map(Line, texts))


def find(library: Library, question: str, collection: str = "c", **selection: object) -> list[str]:
    """Return the files of the pages that are found, best first."""
    selected = Selection(**selection)  # type: ignore[arg-type]
    hits = library.ranking.search_words(at(library, collection), question, 8, selected)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1)) and all(hit.score > 0 for hit in hits)
    return [hit.page.file for hit in hits]


@pytest.fixture
def garden(library: Library) -> Library:
    add(library, new("pump.png", lines=lines("Manual", PUMP)))
    add(library, new("tulips.pdf", lines=lines(TULIPS)))
    add(library, new("lists/prices.png", lines=lines(PRICES)))
    add(library, new("photo.png", lines=None))
    add(library, new("blank.png", lines=()))
    library.begin_indexing()
    settle(library)
    return library


def settle(library: Library) -> None:
    """Every page is indexed."""
    until(lambda: library.words.count_missing() == 0, 20)


def forget_words(library: Library) -> None:
    """As in a library of an older release."""
    with library.database.transaction() as db:
        db.execute("DELETE FROM word_pages")


def test_pages_with_most_of_the_words_come_first_with_the_line_that_has_them(garden: Library) -> None:
    assert find(garden, "when does the pump need a valve?") == ["pump.png", "lists/prices.png"]
    assert find(garden, "TULIP") == ["tulips.pdf"] and find(garden, "1234.50") == ["lists/prices.png"]
    best = garden.ranking.search_words(at(garden), "new valve", 1)
    assert [hit.line and hit.line.text for hit in best] == [PUMP]


def test_pages_with_a_number_are_told_unless_they_are_many(garden: Library) -> None:
    pages = garden.catalogue.list_page_ids(at(garden))

    def find_exact(word: str, most: int = 20, **selection: object) -> list[str]:
        ids = garden.words.find_exact(at(garden), word, most, Selection(**selection))  # type: ignore[arg-type]
        assert set(ids) <= set(pages)
        return [garden.catalogue.read_page(page_id).file for page_id in ids]

    assert find_exact("_123450") == ["lists/prices.png"] and find_exact("_12345") == []
    assert find_exact("_123450", folder="lists") == ["lists/prices.png"]
    assert find_exact("_123450", types=("pdf",)) == [] and find_exact("_123450", most=0) == []
    assert sorted(find_exact("pump")) == ["lists/prices.png", "pump.png"] and find_exact("pump", most=1) == []
    assert garden.words.find_exact(ABSENT, "_123450", 20, ALL_PAGES) == []
    with pytest.raises(CollectionGoneError):
        garden.words.find_exact(UNKNOWN, "_123450", 20, ALL_PAGES)
    with pytest.raises(CollectionGoneError):
        garden.words.weigh_question(UNKNOWN, "pump")


def test_lines_are_marked_on_pages_that_were_found_by_vectors(garden: Library) -> None:
    key = at(garden)
    hits = [Hit(1, 0.5, garden.catalogue.read_page(page_id)) for page_id in garden.catalogue.list_page_ids(key)]
    for question, line in (("pump valve", {"pump.png": PUMP}), ("the price of pumps", {"lists/prices.png": PRICES})):
        marked = garden.ranking.mark_lines(key, question, hits)
        assert {hit.page.file: hit.line.text for hit in marked if hit.line} == line
        assert all(hit.line_by_words == (hit.line is not None) for hit in marked)
    assert garden.ranking.mark_lines(key, "", hits) == hits and garden.ranking.mark_lines(key, "?", []) == []
    known = [replace(hits[0], line=Line("by its vector"))]
    assert garden.ranking.mark_lines(key, "pump valve", known) == known


@pytest.mark.parametrize(
    "question",
    [
        '"',
        "*",
        "NEAR(a b)",
        "-",
        "a AND b OR NOT c",
        "'",
        "\\",
        "a'b\"c",
        "{x}:y",
        "^a",
        "&|!<->",
        "\x00",
        "?",
        "。",
        "%s",
    ],
)
def test_what_a_database_might_take_for_its_own_is_nothing_special(garden: Library, question: str) -> None:
    assert find(garden, question) in ([], ["tulips.pdf"], ["pump.png"], ["pump.png", "tulips.pdf"])
    assert find(garden, f"{question} tulips {question}")[0] == "tulips.pdf"


def test_a_question_of_any_length_is_answered(garden: Library) -> None:
    words = " ".join(f"word{number}" for number in range(200))
    assert find(garden, f"{words} tulips"[:2000]) == [] and find(garden, f"tulips {words}"[:2000])[0] == "tulips.pdf"


def test_filters_hold(garden: Library) -> None:
    question = "pump valve price tulips"
    assert set(find(garden, question)) == {"pump.png", "lists/prices.png", "tulips.pdf"}
    assert find(garden, question, types=("pdf",)) == ["tulips.pdf"]
    assert find(garden, question, folder="lists") == ["lists/prices.png"]
    assert set(find(garden, question, files=("pump.png", "photo.png"))) == {"pump.png"}
    assert find(garden, question, added_after=4e9) == []
    with pytest.raises(BadValueError, match=r"no file 'other\.png'"):
        find(garden, question, files=("other.png",))


def test_only_the_collection_s_own_pages_are_found(garden: Library) -> None:
    add(garden, new("elsewhere.png", lines=lines(PUMP)), "other")
    settle(garden)
    assert find(garden, "valve") == ["pump.png"] and find(garden, "valve", "other") == ["elsewhere.png"]
    assert garden.ranking.search_words(ABSENT, "valve", 8) == []
    with pytest.raises(CollectionGoneError):
        garden.ranking.search_words(UNKNOWN, "valve", 8)


def test_changes_of_pages_are_changes_of_what_is_found(garden: Library) -> None:
    page = garden.ranking.search_words(at(garden), "valve", 1)[0].page.id
    other = made(garden, "other")
    assert garden.move_pages(at(garden), [page], other) == [page]
    assert find(garden, "valve") == [] and find(garden, "valve", "other") == ["pump.png"]
    assert garden.rename_files(other, {"sha of pump.png": "new.png"}) == 1
    assert find(garden, "valve", "other") == ["new.png"]
    assert garden.delete_pages(other, [page]) == [page] and find(garden, "valve", "other") == []
    again = add(garden, new("again.png", lines=lines(TULIPS)), "other")
    settle(garden)
    assert find(garden, "valve", "other") == [] and find(garden, "tulips", "other") == ["again.png"]
    assert garden.delete_collection(other) == 1
    until(lambda: count_indexed(garden, again) == 0, 20)


def count_indexed(library: Library, page: str) -> int:
    return int(library.database.fetch_one("SELECT count(*) FROM word_pages WHERE page = ?", [page])[0])


def test_a_long_page_is_behind_a_short_one_with_the_same_words(library: Library) -> None:
    add(library, new("long.png", lines=lines(*(f"{PUMP} line{n} other{n} words{n}" for n in range(40)))))
    add(library, new("short.png", lines=lines(PUMP)))
    library.begin_indexing()
    settle(library)
    assert find(library, "pump valve") == ["short.png", "long.png"]


def test_pages_of_an_older_release_are_indexed_in_the_background(
    garden: Library, store: LibraryOpener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forget_words(garden)
    assert find(garden, "valve") == []
    add(garden, new("later.png", lines=lines(PUMP)))
    settle_one(garden, "later.png")
    assert find(garden, "valve") == ["later.png"]
    garden.close()
    with caplog.at_level(logging.INFO):
        library = store.open(tmp_path)
        library.begin_indexing()
        settle(library)
        until(lambda: "the words of 4 pages are indexed" in caplog.text, 20)
    assert set(find(library, "valve")) == {"later.png", "pump.png"}


def settle_one(library: Library, file: str) -> None:
    indexed = "SELECT count(*) FROM word_pages w JOIN pages p ON p.id = w.page WHERE p.file = ?"
    until(lambda: library.database.fetch_one(indexed, [file])[0] == 1, 20)


def test_without_a_thread_pages_wait_for_the_next_one(library: Library) -> None:
    add(library, new("pump.png", lines=lines(PUMP)))
    assert find(library, "valve") == []
    library.begin_indexing()
    settle(library)
    assert find(library, "valve") == ["pump.png"]


def test_what_cannot_be_indexed_now_is_later(
    garden: Library, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(word_index, "RETRY_S", 0.05)
    forget_words(garden)
    garden.database.close()
    garden.words.begin_indexing()
    until(lambda: "indexed later" in caplog.text, 20)
    garden.database.open()
    until(lambda: find(garden, "valve") == ["pump.png"], 20)


def test_a_page_that_goes_while_it_is_indexed_is_left_out(garden: Library) -> None:
    garden.words.note_pages(["0123456789abcdef"])
    add(garden, new("later.png", lines=lines(PUMP)))
    settle(garden)
    assert count_indexed(garden, "0123456789abcdef") == 0


def test_a_shared_store_indexes_what_others_have_added(
    garden: Library, store: LibraryOpener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command adds pages without a thread of its own, on another machine."""
    if store.server is None:
        pytest.skip("one process has the folder")
    garden.close()
    monkeypatch.setattr(word_index, "LOOK_S", 0.05)
    garden.open()
    garden.begin_indexing()
    other = store.open_beside(tmp_path / "other", tmp_path)
    for number in range(3):
        add(other, new(f"{number}.png", lines=lines(PUMP)))
        settle(garden)
    assert set(find(garden, "valve")) == {"pump.png", "0.png", "1.png", "2.png"}


def test_two_machines_that_index_the_same_pages_do_so_once(
    garden: Library, store: LibraryOpener, tmp_path: Path
) -> None:
    if store.server is None:
        pytest.skip("one process has the folder")
    for number in range(60):
        add(garden, new(f"{number}.png", lines=lines(PUMP)))
    other = store.open_beside(tmp_path / "other", tmp_path)
    forget_words(garden)
    garden.begin_indexing()
    other.begin_indexing()
    settle(garden)
    assert len(find(other, "valve")) == 8


@pytest.mark.soak
def test_kills_in_the_middle_leave_whole_pages(store: LibraryOpener, tmp_path: Path) -> None:
    """kill -9 while pages are indexed: what is left is indexed by the next start, and each page is found once."""
    library = store.open(tmp_path)
    for number in range(300):
        add(library, new(f"{number}.png", lines=lines(f"{PUMP} number{number}")))
    library.close()
    for _ in range(4):
        command = [sys.executable, "-c", INDEX, str(tmp_path), store.locate(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None and child.stdout.readline() == "indexed\n"
            child.kill()
    library = store.open(tmp_path)
    library.begin_indexing()
    settle(library)
    assert [find(library, f"number{number}")[0] for number in range(0, 300, 30)] == [
        f"{number}.png" for number in range(0, 300, 30)
    ]
    assert library.database.fetch_one("SELECT count(*) FROM word_pages")[0] == 300


INDEX = """
import sys, time
from pathlib import Path
from serving.library import word_index
from serving.library.library import Library
word_index.BATCH = 1
library = Library(Path(sys.argv[1]), address=sys.argv[2])
count = lambda: library.database.fetch_one("SELECT count(*) FROM word_pages")[0]
before = count()
library.begin_indexing()
while count() < before + 20:
    time.sleep(0.001)
print("indexed", flush=True)
time.sleep(60)
"""

DAMAGE = [
    "UPDATE words_data SET block = x'00ff00ff00ff' WHERE id > 10",
    "UPDATE words_data SET block = zeroblob(400)",
    "DELETE FROM words_data",
    "DELETE FROM words_config",
    "DROP TABLE words_data",
    "DROP TABLE words_idx",
    "DROP TABLE words_config",
]


class TestDamage:
    """The embedded database's: a server keeps its indexes itself."""

    @pytest.fixture
    def damaged(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Library]:
        library = Library(tmp_path)
        for number in range(40):
            add(library, new(f"{number}.png", lines=lines(f"{PUMP} number{number}")))
        library.begin_indexing()
        settle(library)
        library.close()
        with closing(sqlite3.connect(tmp_path / "library.db", isolation_level=None)) as db:
            db.execute(request.param)
        library = Library(tmp_path)
        yield library
        library.close()

    @pytest.mark.parametrize("damaged", [DAMAGE[0], *DAMAGE[2:]], indirect=True)
    def test_it_is_made_again_and_the_search_goes_on(self, damaged: Library) -> None:
        damaged.begin_indexing()
        until(lambda: find(damaged, "number17")[:1] == ["17.png"], 20)
        assert damaged.database.fetch_one("PRAGMA integrity_check") == ("ok",)

    @pytest.mark.parametrize("damaged", DAMAGE[1:], indirect=True)
    def test_pages_are_added_all_the_same(self, damaged: Library) -> None:
        damaged.begin_indexing()
        add(damaged, new("new.png", lines=lines(TULIPS)))
        assert damaged.catalogue.find_collection("c").pages == 41
        until(lambda: find(damaged, "tulips") == ["new.png"] and len(find(damaged, "pump valve")) == 8, 20)

    @pytest.mark.parametrize("damaged", DAMAGE[2:4], indirect=True)
    def test_where_nothing_may_be_changed_nothing_is_found(self, damaged: Library) -> None:
        assert find(damaged, "valve") == [] and find(damaged, "valve") == []

    @pytest.mark.parametrize("damaged", ["SELECT 1"], indirect=True)
    def test_words_of_pages_that_are_gone_are_dropped_in_the_end(
        self, damaged: Library, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(word_index, "WASTE", 10)
        files = [file.sha256 for file in damaged.catalogue.list_files(at(damaged))]
        damaged.delete_pages(at(damaged), damaged.catalogue.list_file_pages(at(damaged), files[1:]))
        stale = "SELECT doc FROM word_counts WHERE term = '_valve'"
        assert damaged.database.fetch_one(stale) == (40,)
        damaged.begin_indexing()
        until(lambda: damaged.database.fetch_one(stale) == (1,), 20)
        assert find(damaged, "valve") == ["0.png"]
