from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from serving.errors import BadValueError, NotFoundError
from serving.library.catalogue import CollectionGoneError, FingerprintError
from serving.library.database import LibraryError
from serving.library.library import Library
from serving.library.records import ABSENT
from serving.library.removal import EMPTY_S
from tests.support.libraries import LINES, UNKNOWN, add, at, new
from tests.support.scripted import unit
from tests.support.stores import LibraryOpener, list_pictures
from tests.support.waiting import until


def found(library: Library, text: str, name: str = "c", count: int = 9) -> set[str]:
    """Ids of the pages that a search finds."""
    return {hit.page.id for hit in library.ranking.search(at(library, name), unit(text, 64), count, "f1")}


def test_what_is_added_is_found_and_survives_reopening(store: LibraryOpener, tmp_path: Path) -> None:
    library = store.open(tmp_path)
    ids = [add(library, new("a.pdf", page)) for page in (1, 2, 3)]
    for _ in range(2):
        hits = library.ranking.search(at(library), unit("a.pdf 2", 64), 2, "f1")
        assert [hit.rank for hit in hits] == [1, 2] and hits[0].page.id == ids[1]
        assert hits[0].score == pytest.approx(1, abs=1e-3) and hits[1].score < 0.6
        assert (hits[0].page.file, hits[0].page.page, hits[0].page.pages, hits[0].page.read) == ("a.pdf", 2, 3, True)
        assert library.catalogue.read_lines(ids[1]) == LINES
        assert library.pictures.read_picture(ids[1]) == b"jpeg" and library.pictures.read_thumbnail(ids[1]) == b"webp"
        assert library.pictures.read_picture("0" * 16) is library.pictures.read_thumbnail("0" * 16) is None
        library.close()
        library = store.open(tmp_path)


def test_only_its_user_reads_the_file(tmp_path: Path) -> None:
    Library(tmp_path).close()
    assert oct((tmp_path / "library.db").stat().st_mode)[-3:] == "600"


def test_same_content_is_kept_once(library: Library) -> None:
    first = add(library, new("a.png"))
    assert add(library, new("a.png", vector=unit("other", 64))) == first
    assert library.catalogue.find_pages(at(library), "sha of a.png") == {1: "a.png"}
    assert library.catalogue.find_collection("c").pages == 1 and len(list_pictures(library)) == 1
    assert add(library, new("a.png"), collection="other") != first


def test_files_are_renamed(library: Library) -> None:
    for page in (1, 2):
        add(library, new("a.pdf", page))
    kept = add(library, new("b.pdf"))
    elsewhere = add(library, new("a.pdf"), collection="other")
    assert library.rename_files(at(library), {"sha of a.pdf": "to/c.pdf", "sha of nothing": "x"}) == 2
    names = [(file.name, file.pages, file.is_complete) for file in library.catalogue.list_files(at(library))]
    assert names == [("to/c.pdf", 2, False), ("b.pdf", 1, False)]
    assert [library.catalogue.read_page(page).file for page in (kept, elsewhere)] == ["b.pdf", "a.pdf"]
    assert library.rename_files(ABSENT, {"sha of a.pdf": "x"}) == 0
    with pytest.raises(CollectionGoneError):
        library.rename_files(UNKNOWN, {})


def test_fingerprints_never_meet(library: Library) -> None:
    add(library, new())
    with pytest.raises(FingerprintError, match="another embedder"):
        add(library, new("b.png"), fingerprint="f2")
    with pytest.raises(FingerprintError, match="another embedder"):
        library.ranking.search(at(library), unit("q", 64), 3, "f2")
    assert library.catalogue.find_collection("c").pages == 1 and len(list_pictures(library)) == 1
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
    assert list_pictures(library) == {other}


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


def test_second_process_on_a_folder_is_told(store: LibraryOpener, tmp_path: Path) -> None:
    library = store.open(tmp_path)
    with pytest.raises(LibraryError, match="another process is using"):
        store.open(tmp_path)
    library.close()
    store.open(tmp_path).close()


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


def test_emptied_collection_that_was_searched_takes_pages_again(store: LibraryOpener, tmp_path: Path) -> None:
    library = store.open(tmp_path)
    first = add(library, new("a.png"))
    library.ranking.search(at(library), unit("q", 64), 3, "f1")
    library.delete_pages(at(library), [first])
    assert library.ranking.search(at(library), unit("q", 64), 3, "f1") == []
    again = add(library, new("a.png"))
    assert [hit.page.id for hit in library.ranking.search(at(library), unit("q", 64), 3, "f1")] == [again]
    assert library.pictures.has_picture(again)
    library.delete_pages(at(library), [again])
    library.close()
    reopened = store.open(tmp_path)
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


def test_only_old_empty_collections_of_visitors_go(store: LibraryOpener, tmp_path: Path) -> None:
    library = store.open(tmp_path)
    names = {"mine": "", "old": "anna", "full": "anna", "new": "anna"}
    keys = {name: library.create_collection(name, owner).key for name, owner in names.items()}
    library.add_page(keys["full"], new(), fingerprint="f1", model="m")
    with library.database.transaction() as db:
        for name in ("mine", "old", "full"):
            db.execute("UPDATE collections SET created = ? WHERE key = ?", [time.time() - EMPTY_S - 1, keys[name]])
    library.close()
    again = store.open(tmp_path)
    assert {name for name, key in keys.items() if again.catalogue.has_collection(key)} == {"mine", "full", "new"}


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


@pytest.mark.soak
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


# Vectors in memory


def count_leftovers(library: Library) -> tuple[int, ...]:
    """Rows of collections and of pages, and pages that have pictures."""
    rows = library.database.fetch_one("SELECT (SELECT count(*) FROM collections), (SELECT count(*) FROM pages)")
    return (*rows, len(list_pictures(library)))


def test_a_large_collection_is_gone_at_once_and_removed_behind_the_back(
    store: LibraryOpener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others go on meanwhile; what a stop leaves, the next start removes."""
    monkeypatch.setattr("serving.library.removal.REMOVED_AT_ONCE", 2)
    library = store.open(tmp_path)
    kept = add(library, new("kept.png"), "other")
    begun, gate = threading.Event(), threading.Event()
    remove = library.pictures.remove_pages

    def remove_slowly(ids: Collection[str]) -> None:
        if ids:  # an addition has none to take back
            begun.set()
            assert gate.wait(60)
        remove(ids)

    for turn in ("to its end", "stopped"):
        for page in range(1, 8):
            add(library, new("a.pdf", page))
        key = at(library)
        begun.clear()
        gate.clear()
        monkeypatch.setattr(library.pictures, "remove_pages", remove_slowly)
        assert library.delete_collection(key) == 7
        assert begun.wait(60) and at(library) == ABSENT
        with pytest.raises(CollectionGoneError):
            library.catalogue.read_collection(key)
        with pytest.raises(CollectionGoneError):
            library.delete_collection(key)
        assert [found.name for found in library.catalogue.list_collections()] == ["other"]
        again = add(library, new("a.pdf", 1))
        assert found(library, "a.pdf 1") == {again} and found(library, "q", "other") == {kept}
        if turn == "stopped":
            closing = threading.Thread(target=library.close)
            closing.start()
            gate.set()
            closing.join(60)
            library = store.open(tmp_path)
        gate.set()
        until(lambda library=library: count_leftovers(library) == (2, 2, 2), 60)
        library.delete_collection(at(library))
        assert count_leftovers(library) == (1, 1, 1), "a small one goes at once"
    library.close()
