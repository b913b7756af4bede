"""A job whose pages go to a real PostgreSQL, which is killed in the middle of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from serving.client import EmbeddingClient
from serving.library.database import StoreUnavailableError
from serving.library.library import Library
from serving.settings import Settings
from tests.support.files import pdf
from tests.support.libraries import made
from tests.support.postgres import PostgresServer
from tests.support.servers import ScriptedWorker
from tests.support.stores import list_pictures
from tests.support.uploads import upload
from tests.support.waiting import until
from ui.core.service import Service
from ui.search.job_buttons import JobActions
from ui.servers.target import Target, Targets

PAGES = 40


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


def open_service(server: PostgresServer, scripted: ScriptedWorker, settings: Settings) -> Service:
    targets = Targets([Target(EmbeddingClient(scripted.url, deadline_s=20), "scripted")])
    service = Service(targets, Library(settings.data, address=server.address()), settings)
    service.ingestor.continue_jobs()
    return service


def test_an_ingest_waits_for_its_store_and_goes_on(
    server: PostgresServer, scripted: ScriptedWorker, settings: Settings, tmp_path: Path
) -> None:
    with closing(open_service(server, scripted, settings)) as service:
        library, key = service.library, made(service.library)
        document = upload(tmp_path, "a.pdf", pdf([[f"Words of page {n}"] for n in range(PAGES)]))
        job = service.ingestor.start(key, [document])
        for added in (3, 20):
            until(lambda added=added: len(job.added) >= added, 60)
            server.kill()
            assert not job.finished.wait(1.5)
            server.start()
        assert job.finished.wait(60) and (job.state, job.error, job.skipped) == ("done", "", [])
        pages = library.catalogue.read_pages(library.catalogue.list_page_ids(key))
        assert sorted(page.page for page in pages.values()) == list(range(1, PAGES + 1))
        assert {page.id for page in job.added} == set(pages) == list_pictures(library)


def test_a_page_that_stops_while_its_store_is_gone_goes_on_with_its_next_start(
    server: PostgresServer, scripted: ScriptedWorker, settings: Settings, tmp_path: Path
) -> None:
    with closing(open_service(server, scripted, settings)) as service:
        document = upload(tmp_path, "a.pdf", pdf([[f"Words of page {n}"] for n in range(PAGES)]))
        job = service.ingestor.start(made(service.library), [document])
        until(lambda: len(job.added) >= 3, 60)
        server.kill()
    assert job.state == "stopped"
    server.start()
    with closing(open_service(server, scripted, settings)) as service:
        (again,) = service.ingestor.recent_jobs(made(service.library))
        assert again.finished.wait(60) and again.state == "done" and len(again.added) == PAGES


def test_a_cancel_that_cannot_be_written_down_is_refused_and_works_once_the_store_is_back(
    server: PostgresServer, scripted: ScriptedWorker, settings: Settings, tmp_path: Path
) -> None:
    with closing(open_service(server, scripted, settings)) as service:
        key = made(service.library)
        job = service.ingestor.start(key, [upload(tmp_path, "a.pdf", pdf([["Words"]] * PAGES))])
        until(lambda: len(job.added) >= 3, 60)
        server.kill()
        with pytest.raises(StoreUnavailableError, match="works again by itself") as refused:
            service.ingestor.cancel_job(job)
        assert "The upload was not cancelled" in str(JobActions(service).cancel("c"))
        assert refused.value.status == 503 and not job.cancelled.is_set(), "another machine would go on with it"
        server.start()
        service.ingestor.cancel_job(job)
        assert job.finished.wait(30) and job.state == "cancelled"
        row = service.library.jobs.read(job.id)
        assert row is not None and (row.state, bool(row.ended)) == ("cancelled", True)
