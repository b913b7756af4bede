"""A database that somebody else holds, that is full or not whole, or that an older release wrote."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.library import sqlite_database
from serving.library.catalogue import KEY
from serving.library.database import LibraryError
from serving.library.jobs import JobPage, JobRow
from serving.library.library import Library
from serving.library.records import CollectionKey, Selection
from tests.support.libraries import UNKNOWN, add, at, held, new
from tests.support.scripted import unit


def changes(library: Library, page: str) -> list[Callable[[], object]]:
    """Everything that writes."""
    return [
        lambda: add(library, new("b.png")),
        lambda: library.delete_pages(at(library), [page]),
        lambda: library.delete_file(at(library), "sha of a.png"),
        lambda: library.delete_collection(at(library)),
        lambda: library.create_collection("d"),
        lambda: library.rename_collection(at(library), "d"),
        lambda: library.move_pages(at(library), [page], at(library, "other")),
    ]


def whole(library: Library, page: str) -> None:
    """Nothing was lost, and nothing half done is left."""
    assert [(found.name, found.pages) for found in library.catalogue.list_collections()] == [("c", 1), ("other", 0)]
    assert [hit.page.id for hit in library.ranking.search(at(library), unit("a.png 1", 64), 9, "f1")] == [page]
    assert {path.name.partition(".")[0] for path in library.pictures.folder.iterdir()} == {page}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    monkeypatch.setattr(sqlite_database, "BUSY_S", 0.05)
    library = Library(tmp_path / "data")
    library.create_collection("other")
    yield library
    library.close()


def test_held_by_another_program_is_told_and_nothing_is_lost(library: Library) -> None:
    page = add(library, new("a.png"))
    with held(library.folder / "library.db"):
        for change in changes(library, page):
            with pytest.raises(LibraryError, match="another program holds") as caught:
                change()
            assert caught.value.code == "locked"
        whole(library, page)  # who only reads does not notice
    second = add(library, new("b.png"))
    assert library.delete_pages(at(library), [page, second]) == [page, second]


def test_held_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_database, "BUSY_S", 0.05)
    library = Library(tmp_path)
    page = add(library, new())
    library.close()
    path = tmp_path / "library.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = DELETE")  # as a copy has it: who writes keeps readers out too
    db.close()
    with held(path), pytest.raises(LibraryError, match="database is locked"):
        Library(tmp_path)
    library = Library(tmp_path)
    assert library.catalogue.read_page(page).file == "a.png"
    library.close()


def test_full_database_is_told_and_nothing_is_lost(library: Library) -> None:
    """SQLite ends the transaction by itself; the next one begins all the same."""
    page = add(library, new("a.png"))
    library.database.connection.execute(
        f"PRAGMA max_page_count = {library.database.connection.execute('PRAGMA page_count').fetchone()[0]}"
    )
    large = tuple(new().lines or ()) * 500
    for _ in range(2):
        with pytest.raises(LibraryError, match="the disk is full") as caught:
            add(library, new("b.png", lines=large))
        assert caught.value.code == "disk_full" and not library.database.connection.in_transaction
    whole(library, page)
    library.database.connection.execute("PRAGMA max_page_count = 100000")
    assert add(library, new("b.png", lines=large)) and library.catalogue.find_collection("c").pages == 2


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_truncated_is_refused_and_left_as_it_is(tmp_path: Path, share: float) -> None:
    library = Library(tmp_path)
    for number in range(40):
        add(library, new("a.pdf", number))
    library.close()
    path = tmp_path / "library.db"
    data = path.read_bytes()
    cut = data[: int(len(data) * share)]
    path.write_bytes(cut)
    pictures = len(list(library.pictures.folder.iterdir()))
    with pytest.raises(LibraryError, match="damaged"):
        Library(tmp_path)
    assert path.read_bytes() == cut and len(list(library.pictures.folder.iterdir())) == pictures
    path.write_bytes(data)  # and the lock was given back
    library = Library(tmp_path)
    assert library.catalogue.find_collection("c").pages == 40
    library.close()


def test_damaged_in_the_middle_is_told_by_who_meets_it(tmp_path: Path) -> None:
    library = Library(tmp_path)
    ids = [add(library, new("a.pdf", number)) for number in range(200)]
    library.close()
    path = tmp_path / "library.db"
    data = path.read_bytes()
    path.write_bytes(data[: 4096 * 2] + b"\xff" * (len(data) - 4096 * 2))
    pictures = len(list(library.pictures.folder.iterdir()))

    def use() -> None:
        damaged = Library(tmp_path)
        try:
            for read in (
                lambda: damaged.ranking.search(at(damaged), unit("a", 64), 5, "f1", Selection()),
                lambda: damaged.catalogue.list_files(at(damaged)),
                lambda: [damaged.catalogue.read_lines(page) for page in ids],
            ):
                read()
        finally:
            damaged.close()

    with pytest.raises(LibraryError, match="damaged"):
        use()
    assert len(list(library.pictures.folder.iterdir())) == pictures


OLD_PAGES = """
CREATE TABLE pages (
  id TEXT PRIMARY KEY, collection INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
  file TEXT NOT NULL, sha256 TEXT NOT NULL, page INTEGER NOT NULL, pages INTEGER NOT NULL,
  width INTEGER NOT NULL, height INTEGER NOT NULL, added REAL NOT NULL, read INTEGER NOT NULL,
  UNIQUE (collection, sha256, page)
);
CREATE TABLE lines (
  page TEXT NOT NULL REFERENCES pages(id) ON DELETE CASCADE, number INTEGER NOT NULL, text TEXT NOT NULL,
  x0 REAL, y0 REAL, x1 REAL, y1 REAL, PRIMARY KEY (page, number)
) WITHOUT ROWID;
CREATE TABLE vectors (
  page TEXT PRIMARY KEY REFERENCES pages(id) ON DELETE CASCADE, vector BLOB NOT NULL, lines BLOB
);
"""
"""The tables of pages in the first two releases."""
OLD = f"""
CREATE TABLE collections (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created REAL NOT NULL,
  fingerprint TEXT, model TEXT, dimension INTEGER
);
{OLD_PAGES}PRAGMA user_version = 1;
"""
"""The schema of the first release."""


SECOND = f"""
CREATE TABLE collections (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, owner TEXT NOT NULL DEFAULT '', name TEXT NOT NULL,
  created REAL NOT NULL, fingerprint TEXT, model TEXT, dimension INTEGER, UNIQUE (owner, name)
);
{OLD_PAGES}PRAGMA user_version = 2;
"""
"""The schema of the second release, as it lies in people's data folders."""


def old_library(folder: Path) -> bytes:
    path = folder / "library.db"
    db = sqlite3.connect(path)
    db.executescript(OLD)
    db.execute("INSERT INTO collections VALUES (7, 'house', 1.5, 'f1', 'm', 64)")
    db.execute("INSERT INTO collections VALUES (9, 'empty', 2.5, NULL, NULL, NULL)")
    db.execute("INSERT INTO pages VALUES (?, 7, 'a.png', 'sha', 1, 1, 10, 20, 0, 1)", ["0" * 16])
    db.execute("INSERT INTO vectors VALUES (?, ?, NULL)", ["0" * 16, unit("a", 64).astype("float16").tobytes()])
    db.execute("INSERT INTO lines VALUES (?, 0, 'words', 0, 0, 1, 1)", ["0" * 16])
    db.commit()
    db.close()
    return path.read_bytes()


def test_data_folder_of_the_second_release_opens(tmp_path: Path) -> None:
    """Written without our code: a change of the schema has to be a new version, with a step from this one."""
    key, page_id, image = CollectionKey("c-" + 32 * "a"), "0" * 16, b"jpeg"
    db = sqlite3.connect(tmp_path / "library.db")
    db.executescript(SECOND)
    db.execute("INSERT INTO collections VALUES (7, ?, '', 'house', 1.5, 'f1', 'm', 64)", [key])
    db.execute("INSERT INTO collections VALUES (9, ?, 'somebody', 'house', 9e9, NULL, NULL, NULL)", [UNKNOWN])
    db.execute("INSERT INTO pages VALUES (?, 7, 'a.png', 'sha', 1, 1, 10, 20, 0, 1)", [page_id])
    vectors = [unit(text, 64).astype("float16").tobytes() for text in ("a", "words")]
    db.execute("INSERT INTO vectors VALUES (?, ?, ?)", [page_id, *vectors])
    db.execute("INSERT INTO lines VALUES (?, 0, 'words', 0, 0, 1, 1)", [page_id])
    db.commit()
    db.close()
    (tmp_path / "pages").mkdir()
    for kind in ("jpg", "webp"):
        (tmp_path / "pages" / f"{page_id}.{kind}").write_bytes(image)
    library = Library(tmp_path)
    assert (
        library.catalogue.find_collection("house").key == key
        and library.catalogue.find_collection("house", "somebody").key == UNKNOWN
    )
    (hit,) = library.ranking.search(key, unit("words", 64), 1, "f1")
    assert (hit.page.id, hit.page.file, hit.page.read) == (page_id, "a.png", True)
    assert hit.line is not None and (hit.line.text, hit.line.box) == ("words", (0, 0, 1, 1))
    assert (
        library.pictures.locate_picture(page_id).read_bytes()
        == library.pictures.locate_thumbnail(page_id).read_bytes()
        == image
    )
    job = JobRow("1" * 32, key, "", "local", "waiting", "", 0, 1.0, 0, 0)
    library.jobs.create(job)
    library.add_page(key, new("b.png"), fingerprint="f1", model="m", job=JobPage(job.id, 1.5))
    assert [len(row.pages) for row in library.jobs.list_all()] == [1]
    library.jobs.delete([job.id])
    library.close()
    assert [path.name for path in tmp_path.glob("library-schema-*")] == ["library-schema-2.db"]
    again = Library(tmp_path)
    assert again.catalogue.read_collection(key).pages == 2 and again.jobs.list_all() == []
    again.close()


def test_older_database_is_brought_up_and_a_copy_is_kept(tmp_path: Path) -> None:
    old_library(tmp_path)
    library = Library(tmp_path)
    assert [(found.name, found.pages) for found in library.catalogue.list_collections()] == [("empty", 0), ("house", 1)]
    key = library.catalogue.find_collection("house").key
    assert re.fullmatch(KEY, key) and key != library.catalogue.find_collection("empty").key
    assert library.ranking.search(key, unit("a", 64), 1, "f1")[0].page.id == "0" * 16
    add(library, new("b.png"), "house")
    library.delete_collection(at(library, "house"))
    assert library.catalogue.read_lines("0" * 16) == (), "rows still go with their page"
    library.close()
    copy = sqlite3.connect(tmp_path / "library-schema-1.db")
    assert copy.execute("PRAGMA user_version").fetchone() == (1,)
    assert copy.execute("SELECT name FROM collections ORDER BY id").fetchall() == [("house",), ("empty",)]
    copy.close()
    Library(tmp_path).close()
    assert not list(tmp_path.glob("*.part"))


def test_older_database_stays_as_it_is_where_it_cannot_be_brought_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_library(tmp_path)

    def dump() -> str:
        db = sqlite3.connect(tmp_path / "library.db")
        text = "\n".join(db.iterdump()) + str(db.execute("PRAGMA user_version").fetchone())
        db.close()
        return text

    before = dump()
    monkeypatch.setitem(sqlite_database.MIGRATIONS, 1, sqlite_database.MIGRATIONS[1] + "SELECT no_such_function();")
    with pytest.raises(LibraryError, match="no_such_function"):
        Library(tmp_path)
    assert dump() == before
    monkeypatch.undo()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sqlite_database, "copy_database", full)
    with pytest.raises(LibraryError, match="no copy of it could be kept: No space left"):
        Library(tmp_path)
    assert dump() == before
    monkeypatch.undo()
    Library(tmp_path).close()
