"""Pages that are only pictures are read in the background, on both stores; the server that reads is scripted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.client import EmbeddingClient
from serving.documents.page import Line
from serving.library.library import Library
from serving.settings import Settings
from tests.support.files import encoded, picture
from tests.support.libraries import UNKNOWN, add, at, new
from tests.support.scripted import Coloured, Scripted
from tests.support.servers import make_settings, running
from tests.support.stores import LibraryOpener
from tests.support.waiting import until
from ui.core import picture_reading
from ui.core.service import Question, Service
from ui.search.file_list import FIRST_VIEW, ListedFiles
from ui.servers.target import Target, Targets


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_reading, "PAUSE_S", 0.01)
    monkeypatch.setattr(picture_reading, "RETRY_S", 0.2)


@pytest.fixture
def library(store: LibraryOpener, tmp_path: Path) -> Library:
    return store.open(tmp_path / "library")


@pytest.fixture
def reader() -> Iterator[Scripted]:
    embedder = Scripted()
    yield embedder
    embedder.gate.set()


@contextmanager
def opened(library: Library, reader: Scripted, settings: Settings, folder: Path) -> Iterator[Service]:
    """A page's service with a server that sees, and one that reads: it calls a page by its size."""
    sees, reads = (
        running(embedder, make_settings(folder / name)) for embedder, name in ((Coloured(), "sees"), (reader, "reads"))
    )
    with sees as (one, _), reads as (other, _):
        targets = [Target(EmbeddingClient(one), "sees"), Target(EmbeddingClient(other, deadline_s=5), "reads")]
        service = Service(Targets(targets), library, settings)
        library.follow_others()
        library.begin_indexing()
        yield service
        reader.gate.set()
        service.close()


def add_picture(library: Library, width: int, **values: object) -> str:
    image = encoded(picture((width, 60)))
    page = new(f"{width}.png", dimension=3, picture=image, thumbnail=image, **{"lines": None, **values})
    return add(library, page, fingerprint=Coloured.fingerprint)


def read(library: Library, page_id: str) -> str:
    return " ".join(line.text for line in library.catalogue.read_lines(page_id))


def test_they_are_read_and_found_by_their_words(
    library: Library, reader: Scripted, settings: Settings, tmp_path: Path
) -> None:
    before = [add_picture(library, width) for width in (101, 102)]
    layer = add_picture(library, 103, lines=(Line("its own text layer"),))
    with opened(library, reader, settings, tmp_path) as service:
        key, listed = at(library), ListedFiles(service)
        assert service.reading.count_left(key) == 0, "nothing is read before it begins"
        reader.gate.clear()
        service.reading.begin()
        until(lambda: reader.calls, 20)
        assert service.reading.count_left(key) == 2 and service.reading.count_left(UNKNOWN) == 0
        told = listed.render(service.ownership.find("c"), FIRST_VIEW)
        assert "The text of 2 pages is still being read" in told
        assert service.find_first(Question("102"), key, 8) == []
        version = library.changes.version(key)
        reader.gate.set()
        until(lambda: service.reading.count_left(key) == 0, 20)
        until(lambda: library.changes.version(key) != version, 20)
        assert "still being read" not in listed.render(service.ownership.find("c"), FIRST_VIEW)
        later = add_picture(library, 104)
        until(lambda: read(library, later), 20)
        until(lambda: library.words.count_missing() == 0, 20)
        for page_id, width in zip([*before, later], (101, 102, 104), strict=True):
            assert f"({width}, 60)" in read(library, page_id) and library.catalogue.read_page(page_id).read
            assert [hit.page.id for hit in service.find_first(Question(f"{width}"), key, 8)] == [page_id]
        assert read(library, layer) == "its own text layer"
        assert len(reader.calls) == 3, "each once, and none that has text"


def test_one_that_cannot_be_read_keeps_no_other_waiting(
    library: Library, reader: Scripted, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader.refuses = "(101, 60)"
    bad, good = add_picture(library, 101), add_picture(library, 102)
    with opened(library, reader, settings, tmp_path) as service:
        with caplog.at_level(logging.WARNING):
            service.reading.begin()
            until(lambda: read(library, good), 20)
        assert "a page could not be read: scripted: one of these cannot be read" in caplog.text
        calls = len(reader.calls)
        later = add_picture(library, 103)
        until(lambda: read(library, later), 20)
        assert len(reader.calls) == calls + 1 and not library.catalogue.read_page(bad).read


def test_a_reader_that_is_away_is_waited_for(
    library: Library,
    reader: Scripted,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    page = add_picture(library, 101)
    with opened(library, reader, settings, tmp_path) as service:
        target = service.targets.get("reads")
        target.fetch_info()
        there, target.client.url = target.client.url, "http://127.0.0.1:9"
        monkeypatch.setattr(target.client, "unreachable_s", 0.1)
        with caplog.at_level(logging.WARNING):
            service.reading.begin()
            until(lambda: "pictures are read later" in caplog.text, 20)
        assert service.reading.count_left(at(library)) == 1
        target.client.url = there
        until(lambda: read(library, page), 20)


def test_a_page_that_is_deleted_meanwhile_leaves_nothing(
    library: Library, reader: Scripted, settings: Settings, tmp_path: Path
) -> None:
    page = add_picture(library, 101)
    reader.gate.clear()
    with opened(library, reader, settings, tmp_path) as service:
        service.reading.begin()
        until(lambda: reader.calls, 20)
        assert service.delete_pages(at(library), [page]) == [page]
        reader.gate.set()
        later = add_picture(library, 102)
        until(lambda: read(library, later), 20)
        assert library.database.fetch_one("SELECT count(*) FROM lines WHERE page = ?", [page])[0] == 0
        assert not library.unread.keep_lines(page, [Line("late")]) and not library.unread.keep_lines(later, [])


def test_a_page_stops_in_the_middle_and_goes_on_with_its_next_start(
    library: Library, store: LibraryOpener, reader: Scripted, settings: Settings, tmp_path: Path
) -> None:
    pages = [add_picture(library, 101 + number) for number in range(4)]
    with opened(library, reader, settings, tmp_path) as service:
        service.reading.begin()
        until(lambda: read(library, pages[0]), 20)
        reader.gate.clear()
    library = store.open(tmp_path / "library")
    with opened(library, reader, settings, tmp_path) as service:
        service.reading.begin()
        until(lambda: all(read(library, page) for page in pages), 20)


def test_a_library_that_must_not_be_changed_is_left_alone(
    library: Library, reader: Scripted, settings: Settings, tmp_path: Path
) -> None:
    add_picture(library, 101)
    with opened(library, reader, settings, tmp_path) as service:
        library.read_only = True
        service.reading.begin()
        assert service.reading.count_left(at(library)) == 0 and service.reading._thread is None
