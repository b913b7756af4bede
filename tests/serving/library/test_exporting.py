"""A collection in one file that other programs can read."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving.documents.page import Line
from serving.errors import TooLargeError
from serving.library import exporting
from serving.library.catalogue import CollectionGoneError
from serving.library.database import LibraryError
from serving.library.exporting import export_collection
from serving.library.importing import import_collection
from serving.library.library import Library
from serving.library.records import ABSENT, CollectionKey
from serving.settings import Settings
from tests.support.exported_pages import FILES, LINES, anything, page, state
from tests.support.files import encoded, picture
from tests.support.libraries import add, at, made, new
from tests.support.scripted import unit
from tests.support.stores import LibraryOpener, list_pictures


@pytest.fixture
def library(house: Library) -> Library:
    return house


def test_it_is_there_when_it_is_whole_and_not_before(library: Library, tmp_path: Path, settings: Settings) -> None:
    path = export_collection(library, at(library, "house"), tmp_path / "exports", settings).path
    seen: list[tuple[int, int]] = []

    def step(done: int, total: int) -> None:
        seen.append((done, total))
        assert [(found.name, found.pages) for found in library.catalogue.list_collections()] == [("house", 6)]

    assert import_collection(library, path, settings, anything, "attic", progress=step).pages == 6
    assert seen == [(n, 6) for n in range(1, 7)]


def test_whoever_watches_can_stop_it(library: Library, tmp_path: Path, settings: Settings) -> None:
    path = export_collection(library, at(library, "house"), tmp_path / "exports", settings).path
    pictures = list_pictures(library)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise InterruptedError(total)

    with pytest.raises(InterruptedError):
        import_collection(library, path, settings, anything, progress=stop)
    with pytest.raises(LibraryError):
        export_collection(library, at(library, "house"), tmp_path / "exports", settings, stop)
    assert [found.name for found in library.catalogue.list_collections()] == ["house"]
    assert list_pictures(library) == pictures
    assert list((tmp_path / "exports").iterdir()) == [path]


def test_other_programs_can_read_it(library: Library, tmp_path: Path, settings: Settings) -> None:
    found = export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    with np.load(found.path) as arrays:
        assert arrays["vectors"].shape == (6, 64) and arrays["line_vectors"].shape == (6, 64)
        assert arrays["vectors"][3] @ unit("page 3", 64) == pytest.approx(1, abs=1e-3)
    with zipfile.ZipFile(found.path) as archive:
        assert archive.testzip() is None
        table = list(csv.DictReader(io.TextIOWrapper(archive.open("pages.csv"), "utf-8")))
        pages = [json.loads(line) for line in archive.open("pages.jsonl")]
        head = json.loads(archive.read("collection.json"))
    assert head == {
        "format": "dormouse-collection", "version": 1, "name": "house", "model": "m", "fingerprint": "f1",
        "dimension": 64, "pages": 6,
    }  # fmt: skip
    assert [row["file"] for row in table[:3]] == [FILES[0], f"'{FILES[1]}", FILES[2]]
    assert [(entry["file"], entry["page"]) for entry in pages] == [(FILES[n % 3], n // 3 + 1) for n in range(6)]
    assert pages[0]["lines"][0] == {"text": LINES[0].text, "box": list(LINES[0].box or ())}


def test_disk_full_leaves_nothing(
    library: Library, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "write_vectors", full)  # when the pictures are written already
    with pytest.raises(LibraryError, match="could not be exported: No space left on device"):
        export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    assert list((tmp_path / "exports").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LibraryError, match="No file of it was left"):
        export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    assert list((tmp_path / "exports").iterdir()) == []


def test_disk_that_is_really_full(library: Library, tmp_path: Path, settings: Settings) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("wb") as stream:
        exporting.write_archive(library, at(library, "house"), stream, settings, exporting.ignore_progress)
        stream.flush()


def deleted_before(library: Library, page_id: str) -> Callable[..., bool]:
    """Return a `write_picture` before which a page is deleted."""
    write_picture = exporting.write_picture

    def delete_and_write(*given: object) -> bool:
        library.delete_pages(at(library, "house"), [page_id])
        return write_picture(*given)  # type: ignore[arg-type]

    return delete_and_write


def test_pages_that_are_deleted_meanwhile_are_left_out(
    store: LibraryOpener, library: Library, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hit = library.ranking.search(at(library, "house"), unit("page 1", 64), 1, "f1")[0]
    monkeypatch.setattr(exporting, "write_picture", deleted_before(library, hit.page.id))
    found = export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    assert found.pages == 5
    assert import_collection(store.open(tmp_path / "other"), found.path, settings, anything).pages == 5
    library.create_collection("empty")
    empty = export_collection(library, at(library, "empty"), tmp_path / "exports", settings)
    assert import_collection(library, empty.path, settings, anything).name == "empty (2)"


@pytest.mark.parametrize("key", [ABSENT, CollectionKey("c-" + 32 * "0")])
def test_what_is_not_there_cannot_be_exported(
    library: Library, key: CollectionKey, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(CollectionGoneError):
        export_collection(library, key, tmp_path / "exports", settings)


def test_export_is_of_one_moment(
    library: Library, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that come and go while it is written do not make it contradict itself."""
    real = exporting.write_picture
    hits = library.ranking.search(at(library, "house"), unit("page 0", 64), 9, "f1")

    def meanwhile(*args: object) -> bool:
        monkeypatch.setattr(exporting, "write_picture", real)
        library.add_page(made(library, "house"), page(7), fingerprint="f1", model="m")
        with library.database.transaction() as db:
            db.execute("DELETE FROM lines WHERE page = ?", [hits[0].page.id])
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(exporting, "write_picture", meanwhile)
    found = export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    assert found.pages == 6
    with zipfile.ZipFile(found.path) as archive:
        assert sum(len(json.loads(line)["lines"]) for line in archive.open("pages.jsonl")) == 6
    shutil.rmtree(tmp_path / "exports")


# What can be exported can be imported


def test_nothing_is_packed_so_that_it_is_never_more_than_the_zip(
    store: LibraryOpener, tmp_path: Path, settings: Settings
) -> None:
    """Text that would pack a thousandfold, as a bomb does."""
    library, lines = store.open(tmp_path / "many"), tuple(Line("all the same " * 500) for _ in range(200))
    jpeg = encoded(picture((60, 40)), "JPEG")
    for number in (1, 2):
        add(library, new("a.pdf", number, sha256="0" * 64, picture=jpeg, lines=lines))
    found = export_collection(library, at(library), tmp_path / "exports", settings)
    with zipfile.ZipFile(found.path) as archive:
        assert sum(info.file_size for info in archive.infolist()) < found.bytes
    assert import_collection(library, found.path, settings, anything).pages == 2


def test_a_zip_of_more_than_four_gigabytes_comes_back(library: Library, tmp_path: Path, settings: Settings) -> None:
    """The file has a hole of 4 GiB before the first picture, so that no place in it can be said in 32 bits."""
    path = tmp_path / "large.zip"
    with path.open("wb") as stream:
        stream.seek(2**32 + 5)
        exporting.write_archive(library, at(library, "house"), stream, settings, exporting.ignore_progress)
    with zipfile.ZipFile(path) as archive:
        assert min(info.header_offset for info in archive.infolist()) > 2**32
    back = import_collection(library, path, settings, anything)
    assert state(library, back.key) == state(library, at(library, "house"))


@pytest.mark.parametrize(
    ("lower", "words"),
    [({"max_export_pages": 5}, "has 6 pages, more than 5"), ({"max_export_bytes": 4_000}, "more than 0.0 GB")],
)
def test_what_could_not_come_back_is_refused_before(
    library: Library, tmp_path: Path, settings: Settings, lower: dict[str, int], words: str
) -> None:
    with pytest.raises(TooLargeError, match=f"{words}.*move some of its files to another collection"):
        export_collection(library, at(library, "house"), tmp_path / "exports", settings.model_copy(update=lower))
    assert list((tmp_path / "exports").iterdir()) == []
