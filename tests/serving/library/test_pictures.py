"""The pictures of a library, in files and in rows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.errors import BadValueError
from serving.library.database import LibraryError, StoreUnavailableError
from serving.library.library import Library
from serving.library.pictures import PictureFiles
from tests.support.libraries import add, at, made, new
from tests.support.postgres import PostgresServer
from tests.support.stores import list_pictures


@pytest.fixture
def library(house: Library) -> Library:
    return house


def test_storage_is_what_is_kept(library: Library) -> None:
    found = library.measure_storage(at(library, "house"))
    kept = [
        (library.pictures.read_picture(one), library.pictures.read_thumbnail(one)) for one in list_pictures(library)
    ]
    pictures = sum(len(data) for both in kept for data in both if data is not None)
    assert (found.pages, found.pictures) == (6, pictures)
    assert found.data >= 6 * 64 * 2 + 3 * 2 * 64 * 2 and found.data < 6_000
    assert found.per_1000 == round((found.pictures + found.data) / 6 * 1000)
    assert library.measure_storage(at(library, "nobody")).per_1000 == 0


def test_storage_of_many_pages_is_estimated_from_some(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = library.measure_storage(at(library, "house"))
    monkeypatch.setattr("serving.library.pictures.SAMPLED", 3)
    found = library.measure_storage(at(library, "house"))
    assert found.pages == 6
    assert whole.pictures / 3 < found.pictures < 3 * whole.pictures and whole.data / 3 < found.data < 3 * whole.data


def test_pictures_of_unknown_pages_go_and_files_of_others_stay(tmp_path: Path) -> None:
    pictures = PictureFiles(tmp_path)
    kept, lost = "0" * 16, "f" * 16
    for page_id in (kept, lost):
        pictures.write_page(page_id, b"jpeg", b"webp")
    half, own = tmp_path / f"{lost}.jpg.00ff.part", tmp_path / "holiday.jpg"
    half.touch()
    own.touch()
    pictures.remove_unknown({kept})
    assert {path.name for path in tmp_path.iterdir()} == {f"{kept}.jpg", f"{kept}.webp", "holiday.jpg"}
    pictures.remove_pages([kept, lost])
    assert list(tmp_path.iterdir()) == [own]


def test_bytes_of_pictures_that_are_there_are_counted(tmp_path: Path) -> None:
    pictures = PictureFiles(tmp_path)
    pictures.write_page("0" * 16, b"j" * 30, b"w" * 10)
    assert pictures.estimate_bytes(["0" * 16, "1" * 16]) == 40 and pictures.estimate_bytes([]) == 0


def test_a_folder_of_several_machines_has_the_pictures_of_one_store(postgres: PostgresServer, tmp_path: Path) -> None:
    addresses = [postgres.address(postgres.create_schema()) for _ in range(2)]
    shared = tmp_path / "shared"
    one, two = (Library(tmp_path / name, address=addresses[0], pictures=shared) for name in "12")
    page_id = add(one, new("a.png"))
    assert two.pictures.read_picture(page_id) == b"jpeg" and (shared / f"{page_id}.webp").read_bytes() == b"webp"
    with pytest.raises(LibraryError, match="pictures in a folder: name it by DORMOUSE_PICTURES"):
        Library(tmp_path / "3", address=addresses[0])
    with pytest.raises(LibraryError, match="pictures of another store"):
        Library(tmp_path / "3", address=addresses[1], pictures=shared)
    other = Library(tmp_path / "3", address=addresses[1])
    add(other, new("a.png"))
    other.close()
    with pytest.raises(LibraryError, match="in the database: start without DORMOUSE_PICTURES"):
        Library(tmp_path / "3", address=addresses[1], pictures=tmp_path / "new")
    with pytest.raises(BadValueError, match="is for a store"):
        Library(tmp_path / "4", pictures=shared)
    one.delete_pages(at(one), [page_id])
    assert [path.name for path in shared.iterdir()] == ["store"]
    for library in (one, two):
        library.close()


def test_who_began_before_a_store_got_its_folder_adds_nothing(postgres: PostgresServer, tmp_path: Path) -> None:
    address = postgres.address(postgres.create_schema())
    early = Library(tmp_path / "1", address=address)
    late = Library(tmp_path / "2", address=address, pictures=tmp_path / "shared")
    with pytest.raises(LibraryError, match="pictures in a folder: name it by DORMOUSE_PICTURES"):
        add(early, new("a.png"))
    assert late.pictures.read_picture(add(late, new("a.png"))) == b"jpeg"
    early.close()
    late.close()


def test_pictures_that_another_machine_may_still_need_are_not_swept(postgres: PostgresServer, tmp_path: Path) -> None:
    address, shared = postgres.address(postgres.create_schema()), tmp_path / "shared"
    library = Library(tmp_path / "1", address=address, pictures=shared)
    page_id = add(library, new("a.png"))
    library.close()
    young, old = "0" * 16, "f" * 16
    for name in (young, old, page_id):
        (shared / f"{name}.jpg").touch()
    for name in (old, page_id):
        os.utime(shared / f"{name}.jpg", (1, 1))
    Library(tmp_path / "2", address=address, pictures=shared).close()
    assert {path.name for path in shared.iterdir()} == {"store", f"{young}.jpg", f"{page_id}.jpg", f"{page_id}.webp"}


def test_a_page_whose_commit_was_not_answered_has_its_pictures(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, shared = postgres.address(postgres.create_schema()), tmp_path / "shared"
    library = Library(tmp_path / "1", address=address, pictures=shared)
    key, insert = made(library), library._insert

    def insert_unanswered(*given: object) -> None:
        insert(*given)  # type: ignore[arg-type]
        raise StoreUnavailableError("the connection ended")

    with monkeypatch.context() as patch, pytest.raises(StoreUnavailableError):
        patch.setattr(library, "_insert", insert_unanswered)
        library.add_page(key, new("a.png"), fingerprint="f1", model="m")
    (page_id,) = library.catalogue.list_page_ids(key)
    assert library.pictures.read_picture(page_id) == b"jpeg"
    assert add(library, new("a.png")) == page_id and len(list(shared.iterdir())) == 3
    library.close()
