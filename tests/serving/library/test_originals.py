"""Original files of pages: kept once, as long as a page refers to them, and only for pages that came with them."""

from __future__ import annotations

import hashlib
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.library.database import LibraryError
from serving.library.exporting import export_collection
from serving.library.importing import import_collection
from serving.library.library import Library
from serving.library.originals import is_pdf
from serving.library.records import NewPage
from serving.settings import Settings
from tests.support.files import encoded, picture
from tests.support.libraries import add, at, made, new
from tests.support.volumes import Container

PDF = b"%PDF-1.7 the content"
SHA = hashlib.sha256(PDF).hexdigest()
JPEG = encoded(picture(), "JPEG")


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    found = Library(tmp_path / "data")
    yield found
    found.close()


@pytest.fixture
def source(library: Library) -> Path:
    """A file that the page has kept for a job: nobody changes it."""
    path = library.folder / "uploads-kept" / "000000"
    path.parent.mkdir()
    path.write_bytes(PDF)
    return path


def page(source: Path, number: int = 1, **values: object) -> NewPage:
    return new("a.pdf", number, **{"sha256": SHA, "original": source, "picture": JPEG, **values})


def names(library: Library) -> list[str]:
    folder = library.originals.folder
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_file_is_kept_once_and_goes_with_its_last_page(library: Library, source: Path) -> None:
    first, second = add(library, page(source)), add(library, page(source, 2))
    other = add(library, page(source), "other")
    assert names(library) == [SHA]
    assert library.originals.locate(SHA).samefile(source), "a link takes no room"
    assert stat.S_IMODE(library.originals.folder.stat().st_mode) == 0o700
    source.unlink()
    found = library.find_original(second)
    assert found is not None and found[1].read_bytes() == PDF and (found[0].original, found[0].page) == ("pdf", 2)
    library.delete_pages(at(library), [first])
    library.delete_pages(at(library, "other"), [other])
    assert names(library) == [SHA]
    library.delete_pages(at(library), [second])
    assert names(library) == [] and library.find_original(second) is None


def test_a_collection_takes_its_files_along(library: Library, source: Path) -> None:
    add(library, page(source))
    add(library, page(source), "other")
    moved = library.catalogue.list_page_ids(at(library))
    library.move_pages(at(library), moved, made(library, "third"))
    library.delete_collection(at(library, "other"))
    library.delete_collection(at(library))
    assert names(library) == [SHA] and library.find_original(moved[0]) is not None
    assert library.measure_storage(at(library, "third")).originals == len(PDF)
    library.delete_collection(at(library, "third"))
    assert names(library) == []


def test_a_file_of_the_users_own_is_copied(library: Library, tmp_path: Path) -> None:
    own = tmp_path / "own.pdf"
    own.write_bytes(PDF)
    page_id = add(library, page(own))
    own.write_bytes(b"changed in place")
    found = library.find_original(page_id)
    assert found is not None and found[1].read_bytes() == PDF
    assert stat.S_IMODE(found[1].stat().st_mode) == 0o600


def test_a_file_that_has_changed_or_gone_is_not_kept_and_its_page_is(library: Library, tmp_path: Path) -> None:
    own = tmp_path / "own.pdf"
    own.write_bytes(b"another content")
    changed, gone = add(library, page(own)), add(library, page(tmp_path / "none", 2))
    assert names(library) == []
    assert [library.catalogue.read_page(page_id).original for page_id in (changed, gone)] == ["", ""]
    assert library.find_original(changed) is library.find_original("0" * 16) is None


def test_a_picture_is_no_pdf_whatever_its_name(library: Library, source: Path) -> None:
    data = encoded(picture())
    source.write_bytes(data)
    page_id = add(library, page(source, sha256=hashlib.sha256(data).hexdigest()))
    assert library.catalogue.read_page(page_id).original == "file"
    source.write_bytes(b"x" * 1_020 + b"%PDF-1.7")
    assert not is_pdf(source)


def test_a_page_that_came_without_its_file_does_not_lead_to_another_owners(
    library: Library, source: Path, settings: Settings
) -> None:
    """Whoever knows a file's sha256, as from an export, must not get the file by it."""
    add(library, page(source))
    exported = export_collection(library, at(library), library.folder / "exports", settings)
    imported = import_collection(library, exported.path, settings, lambda _: None, "imported", "somebody")
    (page_id,) = library.catalogue.list_page_ids(imported.key)
    assert library.find_original(page_id) is None and library.catalogue.read_page(page_id).original == ""
    library.delete_collection(at(library))
    assert names(library) == [], "an imported page keeps no file of others"


def test_a_page_that_is_here_already_keeps_no_file(library: Library, source: Path) -> None:
    page_id = add(library, page(source, original=None))
    assert add(library, page(source)) == page_id and names(library) == []


def test_what_cannot_be_added_leaves_nothing(library: Library, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(library, new("b.png"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("serving.library.originals.link_or_copy", full)
        with pytest.raises(LibraryError, match="No space left"):
            add(library, page(source))
    with monkeypatch.context() as patch:
        patch.setattr("serving.library.library.insert_rows", full)
        with pytest.raises(LibraryError, match="No space left"):
            add(library, page(source))
    assert names(library) == [] and library.catalogue.find_collection("c").pages == 1


def test_one_file_added_and_deleted_at_once_is_there_with_each_page(library: Library, source: Path) -> None:
    """A deletion of the last page must not take the file of one that is being added."""
    made(library)
    faults: list[str] = []

    def work(number: int) -> None:
        for _ in range(30):
            page_id = add(library, page(source, number))
            found = library.find_original(page_id)
            if found is None or found[1].read_bytes() != PDF:
                faults.append(page_id)
            library.delete_pages(at(library), [page_id])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == [] and names(library) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from serving.library import library as module, originals
from serving.library.library import Library
from tests.support.libraries import add, at, new
step, folder, sha256 = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
library = Library(folder)
link = originals.link_or_copy
if step == "linked":
    originals.link_or_copy = lambda *given: die(link(*given))
elif step == "named":
    originals.sync_folder = die
elif step == "kept":
    module.insert_rows = die
source = folder / "uploads-kept" / "000000"
page_id = add(library, new("a.pdf", sha256=sha256, original=source))
print(page_id, flush=True)
originals.remove_files = die
library.delete_pages(at(library), [page_id])
"""


@pytest.mark.parametrize("step", ["linked", "named", "kept", "deleted"])
def test_a_kill_between_two_steps_leaves_nothing_wrong(library: Library, source: Path, step: str) -> None:
    kept = add(library, new("kept.png"))
    library.close()
    command = [sys.executable, "-c", KILLED, step, str(library.folder), SHA]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert bool(done.stdout) == (step == "deleted")
    assert len(names(library)) == 1, "there is something to be swept"
    again = Library(library.folder)
    assert names(again) == [] and again.catalogue.list_page_ids(at(again)) == [kept]
    page_id = add(again, page(source))
    assert names(again) == [SHA] and again.find_original(page_id) is not None
    again.close()
    once_more = Library(library.folder)
    assert names(once_more) == [SHA], "a sweep leaves what a page refers to"
    once_more.close()


def test_files_of_other_names_stay(library: Library, source: Path) -> None:
    add(library, page(source))
    mine = library.originals.folder / "notes.txt"
    mine.touch()
    (library.originals.folder / f"{SHA}.00ff00ff.part").touch()
    (library.originals.folder / ("0" * 64)).touch()
    library.close()
    again = Library(library.folder)
    assert names(again) == sorted([SHA, mine.name])
    again.close()


def test_where_the_folder_is_on_a_volume_files_are_copied_there(tmp_path: Path) -> None:
    container = Container(tmp_path, "a")
    source = container.library.folder / "upload"
    source.write_bytes(PDF)
    page_id = add(container.library, page(source))
    assert container.library.originals.folder.parent == container.library.durable_folder != container.library.folder
    moved = Container(tmp_path, "b")
    found = moved.library.find_original(page_id)
    assert found is not None and found[1].read_bytes() == PDF


def test_pages_of_an_older_release_have_none(library: Library, source: Path) -> None:
    page_id = add(library, page(source, original=None))
    library.close()
    db = sqlite3.connect(library.folder / "library.db")
    db.executescript("DROP TABLE words; DROP TABLE word_counts; DROP TRIGGER words_move; DROP TABLE word_pages;")
    db.executescript("DROP INDEX originals_of; ALTER TABLE pages DROP COLUMN original; PRAGMA user_version = 3;")
    db.close()
    again = Library(library.folder)
    assert again.find_original(page_id) is None
    second = add(again, page(source, 2))
    assert again.find_original(second) is not None and again.find_original(page_id) is None
    assert (library.folder / "library-schema-3.db").is_file()
    again.close()
