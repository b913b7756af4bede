"""Collections by key and by name: made, renamed, emptied into one another; and databases of older releases."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from serving.errors import BadValueError, NotFoundError
from serving.library import database
from serving.library.catalogue import KEY, CollectionGoneError, FingerprintError
from serving.library.database import LibraryError
from serving.library.library import Library
from serving.library.records import ABSENT, CollectionKey
from tests.support.libraries import UNKNOWN, add, at, new
from tests.support.scripted import unit

OLD = """
CREATE TABLE collections (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created REAL NOT NULL,
  fingerprint TEXT, model TEXT, dimension INTEGER
);
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
PRAGMA user_version = 1;
"""
"""The schema of the first release."""
TODAY = """
CREATE TABLE collections (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, owner TEXT NOT NULL DEFAULT '', name TEXT NOT NULL,
  created REAL NOT NULL, fingerprint TEXT, model TEXT, dimension INTEGER, UNIQUE (owner, name)
);
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
PRAGMA user_version = 2;
"""
"""The schema of today, as it lies in people's data folders."""


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


def test_key_reaches_what_a_name_does_and_is_not_guessed(library: Library) -> None:
    page = add(library, new("a.png"), "house")
    found = library.catalogue.find_collection("house")
    assert KEY.fullmatch(found.key) and library.catalogue.read_collection(found.key) == found
    assert [hit.page.id for hit in library.ranking.search(found.key, unit("a.png 1", 64), 3, "f1")] == [page]
    assert (
        library.add_page(found.key, new("b.png"), fingerprint="f1", model="m")
        and library.catalogue.find_collection("house").pages == 2
    )
    assert library.catalogue.find_pages(found.key, "sha of a.png") == {1: "a.png"}
    assert len(library.catalogue.list_files(found.key)) == 2
    assert len({library.create_collection(f"n{number}").key for number in range(50)}) == 50


def test_unknown_key_is_not_found_and_makes_nothing(library: Library) -> None:
    house = library.create_collection("house").key
    library.add_page(house, new(), fingerprint="f1", model="m")
    vector = unit("q", 64)
    for call in (
        lambda: library.catalogue.read_collection(UNKNOWN),
        lambda: library.catalogue.list_files(UNKNOWN),
        lambda: library.catalogue.find_pages(UNKNOWN, "x"),
        lambda: library.ranking.search(UNKNOWN, vector, 3, "f1"),
        lambda: library.catalogue.read_vector(UNKNOWN, "x"),
        lambda: library.delete_pages(UNKNOWN, ["x"]),
        lambda: library.delete_file(UNKNOWN, "x"),
        lambda: library.delete_collection(UNKNOWN),
        lambda: library.rename_collection(UNKNOWN, "mine"),
        lambda: library.move_pages(house, [], UNKNOWN),
        lambda: library.move_pages(UNKNOWN, [], house),
        lambda: library.add_page(UNKNOWN, new("b.png"), fingerprint="f1", model="m"),
        lambda: library.add_page(ABSENT, new("b.png"), fingerprint="f1", model="m"),
        lambda: library.rename_collection(ABSENT, "mine"),
        lambda: library.move_pages(house, [], ABSENT),
    ):
        with pytest.raises(CollectionGoneError, match="no such collection"):
            call()
    assert [found.name for found in library.catalogue.list_collections()] == ["house"]
    assert len(list(library.pictures.folder.iterdir())) == 2


def test_names_belong_to_their_owner(library: Library) -> None:
    mine, yours = library.create_collection("house", "me"), library.create_collection("house", "you")
    library.add_page(mine.key, new(), fingerprint="f1", model="m")
    assert (
        library.catalogue.find_collection("house", "me").pages == 1
        and library.catalogue.find_collection("house", "you").pages == 0
    )
    assert library.catalogue.find_collection("house").key == "" and library.catalogue.list_collections() == []
    assert (
        library.catalogue.list_collections("you") == [yours]
        and library.catalogue.find_latest_name("me") == "house"
        and library.catalogue.find_latest_name() is None
    )


def test_create_and_rename(library: Library) -> None:
    library.create_collection("  a  b ")
    key = library.catalogue.find_collection("a b").key
    library.create_collection("c")
    for call in (lambda: library.create_collection("a b"), lambda: library.rename_collection(key, "c")):
        with pytest.raises(BadValueError, match="already"):
            call()
    for name in ("", "x" * 81, "a\u202eb", UNKNOWN, None):
        for call in (lambda: library.create_collection(name), lambda: library.rename_collection(key, name)):  # type: ignore[arg-type] # noqa: B023
            with pytest.raises(BadValueError, match="1 to 80 printable"):
                call()
    assert library.rename_collection(key, "d").name == "d" and library.catalogue.read_collection(key).name == "d"
    with pytest.raises(NotFoundError):
        library.rename_collection(at(library, "a b"), "e")


def test_moved_pages_are_found_where_they_are_now(library: Library) -> None:
    ids = [add(library, new("a.pdf", page), "from") for page in (1, 2, 3)]
    twin = add(library, new("a.pdf", 2), "to")
    (
        library.ranking.search(at(library, "from"), unit("q", 64), 3, "f1"),
        library.ranking.search(at(library, "to"), unit("q", 64), 3, "f1"),
    )
    assert library.move_pages(at(library, "from"), [*ids, "no such id", ids[0]], at(library, "to")) == [ids[0], ids[2]]
    assert [hit.page.id for hit in library.ranking.search(at(library, "from"), unit("q", 64), 9, "f1")] == [ids[1]]
    assert {hit.page.id for hit in library.ranking.search(at(library, "to"), unit("q", 64), 9, "f1")} == {
        ids[0],
        ids[2],
        twin,
    }
    assert library.pictures.locate_picture(ids[0]).is_file() and library.catalogue.read_lines(ids[0])
    assert library.move_pages(at(library, "to"), [twin], at(library, "to")) == []
    library.create_collection("empty")
    assert (
        library.move_pages(at(library, "to"), [twin], at(library, "empty")) == [twin]
        and library.catalogue.find_collection("empty").fingerprint == "f1"
    )
    add(library, new("b.png"), "other", "f2")
    with pytest.raises(FingerprintError):
        library.move_pages(at(library, "to"), [ids[0]], at(library, "other"))
    assert library.move_pages(at(library, "from"), [twin], at(library, "to")) == []  # a page of a third collection


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


def test_data_folder_of_today_opens_as_it_is(tmp_path: Path) -> None:
    """Written without our code: a change of the schema has to be a new version, with a step from this one."""
    key, page_id, image = CollectionKey("c-" + 32 * "a"), "0" * 16, b"jpeg"
    db = sqlite3.connect(tmp_path / "library.db")
    db.executescript(TODAY)
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
    library.add_page(key, new("b.png"), fingerprint="f1", model="m")
    library.close()
    assert not list(tmp_path.glob("library-schema-*"))
    again = Library(tmp_path)
    assert again.catalogue.read_collection(key).pages == 2
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
    monkeypatch.setitem(database.MIGRATIONS, 1, database.MIGRATIONS[1] + "SELECT no_such_function();")
    with pytest.raises(LibraryError, match="no_such_function"):
        Library(tmp_path)
    assert dump() == before
    monkeypatch.undo()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(database, "copy_database", full)
    with pytest.raises(LibraryError, match="no copy of it could be kept: No space left"):
        Library(tmp_path)
    assert dump() == before
    monkeypatch.undo()
    Library(tmp_path).close()
