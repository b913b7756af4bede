"""The sample pages that are loaded with the vectors that ship: what is added, and that these are the embedder's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from serving.client import EmbeddingClient, PagePayload
from serving.documents.files import open_file
from serving.documents.images import encode_jpeg
from serving.documents.parser_pool import Parse
from serving.embedders.builtin.embedder import BuiltinEmbedder, compute_fingerprint
from serving.errors import NotReadyError, UnreadableError
from serving.library.database import LibraryError
from serving.library.rows import insert_rows
from serving.settings import Settings
from serving.system.files import hash_file
from tests.support.files import encoded, picture
from tests.support.libraries import at, made
from tests.support.servers import ScriptedWorker
from tests.support.stores import list_pictures
from tests.support.uploads import run, upload
from ui.core import sample_loader
from ui.core.background_task import StoppedError
from ui.core.sample_loader import SAMPLES_READ, read_shipped_fingerprint
from ui.core.sample_pages import SAMPLE_FOLDER, SAMPLE_PAGES, list_sample_files
from ui.core.service import Question, Service

NEW = "the built-in embedder has changed: run `make samples`, so that the vectors that ship are its own"


@pytest.fixture
def builtin(service: Service, scripted: ScriptedWorker, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A page whose server says that it is the built-in embedder."""
    monkeypatch.setattr(scripted.embedder, "fingerprint", compute_fingerprint())
    monkeypatch.setattr(scripted.embedder, "dimension", BuiltinEmbedder.dimension)
    monkeypatch.setattr(scripted.embedder, "dimensions", BuiltinEmbedder.dimensions)
    return service


def test_what_ships_is_of_the_embedder_as_it_is_now(settings: Settings) -> None:
    assert read_shipped_fingerprint(settings) == compute_fingerprint(), NEW


def test_what_ships_is_of_the_sample_files_as_they_are_now() -> None:
    with ZipFile(SAMPLES_READ) as archive:
        pages = [json.loads(line) for line in archive.read("pages.jsonl").splitlines()]
    files = {path.name: hash_file(path) for path in list_sample_files()}
    assert len(pages) == SAMPLE_PAGES and {page["file"]: page["sha256"] for page in pages} == files
    assert [page["file"] for page in pages] == sorted(page["file"] for page in pages)


@pytest.mark.soak
def test_the_embedder_computes_what_ships(service: Service, builtin_url: str, settings: Settings, parse: Parse) -> None:
    service.samples.load(key := made(service.library))
    client = EmbeddingClient(builtin_url, deadline_s=120)
    assert client.fetch_info().fingerprint == read_shipped_fingerprint(settings)
    chosen = ("handbook-tarnwell-pump.pdf", "receipt-corner-larder.jpg", "mapa-sendero-de-los-tejos.jpg")
    for path in (path for path in list_sample_files() if path.name in chosen):
        page = open_file(path, settings, parse).read(0)
        assert page.image is not None
        answer = client.embed_pages([PagePayload(encode_jpeg(page.image), page.lines)], explain=True)
        catalogue = service.library.catalogue
        (page_id,) = (
            one for one in catalogue.list_file_pages(key, [hash_file(path)]) if catalogue.read_page(one).page == 1
        )
        shipped, _ = catalogue.read_vector(key, page_id)
        assert float(shipped @ answer.vectors[0] / np.linalg.norm(shipped)) >= 0.999, f"{path.name}: {NEW}"
        assert answer.pages[0].lines == catalogue.read_lines(page_id), f"{path.name}: {NEW}"
    client.close()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)  # a server has no files of pages
def test_pages_are_there_without_a_worker_that_is_asked(builtin: Service, scripted: ScriptedWorker) -> None:
    key, seen = made(builtin.library), list[tuple[int, int]]()
    assert builtin.samples.fits(builtin.targets.first) and not builtin.samples.is_loaded(key)
    assert builtin.samples.load(key, lambda *done: seen.append(done)) == SAMPLE_PAGES
    assert seen == [(done, SAMPLE_PAGES) for done in range(1, SAMPLE_PAGES + 1)] and scripted.embedder.calls == []
    assert builtin.library.catalogue.read_collection(key).pages == SAMPLE_PAGES and builtin.samples.is_loaded(key)
    page = next(iter(builtin.library.catalogue.list_page_ids(key)))
    found = builtin.search(Question(like=page), key, 3)
    assert len(found.hits) == 3 and all(
        builtin.library.pictures.read_thumbnail(hit.page.id) is not None for hit in found.hits
    )
    assert builtin.library.catalogue.read_lines(found.hits[0].page.id)
    for one in builtin.library.catalogue.read_pages(builtin.library.catalogue.list_page_ids(key)).values():
        original = builtin.library.find_original(one.id)
        assert original is not None and original[1].read_bytes() == (SAMPLE_FOLDER / one.file).read_bytes()
    assert len(list(builtin.library.originals.folder.iterdir())) == len(list_sample_files())


def test_a_second_load_adds_what_is_missing(builtin: Service) -> None:
    key = made(builtin.library)
    builtin.samples.load(key)
    ids = builtin.library.catalogue.list_page_ids(key)
    assert builtin.samples.load(key) == 0 and builtin.library.catalogue.list_page_ids(key) == ids
    builtin.library.delete_pages(key, ids[:2])
    assert builtin.samples.load(key) == 2
    now = builtin.library.catalogue.list_page_ids(key)
    assert len(now) == SAMPLE_PAGES and set(ids[2:]) < set(now)
    assert len(list_pictures(builtin.library)) == SAMPLE_PAGES


def test_a_load_that_is_stopped_or_fails_adds_nothing(builtin: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    key = made(builtin.library)

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise StoppedError("it was stopped")

    with pytest.raises(StoppedError):
        builtin.samples.load(key, stop)
    monkeypatch.setattr("serving.library.library.insert_rows", fail_at(5))
    with pytest.raises(LibraryError):
        builtin.samples.load(key)
    assert builtin.library.catalogue.list_page_ids(key) == [] and not builtin.samples.is_loaded(key)
    assert list_pictures(builtin.library) == set()
    monkeypatch.undo()
    assert builtin.samples.load(key) == SAMPLE_PAGES


def fail_at(number: int) -> Callable[..., None]:
    """Fail as a full disk does, at a row in the middle."""
    calls = count()

    def insert(*given: Any) -> None:
        if next(calls) == number:
            raise OSError(28, "No space left on device")
        insert_rows(*given)

    return insert


def test_another_server_reads_the_pages_itself(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not service.samples.fits(service.targets.first)
    monkeypatch.setattr(sample_loader, "SAMPLES_READ", tmp_path / "none.zip")
    with pytest.raises(UnreadableError, match=r"none\.zip cannot be read"):
        read_shipped_fingerprint(service.settings)
    assert not service.samples.fits(service.targets.first)


def test_read_again_replaces_the_pages(builtin: Service, scripted: ScriptedWorker, tmp_path: Path) -> None:
    key = made(builtin.library)
    builtin.samples.load(key)
    run(builtin, upload(tmp_path, "own.png", encoded(picture())))
    before = set(builtin.library.catalogue.list_page_ids(key))
    scripted.embedder.calls.clear()
    job = builtin.samples.read_again(key, builtin.targets.first)
    assert job.finished.wait(60) and len(job.added) == SAMPLE_PAGES and not builtin.samples.is_loaded(key)
    now = set(builtin.library.catalogue.list_page_ids(key))
    assert len(now) == SAMPLE_PAGES + 1 and len(now & before) == 1, "only the user's own page is the old one"
    assert sum(map(len, scripted.embedder.calls)) == SAMPLE_PAGES
    assert builtin.samples.load(key) == 0 and not builtin.samples.is_loaded(key), "these are the server's own"


def test_the_pages_stay_where_they_cannot_be_read_again(builtin: Service) -> None:
    builtin.samples.load(key := made(builtin.library))
    builtin.ingestor.stop()
    with pytest.raises(NotReadyError, match="the page is stopping"):
        builtin.samples.read_again(at(builtin.library), builtin.targets.first)
    assert builtin.library.catalogue.read_collection(key).pages == SAMPLE_PAGES and builtin.samples.is_loaded(key)
