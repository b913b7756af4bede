"""Collections that move between data folders and stores: the same pages, ids, keys, owners and vectors, each once."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from serving.documents.page import Line
from serving.errors import NotFoundError, ReadOnlyError, ServingError
from serving.library import copying
from serving.library.catalogue import FingerprintError
from serving.library.copying import CollectionCopy, CopyResult, CopySource, ListedPage, check_destination, copy_proofs
from serving.library.database import IN_USE, LibraryError
from serving.library.fingerprints import FolderProofs
from serving.library.jobs import JobRow
from serving.library.library import Library
from serving.library.records import CollectionKey
from serving.library.rows import IMPORTING
from serving.library.shared_proofs import SharedProofs
from tests.support.equivalence_proofs import proof
from tests.support.exported_pages import page, state
from tests.support.libraries import add, at, made, new
from tests.support.postgres import PostgresServer
from tests.support.scripted import unit
from tests.support.stores import LibraryOpener, list_pictures

VISITOR = "a" * 32


class Observer:
    """Notes what it is told, and ends the copy after so many pages."""

    def __init__(
        self,
        stop_after: int | None = None,
        then: Callable[[], object] | None = None,
        before: Callable[[], object] | None = None,
    ) -> None:
        """`then` is called after the first batch, `before` between the look at what is missing and that batch."""
        self.seen = self.copied = 0
        self.skipped: list[str] = []
        self._stop_after, self._then, self._before = stop_after, then, before

    def advance(self, seen: int, copied: int = 0) -> None:
        self.seen, self.copied = self.seen + seen, self.copied + copied
        if self._before is not None:
            self._before()
            self._before = None
        if self._then is not None and self.copied:
            self._then()
            self._then = None
        if self._stop_after is not None and self.copied >= self._stop_after:
            raise KeyboardInterrupt

    def skip_page(self, page: ListedPage, reason: str) -> None:
        self.skipped.append(f"{page.file} {page.page}: {reason}")


class Move:
    """A source that is filled as a library and copied from, and a destination."""

    def __init__(self, folder: Path, source: LibraryOpener, target: LibraryOpener) -> None:
        self.folder = folder / "source"
        self._opener, self._target_opener, self._target_folder = source, target, folder / "target"
        self.full = source.open(self.folder)
        self.target = target.open(self._target_folder)

    def open_source(self) -> CopySource:
        self.full.close()
        source = CopySource(self.folder, self._opener.locate(self.folder))
        source.open()
        return source

    def copy(self, names: Sequence[str] = (), observer: Observer | None = None) -> list[CopyResult]:
        source = self.open_source()
        try:
            return copy(source, self.target, names, observer)
        finally:
            source.close()
            self.full = self._opener.open(self.folder)

    def locate_source(self) -> str:
        return self._opener.locate(self.folder)

    def reopen(self) -> None:
        self.target.close()
        self.target = self._target_opener.open(self._target_folder)


def copy(
    source: CopySource, library: Library, names: Sequence[str] = (), observer: Observer | None = None
) -> list[CopyResult]:
    collections, observer = source.list_collections(names), observer or Observer()
    check_destination(source, library, collections)
    copying.wait_for_removals(library, observer)
    copy_proofs(source, library)
    return [CollectionCopy(source, library, one, observer).run() for one in collections]


@pytest.fixture
def on_server(postgres: PostgresServer) -> Iterator[LibraryOpener]:
    opener = LibraryOpener(postgres)
    yield opener
    opener.close()


@pytest.fixture
def in_folder() -> Iterator[LibraryOpener]:
    opener = LibraryOpener(None)
    yield opener
    opener.close()


@pytest.fixture(params=["folder to store", "store to folder", "folder to folder", "store to store"])
def move(request: pytest.FixtureRequest, on_server: LibraryOpener, in_folder: LibraryOpener, tmp_path: Path) -> Move:
    kinds = {"folder": in_folder, "store": on_server}
    source, target = str(request.param).split(" to ")
    return Move(tmp_path, kinds[source], kinds[target])


@pytest.fixture
def out(on_server: LibraryOpener, in_folder: LibraryOpener, tmp_path: Path) -> Move:
    return Move(tmp_path, in_folder, on_server)


@pytest.fixture
def back(on_server: LibraryOpener, in_folder: LibraryOpener, tmp_path: Path) -> Move:
    return Move(tmp_path, on_server, in_folder)


def fill(library: Library) -> CollectionKey:
    for number in range(6):
        library.add_page(made(library, "house"), page(number, number % 2 == 0), fingerprint="f1", model="m")
    return at(library, "house")


def read_rows(library: Library) -> list[object]:
    """All that is kept of pages and collections, in the order in which pages were added."""
    statements = (
        "SELECT key, owner, name, created, fingerprint, model, dimension FROM collections ORDER BY key",
        "SELECT c.key, p.id, p.file, p.sha256, p.page, p.pages, p.width, p.height, p.added, p.original FROM pages p"
        " JOIN collections c ON c.id = p.collection ORDER BY c.key, p.rowid",
        "SELECT page, number, text, x0, y0, x1, y1 FROM lines ORDER BY page, number",
        "SELECT page, vector, lines FROM vectors ORDER BY page",
    )
    return [[tuple(row) for row in library.database.fetch_all(statement)] for statement in statements]


def test_everything_arrives_as_it_was(move: Move) -> None:
    key = fill(move.full)
    visitors = move.full.create_collection("house", VISITOR).key
    move.full.add_page(visitors, new("b.png", lines=None), fingerprint="f2", model="n")
    move.full.add_page(visitors, new("c.png", lines=(), line_vectors=np.empty((0, 64))), fingerprint="f2", model="n")
    move.full.create_collection("empty")
    add(move.full, new("latest.png"), "latest")
    before, hits = read_rows(move.full), state(move.full, key)
    assert [result.copied for result in move.copy()] == [0, 6, 2, 1]
    assert read_rows(move.target) == before == read_rows(move.full)
    assert state(move.target, key) == hits and len(hits) == 6
    assert move.target.catalogue.read_owner(visitors) == VISITOR
    assert move.target.catalogue.find_latest_name() == "latest"
    assert list_pictures(move.target) == list_pictures(move.full) and len(list_pictures(move.full)) == 9
    again = Observer()
    assert {(result.copied, result.skipped) for result in move.copy(observer=again)} == {(0, 0)}
    assert (again.seen, again.copied) == (9, 0)
    move.reopen()
    assert state(move.target, key) == hits and read_rows(move.target) == before


def test_the_source_is_not_changed(in_folder: LibraryOpener, tmp_path: Path) -> None:
    move = Move(tmp_path, in_folder, in_folder)
    fill(move.full)
    unseen = move.full.begin_import()
    source, files = move.open_source(), read_files(move.folder)
    copy(source, move.target)
    source.close()
    assert read_files(move.folder) == files
    db = sqlite3.connect(move.folder / "library.db")
    assert db.execute("SELECT key FROM collections WHERE owner = ?", [IMPORTING]).fetchall() == [(unseen,)]
    db.close()
    assert not move.target.catalogue.has_collection(unseen)


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and "db-" not in path.name}


def test_only_those_that_are_named(move: Move) -> None:
    key = fill(move.full)
    other = move.full.create_collection("other").key
    with pytest.raises(NotFoundError, match="no collection 'none'"):
        move.copy(["house", "none"])
    assert move.target.catalogue.list_collections() == []
    move.copy([other])
    assert move.target.catalogue.has_collection(other) and not move.target.catalogue.has_collection(key)
    move.copy(["house"])
    assert move.target.catalogue.read_collection(key).pages == 6


def test_a_copy_that_ended_goes_on(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    key = fill(move.full)
    monkeypatch.setattr(copying, "BATCH_PAGES", 2)
    monkeypatch.setattr(copying, "LISTED_PAGES", 3)
    with pytest.raises(KeyboardInterrupt):
        move.copy(observer=Observer(stop_after=3))
    assert move.target.catalogue.read_collection(key).pages == 3
    observer = Observer()
    (result,) = move.copy(observer=observer)
    assert (result.copied, result.known, observer.seen, observer.copied) == (3, 3, 6, 3)
    assert read_rows(move.target) == read_rows(move.full)


def test_what_was_added_since_comes_and_what_is_there_stays(move: Move) -> None:
    key = fill(move.full)
    move.copy()
    theirs = move.target.add_page(key, new("theirs.png"), fingerprint="f1", model="m").id
    same = move.target.add_page(key, new("same.png"), fingerprint="f1", model="m").id
    mine = move.full.add_page(key, new("mine.png"), fingerprint="f1", model="m").id
    ours = move.full.add_page(key, new("same.png"), fingerprint="f1", model="m").id
    move.target.rename_collection(key, "renamed there")
    (result,) = move.copy()
    assert (result.copied, result.known, result.skipped) == (1, 7, 0)
    ids = set(move.target.catalogue.list_page_ids(key))
    assert {mine, theirs, same} < ids and ours not in ids and len(ids) == 9
    assert list_pictures(move.target) == ids and move.target.catalogue.read_collection(key).name == "renamed there"


def test_pages_that_are_elsewhere_there_are_left_out_and_told(out: Move) -> None:
    key = fill(out.full)
    out.copy()
    first = out.target.catalogue.list_page_ids(key)[0]
    out.target.move_pages(key, [first], made(out.target, "moved"))
    observer = Observer()
    (result,) = out.copy(observer=observer)
    assert (result.copied, result.known, result.skipped) == (0, 5, 1)
    assert observer.skipped == ["a.pdf 1: it is in the collection 'moved' there"]


def test_pages_without_their_picture_are_left_out_and_told(out: Move) -> None:
    key = fill(out.full)
    first = out.full.catalogue.list_page_ids(key)[0]
    out.full.pictures.remove_pages([first])
    observer = Observer()
    (result,) = out.copy(observer=observer)
    assert (result.copied, result.skipped, observer.seen) == (5, 1, 6)
    assert observer.skipped == ["a.pdf 1: its picture is missing"]


def test_another_collection_of_the_name_is_an_error_before_anything(move: Move) -> None:
    fill(move.full)
    other = add(move.full, new("a.png"), "other")
    taken = move.target.create_collection("house")
    with pytest.raises(LibraryError, match=r"another collection of the name 'house'.*Rename or delete") as refused:
        move.copy()
    assert refused.value.code == "name_in_use" and taken.key in refused.value.message
    assert move.target.catalogue.read_pages([other]) == {}
    move.copy(["other"])
    assert set(move.target.catalogue.read_pages([other])) == {other}
    move.target.rename_collection(taken.key, "another")
    move.copy()
    assert move.target.catalogue.find_collection("house").pages == 6


def test_vectors_of_two_embedders_do_not_meet(out: Move) -> None:
    key = out.full.create_collection("c").key
    out.copy()
    ours = out.full.add_page(key, new("a.png"), fingerprint="f1", model="m").id
    theirs = out.target.add_page(key, new("b.png"), fingerprint="f2", model="n").id
    with pytest.raises(FingerprintError, match=r"another embedder at the destination \(f2, here f1\): delete it there"):
        out.copy()
    FolderProofs(out.folder).add(proof("f1", "f2"))
    out.copy()
    assert set(out.target.catalogue.list_page_ids(key)) == {ours, theirs}
    assert out.target.catalogue.read_collection(key).fingerprint == "f2"


def test_a_collection_that_had_no_page_gets_the_embedder(move: Move) -> None:
    key = move.full.create_collection("c").key
    move.copy()
    move.full.add_page(key, new("a.png"), fingerprint="f1", model="m")
    move.copy()
    assert read_rows(move.target) == read_rows(move.full)


def test_proofs_come_along_and_none_is_replaced(out: Move) -> None:
    FolderProofs(out.folder).add(proof("f1", "f2"))
    out.copy()
    shared = SharedProofs(out.target.database)
    assert shared.read() == [proof("f1", "f2")] and out.target.catalogue.are_comparable("f2", "f1")
    own = proof("f2", "f1").model_copy(update={"measured": "earlier"})
    shared.add(own)
    FolderProofs(out.folder).add(proof("f2", "f3"))
    source = out.open_source()
    assert copy_proofs(source, out.target) == 1 and own in shared.read()
    source.close()


def test_original_files_come_to_a_folder_and_a_store_says_how_many_stay(
    in_folder: LibraryOpener, on_server: LibraryOpener, tmp_path: Path
) -> None:
    pdf = b"%PDF-1.7 the content"
    sha256 = hashlib.sha256(pdf).hexdigest()
    (tmp_path / "a.pdf").write_bytes(pdf)
    move = Move(tmp_path, in_folder, in_folder)
    pages = [add(move.full, new("a.pdf", n, sha256=sha256, original=tmp_path / "a.pdf")) for n in (1, 2)]
    imported = move.full.add_page(made(move.full, "d"), new("a.pdf", sha256=sha256), fingerprint="f1", model="m").id
    assert [result.originals for result in move.copy()] == [0, 0]
    found = move.target.find_original(pages[1])
    assert found is not None and found[0].original == "pdf" and found[1].read_bytes() == pdf
    assert found[1].is_relative_to(move.target.folder) and move.target.find_original(imported) is None
    assert read_rows(move.target) == read_rows(move.full)
    server = Move(tmp_path / "server", in_folder, on_server)
    server.folder = move.folder
    move.full.close()
    assert [result.originals for result in server.copy()] == [1, 0]
    assert server.target.find_original(pages[1]) is None


def test_unfinished_jobs_are_counted(out: Move) -> None:
    key = fill(out.full)
    for number in range(2):
        out.full.jobs.create(JobRow(f"{number}" * 32, key, "", "local", "waiting", "", 0, 1.0, 0, 0))
    out.full.jobs.end("0" * 32, "done", "", 0.0, [])
    assert [result.jobs for result in out.copy()] == [1]
    assert out.target.jobs.list_all() == []


def test_what_was_deleted_there_comes_back_once_it_is_gone(out: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    key = fill(out.full)
    out.copy()
    with monkeypatch.context() as patch:
        patch.setattr("serving.library.removal.CollectionRemover.remove", lambda *_: None)  # as one that was killed
        out.target.delete_collection(key)
        patch.setattr(copying, "REMOVAL_S", 0.3)
        with pytest.raises(LibraryError, match="still being removed"):
            out.copy()
    out.reopen()
    out.copy()
    assert out.target.catalogue.read_collection(key).pages == 6 and list_pictures(out.target) == list_pictures(out.full)


def test_a_page_that_is_another_at_the_destination_is_told(out: Move) -> None:
    key = fill(out.full)
    first = out.full.catalogue.list_page_ids(key)[0]

    def spoil() -> None:
        with out.target.database.transaction() as db:
            db.execute("UPDATE vectors SET vector = ? WHERE page = ?", [unit("other", 64).astype(np.float16), first])

    with pytest.raises(
        LibraryError, match=f"1 of 6 pages of 'house' are missing .* the first is {first}: run it again"
    ):
        out.copy(observer=Observer(then=spoil))


def test_a_picture_that_is_another_at_the_destination_is_told(out: Move) -> None:
    fill(out.full)

    def spoil() -> None:
        with out.target.database.transaction() as db:
            db.execute("UPDATE pictures SET picture = ?", [b"other"])

    with pytest.raises(LibraryError, match="1 of 6 pages"):
        out.copy(observer=Observer(then=spoil))


def test_of_two_copies_at_once_one_ends_and_nothing_is_there_twice(
    out: Move, on_server: LibraryOpener, tmp_path: Path
) -> None:
    key = fill(out.full)
    other = on_server.open_beside(tmp_path / "beside", tmp_path / "target")
    source = out.open_source()
    with pytest.raises(LibraryError, match="somebody else adds the same at the destination"):
        copy(source, out.target, observer=Observer(before=lambda: copy(source, other)))
    (result,) = copy(source, out.target)
    source.close()
    assert (result.copied, result.known) == (0, 6) and len(list_pictures(out.target)) == 6
    assert out.target.catalogue.read_collection(key).pages == 6


def test_what_is_deleted_meanwhile_is_no_fault(back: Move) -> None:
    key = fill(back.full)
    gone = back.full.catalogue.list_page_ids(key)[2]
    empty = back.full.create_collection("empty").key
    source = CopySource(Path(), back.locate_source())
    source.open()

    def delete() -> None:
        back.full.delete_pages(key, [gone])
        back.full.delete_collection(empty)

    house, other = source.list_collections(["house"])[0], source.list_collections([empty])[0]
    result = CollectionCopy(source, back.target, house, Observer(before=delete)).run()
    assert (result.copied, result.skipped) == (5, 0)
    CollectionCopy(source, back.target, other, Observer()).run()
    source.close()
    assert read_rows(back.target) == read_rows(back.full)


def test_a_collection_that_is_filled_meanwhile_is_found_there(back: Move) -> None:
    key = back.full.create_collection("late").key
    source = CopySource(Path(), back.locate_source())
    source.open()
    (late,) = source.list_collections()
    (stored,) = back.full.add_pages(key, [page(1, True)], fingerprint="f1", model="m")
    CollectionCopy(source, back.target, late, Observer()).run()
    assert read_rows(back.target) == read_rows(back.full) and state(back.target, key) == state(back.full, key)
    with back.target.database.transaction() as db:  # as an earlier release has left it
        db.execute("UPDATE collections SET fingerprint = NULL, model = NULL, dimension = NULL")
    result = CollectionCopy(source, back.target, source.list_collections()[0], Observer()).run()
    assert (result.copied, result.known) == (0, 1) and read_rows(back.target) == read_rows(back.full)
    source.close()
    assert back.target.catalogue.list_page_ids(key) == [stored.id]


def test_a_collection_that_is_deleted_meanwhile_is_told(back: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.library.copying.BATCH_PAGES", 2)
    key = fill(back.full)
    source = CopySource(Path(), back.locate_source())
    source.open()
    (house,) = source.list_collections()
    with pytest.raises(LibraryError, match="'house' was deleted at the source meanwhile: 2 pages of it"):
        CollectionCopy(source, back.target, house, Observer(then=lambda: back.full.delete_collection(key))).run()
    source.close()
    assert len(back.target.catalogue.list_page_ids(key)) == 2


# Places that refuse


def test_who_may_only_read_at_the_destination_copies_nothing(
    out: Move, on_server: LibraryOpener, postgres: PostgresServer, tmp_path: Path
) -> None:
    fill(out.full)
    schema = next(iter(on_server.schemas.values()))
    reader = Library(tmp_path / "reader", address=postgres.create_reader(schema))
    source = out.open_source()
    for read_only in (True, False):  # what the server refuses is told as well
        reader.read_only = read_only
        with pytest.raises(ReadOnlyError, match="may only"):
            copy(source, reader)
    source.close()
    reader.close()
    assert out.target.catalogue.list_collections() == []


def test_who_may_only_read_at_the_source_copies_all(
    back: Move, on_server: LibraryOpener, postgres: PostgresServer
) -> None:
    fill(back.full)
    source = CopySource(Path(), postgres.create_reader(next(iter(on_server.schemas.values()))))
    source.open()
    copy(source, back.target)
    source.close()
    assert read_rows(back.target) == read_rows(back.full)


@pytest.mark.parametrize(("version", "words"), [(99, "newer release.*update Dormouse"), (3, "older release")])
def test_a_source_of_another_release_is_left_as_it_is(out: Move, version: int, words: str) -> None:
    out.full.close()
    db = sqlite3.connect(out.folder / "library.db")
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    before = (out.folder / "library.db").read_bytes()
    with pytest.raises(LibraryError, match=words):
        out.open_source()
    assert (out.folder / "library.db").read_bytes() == before


@pytest.mark.parametrize(("version", "words"), [(99, "newer release.*update Dormouse"), (0, "no collections")])
def test_a_store_of_another_release_is_left_as_it_is(
    back: Move, on_server: LibraryOpener, postgres: PostgresServer, version: int, words: str
) -> None:
    schema = next(iter(on_server.schemas.values()))
    postgres.run(f"UPDATE {schema}.library_schema SET version = {version}")  # noqa: S608
    with pytest.raises(LibraryError, match=words):
        back.open_source()
    assert postgres.run(f"SELECT version FROM {schema}.library_schema") == [(version,)]  # noqa: S608


def test_a_source_that_is_not_there_damaged_or_in_use(in_folder: LibraryOpener, tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="there are no collections in"):
        CopySource(tmp_path / "none").open()
    assert not (tmp_path / "none").exists()
    in_folder.open(tmp_path / "used")
    with pytest.raises(LibraryError) as refused:
        CopySource(tmp_path / "used").open()
    assert refused.value.code == IN_USE
    (tmp_path / "library.db").write_bytes(b"no database, but long enough to be taken for one" * 30)
    with pytest.raises(LibraryError, match="damaged"):
        CopySource(tmp_path).open()


def test_pictures_in_a_folder_of_several_machines(
    on_server: LibraryOpener, in_folder: LibraryOpener, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    full = in_folder.open(tmp_path / "full")
    key = fill(full)
    hits = state(full, key)
    full.close()
    store = on_server.open(tmp_path / "store", pictures=pictures)
    source = CopySource(tmp_path / "full")
    source.open()
    copy(source, store)
    source.close()
    assert state(store, key) == hits and list_pictures(store) == {*store.catalogue.list_page_ids(key), "store"}
    address = on_server.locate(tmp_path / "store")
    for given, words in ((None, "name it by DORMOUSE_PICTURES"), (tmp_path / "other", "another store")):
        with pytest.raises(LibraryError, match=words):
            CopySource(Path(), address, given).open()
    assert not (tmp_path / "other").exists()
    target = in_folder.open(tmp_path / "back")
    source = CopySource(Path(), address, pictures)
    source.open()
    copy(source, target)
    source.close()
    assert state(target, key) == hits
    rows = on_server.open(tmp_path / "rows")
    rows.close()
    with pytest.raises(LibraryError, match="has its pictures in the database"):
        CopySource(Path(), on_server.locate(tmp_path / "rows"), pictures).open()


def test_disk_full_in_a_folder_is_told_and_the_copy_goes_on(
    in_folder: LibraryOpener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = Move(tmp_path, in_folder, in_folder)
    key = fill(move.full)
    monkeypatch.setattr(copying, "BATCH_PAGES", 2)
    sync, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 8:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    source = move.open_source()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(LibraryError, match="could not be saved: No space left"):
            copy(source, move.target)
    pages = move.target.catalogue.list_page_ids(key)
    assert len(pages) == 2 and list_pictures(move.target) == set(pages)
    copy(source, move.target)
    source.close()
    assert move.target.catalogue.read_collection(key).pages == 6


def test_disk_full_at_the_server_is_told_and_the_copy_goes_on(
    own: PostgresServer, small_disk: Path, in_folder: LibraryOpener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = in_folder.open(tmp_path / "full")
    for number in range(1, 40):
        add(full, new("a.pdf", number, picture=os.urandom(1_000_000)))
    rows = read_rows(full)
    full.close()
    monkeypatch.setattr(copying, "BATCH_PAGES", 4)
    address = own.address().replace("options=", "options=-cdefault_tablespace%3Dsmall%20")
    library, source = Library(tmp_path / "a", address=address), CopySource(tmp_path / "full")
    source.open()
    with pytest.raises(ServingError, match="is full: make room"):
        copy(source, library)
    count = library.catalogue.read_collection(at(library)).pages
    assert (
        0 < count < 39 and count % 4 == 0 and list_pictures(library) == {*library.catalogue.list_page_ids(at(library))}
    )
    assert os.system(f"mount -o remount,size=128m {small_disk}") == 0  # noqa: S605
    copy(source, library)
    source.close()
    assert read_rows(library) == rows
    library.close()


def test_lines_of_text_with_a_zero_are_no_mismatch(out: Move) -> None:
    add(out.full, new("a.png", lines=(Line("a\0b"),)))
    out.copy()
    page_id = out.target.catalogue.list_page_ids(at(out.target))[0]
    assert out.target.catalogue.read_lines(page_id) == (Line("ab"),)
