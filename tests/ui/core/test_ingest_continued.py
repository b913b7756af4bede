"""Jobs that go on after a restart of the page, killed or stopped in the middle: real processes, real SQLite.

The worker outside has the scripted embedder.
"""

from __future__ import annotations

import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from serving.client import EmbeddingClient
from serving.http.child_server import ServerProcess
from serving.library.jobs import JobFile, JobRow
from serving.library.library import Library
from serving.library.records import CollectionKey
from tests.support.files import encoded, pdf, picture
from tests.support.libraries import at, held, made
from tests.support.servers import ScriptedWorker, make_settings
from tests.support.uploads import upload
from tests.support.waiting import until
from ui.core.jobs import IngestJob
from ui.core.service import Service
from ui.servers.target import Target, Targets

PAGES = 40


@contextmanager
def opened(scripted: ScriptedWorker, folder: Path, name: str = "scripted", **settings: object) -> Iterator[Service]:
    """A page's service over the folder, once it has gone on with the jobs that it found."""
    targets = Targets([Target(EmbeddingClient(scripted.url, deadline_s=20), name)])
    with closing(Service(targets, Library(folder / "library"), make_settings(folder, **settings))) as service:
        service.ingestor.continue_jobs()
        yield service
        scripted.embedder.gate.set()


def finish(job: IngestJob, state: str = "done") -> None:
    assert job.finished.wait(60) and job.state == state, job.error


def begin(service: Service, folder: Path, pages: int = PAGES) -> IngestJob:
    words = [["unreadable"] if n == 2 else [f"Words of page {n}"] for n in range(1, pages + 1)]
    return service.ingestor.start(made(service.library), [upload(folder, "a.pdf", pdf(words))])


def stop_in_the_middle(scripted: ScriptedWorker, service: Service, job: IngestJob, pages: int = 6) -> int:
    """Return how many pages were added when the page had stopped."""
    until(lambda: len(job.added) >= pages and len(job.skipped) == 1, 30)
    scripted.embedder.gate.clear()
    closing_it = threading.Thread(target=service.close)
    closing_it.start()
    scripted.embedder.gate.set()
    closing_it.join(30)
    assert job.finished.is_set() and job.state == "stopped"
    return len(job.added)


def list_pages(library: Library) -> list[tuple[str, int]]:
    found = library.database.fetch_all("SELECT file, page FROM pages ORDER BY file, page")
    return [(str(file), int(page)) for file, page in found]


# Processes


@contextmanager
def calls(url: str) -> Iterator[Callable[..., Any]]:
    """The page's API: a function that calls one endpoint by its name."""
    with closing(Client(url, verbose=False)) as client:
        yield lambda name, *given: client.predict(*given, api_name=f"/{name}")


def acknowledged(data: Path) -> set[str]:
    with closing(sqlite3.connect(f"{(data / 'library.db').as_uri()}?mode=ro", uri=True)) as db:
        return {page_id for (page_id,) in db.execute("SELECT id FROM pages")}


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_a_page_process_that_ends_in_the_middle_goes_on_with_its_next_start(
    scripted: ScriptedWorker, tmp_path: Path, how: signal.Signals
) -> None:
    scripted.embedder.seconds = 0.05
    file, data = tmp_path / "manual.pdf", tmp_path / "data"
    words = [["unreadable"] if n == 2 else [f"Words of page {n}"] for n in range(1, PAGES + 1)]
    file.write_bytes(pdf(words))
    arguments = ["--no-browser", "--data", str(data), "--worker", f"scripted={scripted.url}"]
    with ServerProcess("ui.app", arguments) as page, closing(Client(page.wait(), verbose=False)) as client:
        client.submit([handle_file(file)], "c", api_name="/add_pages")
        until(lambda: (data / "library.db").exists() and len(acknowledged(data)) >= 8, 60)
        (page.kill if how is signal.SIGKILL else page.terminate)()
        until(lambda: not page.running, 30)
    before, asked = acknowledged(data), len(scripted.embedder.calls)
    assert 8 <= len(before) < PAGES - 1
    assert len([path for path in (data / "uploads-kept").rglob("*") if path.is_file()]) == 1
    scripted.embedder.gate.clear()
    with ServerProcess("ui.app", arguments) as page, calls(page.wait()) as call:
        (found,) = call("jobs", "c")["jobs"]
        assert found["continued"] and found["state"] in ("waiting", "running") and found["total"] == PAGES
        assert len(before) <= found["added"] <= found["done"] <= len(before) + 1
        scripted.embedder.gate.set()
        until(lambda: call("jobs", "c")["jobs"][0]["state"] == "done", 60)
        (found,) = call("jobs", "c")["jobs"]
        assert (found["added"], found["done"], found["total"]) == (PAGES - 1, PAGES, PAGES)
        assert [item["file"] for item in found["skipped"]] == ["manual.pdf, page 2"] and found["can_retry"]
        assert call("cancel_job", found["job"])["can_retry"] is False
        assert not any((data / "uploads-kept").iterdir())
    assert before < acknowledged(data) and len(acknowledged(data)) == PAGES - 1
    with closing(Library(data)) as library:
        assert list_pages(library) == [("manual.pdf", n) for n in range(1, PAGES + 1) if n != 2]
    # Those that were with the worker when it was killed are embedded again, all others once.
    assert sum(map(len, scripted.embedder.calls[asked:])) <= PAGES - len(before) + 1


# Services that follow each other


def test_it_goes_on_where_it_stopped(scripted: ScriptedWorker, tmp_path: Path) -> None:
    with opened(scripted, tmp_path) as service:
        scripted.embedder.seconds = 0.02
        job = begin(service, tmp_path)
        added = stop_in_the_middle(scripted, service, job)
    seen = len(scripted.embedder.calls)
    scripted.embedder.gate.clear()
    with opened(scripted, tmp_path) as service:
        (again,) = service.ingestor.recent_jobs(at(service.library))
        assert again.id == job.id and again.continued and not again.finished.is_set()
        assert len(again.added) == added and again.done == added + 1 and again.total == PAGES
        assert again.seconds > 0 and [item.file for item in again.skipped] == ["a.pdf, page 2"]
        scripted.embedder.gate.set()
        finish(again)
        assert again.done == again.total == PAGES and len(again.added) == PAGES - 1
        embedded = [text for batch in scripted.embedder.calls[seen:] for text in batch]
        assert len(embedded) == PAGES - 1 - added and "unreadable" not in embedded, "what was dealt with is dealt with"
        assert [item.file for item in again.skipped] == ["a.pdf, page 2"]
    with opened(scripted, tmp_path) as service:
        (ended,) = service.ingestor.recent_jobs(at(service.library))
        assert ended.finished.is_set() and ended.state == "done" and ended.can_retry and len(ended.added) == PAGES - 1
        service.delete_collection(at(service.library))
        assert service.library.jobs.list_all() == []


def test_what_was_deleted_meanwhile_does_not_come_back(scripted: ScriptedWorker, tmp_path: Path) -> None:
    with opened(scripted, tmp_path) as service:
        scripted.embedder.seconds = 0.02
        job = begin(service, tmp_path)
        until(lambda: len(job.added) >= 3)
        gone = job.added[0]
        service.delete_pages(at(service.library), [gone.id])
        stop_in_the_middle(scripted, service, job)
    with opened(scripted, tmp_path) as service:
        (again,) = service.ingestor.recent_jobs(at(service.library))
        finish(again)
        assert again.done == PAGES
        assert list_pages(service.library) == [("a.pdf", n) for n in range(1, PAGES + 1) if n not in (2, gone.page)]


def test_a_paused_job_stays_paused(scripted: ScriptedWorker, tmp_path: Path) -> None:
    with opened(scripted, tmp_path) as service:
        scripted.embedder.seconds = 0.02
        job = begin(service, tmp_path)
        until(lambda: len(job.added) >= 3)
        service.ingestor.pause(job)
    calls = len(scripted.embedder.calls)
    with opened(scripted, tmp_path) as service:
        (again,) = service.ingestor.recent_jobs(at(service.library))
        other = service.ingestor.start(made(service.library, "d"), [upload(tmp_path, "b.png", encoded(picture()))])
        finish(other)
        assert again.state == "paused" and len(scripted.embedder.calls) == calls + 1
        service.ingestor.resume(again)
        finish(again)
        assert len(again.added) == PAGES - 1


def test_one_that_tries_again_goes_on_with_that_only(scripted: ScriptedWorker, tmp_path: Path) -> None:
    with opened(scripted, tmp_path) as service:
        finish(job := begin(service, tmp_path, 5))
        service.delete_pages(at(service.library), [page.id for page in job.added])
        scripted.embedder.gate.clear()
        calls = len(scripted.embedder.calls)
        service.ingestor.retry(job)
        until(lambda: len(scripted.embedder.calls) > calls)
        stopping = threading.Thread(target=service.close)
        stopping.start()
        service.ingestor.stop()
        scripted.embedder.gate.set()
        stopping.join(30)
    with opened(scripted, tmp_path) as service:
        again = service.ingestor.recent_jobs(at(service.library))[-1]
        finish(again)
        assert again.only == {(0, "a.pdf, page 2")} and again.added == [] and again.total == 1


def test_one_whose_files_are_gone_says_so(scripted: ScriptedWorker, tmp_path: Path) -> None:
    """As with the disk of a container that ended, while its rows came with the backup of the library."""
    with opened(scripted, tmp_path) as service:
        scripted.embedder.seconds = 0.02
        stop_in_the_middle(scripted, service, job := begin(service, tmp_path))
    job.uploads[0].path.unlink()
    with opened(scripted, tmp_path) as service:
        (again,) = service.ingestor.recent_jobs(at(service.library))
        finish(again, "failed")
        assert again.error == "its files are gone: add them again" and not again.can_retry and again.added
    with opened(scripted, tmp_path) as service:
        (again,) = service.ingestor.recent_jobs(at(service.library))
        assert again.state == "failed" and again.finished.is_set(), "it is told, and not tried again"


def test_rows_and_files_that_belong_to_nothing_are_swept(scripted: ScriptedWorker, tmp_path: Path) -> None:
    orphan = tmp_path / "uploads-kept" / ("0" * 32)
    orphan.mkdir(parents=True)
    (orphan / "000000").write_bytes(b"of a job whose row was never written")
    with opened(scripted, tmp_path) as service:
        assert not orphan.exists()
        key = made(service.library)
        old = JobRow("1" * 32, key, "", "scripted", "waiting", "", 0, 1.0, 0, 0, (JobFile("gone", "a.png"),))
        service.library.jobs.create(old)
        service.library.jobs.end(old.id, "done", "", 0, [])
        with service.library.database.transaction() as db:
            db.execute("UPDATE jobs SET ended = 2")
        with pytest.raises(Exception, match="no such collection"):
            service.library.jobs.create(replace(old, id="2" * 32, collection=CollectionKey("c-" + 32 * "0")))
    with opened(scripted, tmp_path) as service:
        assert service.library.jobs.list_all() == [] and service.ingestor.recent_jobs(at(service.library)) == []


def test_a_read_only_page_leaves_jobs_and_files_to_the_next_one(scripted: ScriptedWorker, tmp_path: Path) -> None:
    with opened(scripted, tmp_path) as service:
        scripted.embedder.seconds = 0.02
        added = stop_in_the_middle(scripted, service, begin(service, tmp_path))
    with opened(scripted, tmp_path, read_only=True) as service:
        assert service.ingestor.recent_jobs(at(service.library)) == [] and len(list_pages(service.library)) == added
    with opened(scripted, tmp_path, "another name of the server") as service:
        (again,) = service.ingestor.recent_jobs(at(service.library))
        finish(again)
        assert again.target is service.targets.first and len(list_pages(service.library)) == PAGES - 1


def test_an_end_that_cannot_be_written_down_is_met_again(
    scripted: ScriptedWorker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(scripted, tmp_path) as service:
        service.library.database.connection.execute("PRAGMA busy_timeout = 50")
        scripted.embedder.gate.clear()
        job = begin(service, tmp_path)
        until(lambda: bool(scripted.embedder.calls))
        with held(service.library.folder / "library.db"):
            scripted.embedder.gate.set()
            finish(job, "failed")
        assert "could not be written down" in caplog.text
    with opened(scripted, tmp_path) as service:
        (again,) = service.ingestor.recent_jobs(at(service.library))
        finish(again)
        assert len(list_pages(service.library)) == PAGES - 1
