"""A database that somebody else holds, that is full, or that is not whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.library import database
from serving.library.database import LibraryError
from serving.library.library import Library
from serving.library.records import Selection
from tests.support.libraries import add, at, held, new
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
    monkeypatch.setattr(database, "BUSY_S", 0.05)
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
    monkeypatch.setattr(database, "BUSY_S", 0.05)
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
