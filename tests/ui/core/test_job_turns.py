"""Jobs beside each other, against a real worker with the scripted embedder: whose pages come when, and how many."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from serving.client import EmbeddingClient
from serving.errors import BusyError, ReadOnlyError
from serving.library.database import LibraryError
from serving.library.library import Library
from tests.support.files import encoded, pdf, picture
from tests.support.libraries import at, held, made
from tests.support.servers import ScriptedWorker, make_settings
from tests.support.uploads import upload
from tests.support.waiting import until
from ui.access.uploads import Upload
from ui.core.jobs import IngestJob
from ui.core.service import Service
from ui.servers.target import Target, Targets


@contextmanager
def opened(scripted: ScriptedWorker, folder: Path, **limits: object) -> Iterator[Service]:
    targets = Targets([Target(EmbeddingClient(scripted.url, deadline_s=20), "scripted")])
    with closing(Service(targets, Library(folder / "library"), make_settings(folder, **limits))) as service:
        yield service
        scripted.embedder.gate.set()


def booklet(folder: Path, name: str, pages: int) -> Upload:
    return upload(folder, f"{name}.pdf", pdf([[f"{name} page {n}"] for n in range(1, pages + 1)]))


def finish(*jobs: IngestJob) -> None:
    for job in jobs:
        assert job.finished.wait(60) and job.state == "done"


def list_embedded(scripted: ScriptedWorker) -> list[str]:
    return [text.split()[0] for batch in scripted.embedder.calls for text in batch]


@pytest.mark.parametrize("where", ["another owner", "another collection", "the same collection"])
def test_a_small_job_gets_its_turns_while_a_manual_runs(scripted: ScriptedWorker, tmp_path: Path, where: str) -> None:
    with opened(scripted, tmp_path, cores=2) as service:
        scripted.embedder.seconds = 0.01
        manual = service.ingestor.start(made(service.library), [booklet(tmp_path, "manual", 50)])
        until(lambda: len(manual.added) >= 5)
        scripted.embedder.gate.clear()
        key = {
            "another owner": lambda: service.library.create_collection("d", "somebody").key,
            "another collection": lambda: made(service.library, "d"),
            "the same collection": lambda: at(service.library),
        }[where]()
        small = service.ingestor.start(key, [booklet(tmp_path, "small", 6)])
        until(lambda: small.total == 6)
        before = len(list_embedded(scripted))
        scripted.embedder.gate.set()
        finish(small)
        assert not manual.finished.is_set()
        finish(manual)
        order = list_embedded(scripted)[before:]
        last = max(place for place, name in enumerate(order) if name == "small")
        # Its own pages, as many of the manual, and those that had been taken before.
        assert last < 6 + 6 + 2 * (2 * service.settings.pages_ahead + 1), order[:40]
        assert len(manual.added) == 50 and len(small.added) == 6


def test_an_owner_of_many_jobs_gets_no_more_turns_than_an_owner_of_one(
    scripted: ScriptedWorker, tmp_path: Path
) -> None:
    with opened(scripted, tmp_path, cores=2) as service:
        scripted.embedder.gate.clear()
        many = service.library.create_collection("many", "one").key
        few = service.library.create_collection("few", "two").key
        jobs = [service.ingestor.start(many, [booklet(tmp_path, f"many-{n}", 12)]) for n in range(4)]
        jobs.append(service.ingestor.start(few, [booklet(tmp_path, "few", 12)]))
        until(lambda: all(job.total == 12 for job in jobs))
        scripted.embedder.gate.set()
        finish(*jobs)
        order = list_embedded(scripted)
        last = max(place for place, name in enumerate(order) if name == "few")
        # A single job draws no more pages at once than leave some processes to others: not quite every other turn.
        assert last < 12 + 18 + 2 * (2 * service.settings.pages_ahead + 1), order


def test_pages_in_flight_are_few_whatever_the_number_of_jobs(
    scripted: ScriptedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(scripted, tmp_path, cores=2) as service:
        at_once, most, counting = 0, 0, threading.Lock()
        client = service.targets.first.client
        real = client.embed_pages

        def embed_pages(*given: Any, **named: Any) -> Any:
            nonlocal at_once, most
            with counting:
                at_once += 1
                most = max(most, at_once)
            try:
                return real(*given, **named)
            finally:
                with counting:
                    at_once -= 1

        monkeypatch.setattr(client, "embed_pages", embed_pages)
        scripted.embedder.seconds = 0.02
        keys = [service.library.create_collection("c", f"owner {n}").key for n in range(8)]
        finish(*[service.ingestor.start(key, [booklet(tmp_path, f"b{n}", 5)]) for n, key in enumerate(keys)])
        assert most == service.settings.pages_ahead + 1


def test_one_upload_too_many_is_refused_and_says_what_to_do(scripted: ScriptedWorker, tmp_path: Path) -> None:
    with opened(scripted, tmp_path, max_owner_jobs=2, max_waiting_jobs=3) as service:
        scripted.embedder.gate.clear()
        own, key = [booklet(tmp_path, "a", 2)], made(service.library)
        first = [service.ingestor.start(key, own) for _ in range(2)]
        with pytest.raises(BusyError, match="2 uploads are waiting already: wait for one of them, or cancel it"):
            service.ingestor.start(key, own)
        others = [service.library.create_collection("d", owner).key for owner in ("one", "two")]
        first.append(service.ingestor.start(others[0], own))
        with pytest.raises(BusyError, match="3 uploads of all visitors are waiting: try again later"):
            service.ingestor.start(others[1], own)
        assert len(service.library.jobs.list_all()) == 3
        scripted.embedder.gate.set()
        finish(*first)
        finish(service.ingestor.start(others[1], own))


def test_a_read_only_page_starts_none(scripted: ScriptedWorker, tmp_path: Path) -> None:
    with opened(scripted, tmp_path) as service:
        key = made(service.library)
        service.library.read_only = True
        with pytest.raises(ReadOnlyError):
            service.ingestor.start(key, [booklet(tmp_path, "a", 2)])
        assert service.ingestor.recent_jobs(key) == []


def test_a_file_that_is_dropped_in_twice_is_embedded_once(scripted: ScriptedWorker, tmp_path: Path) -> None:
    with opened(scripted, tmp_path, cores=2) as service:
        scripted.embedder.gate.clear()
        file, key = booklet(tmp_path, "a", 20), made(service.library)
        jobs = [service.ingestor.start(key, [file]) for _ in range(2)]
        until(lambda: all(job.total == 20 for job in jobs))
        scripted.embedder.gate.set()
        finish(*jobs)
        assert len(list_embedded(scripted)) == 20 == service.library.catalogue.read_collection(key).pages
        assert sum(len(job.added) for job in jobs) == 20 and all(job.done == 20 for job in jobs)
        assert all(item.known for job in jobs for item in job.skipped) and not any(job.can_retry for job in jobs)


def test_pause_begins_no_further_page_and_resume_goes_on(scripted: ScriptedWorker, tmp_path: Path) -> None:
    with opened(scripted, tmp_path, cores=2) as service:
        scripted.embedder.seconds = 0.01
        job = service.ingestor.start(made(service.library), [booklet(tmp_path, "a", 30)])
        until(lambda: len(job.added) >= 5)
        service.ingestor.pause(job)
        in_flight = 2 * service.settings.pages_ahead + 1
        paused = job.done
        other = service.ingestor.start(made(service.library, "d"), [booklet(tmp_path, "b", 10)])
        finish(other)
        assert job.state == "paused" and job.done <= paused + in_flight and job.seconds_left is None
        seconds = job.seconds
        assert job.seconds == seconds and service.ingestor.active_job(job.collection) is job
        service.ingestor.pause(job)
        service.ingestor.resume(job)
        service.ingestor.resume(job)
        finish(job)
        assert sorted(page.page for page in job.added) == list(range(1, 31))
        service.ingestor.pause(job)
        assert job.state == "done", "one that has ended stays as it is"


def test_a_paused_job_can_be_cancelled_before_and_after_it_was_opened(scripted: ScriptedWorker, tmp_path: Path) -> None:
    with opened(scripted, tmp_path, cores=2) as service:
        scripted.embedder.seconds = 0.01
        begun = service.ingestor.start(made(service.library), [booklet(tmp_path, "a", 60)])
        until(lambda: len(begun.added) >= 3)
        for job in (begun, service.ingestor.start(made(service.library), [booklet(tmp_path, "b", 5)])):
            service.ingestor.pause(job)
            service.ingestor.cancel_job(job)
            assert job.finished.wait(20) and job.state == "cancelled" and not job.can_retry
        assert service.ingestor.active_job(at(service.library)) is None


# What was skipped, once more


def test_only_what_was_skipped_is_tried_again(scripted: ScriptedWorker, tmp_path: Path) -> None:
    with opened(scripted, tmp_path, cores=2) as service:
        pages = [["fine one"], ["unreadable two"], ["fine three"], ["unreadable four"]]
        files = [upload(tmp_path, "a.pdf", pdf(pages)), upload(tmp_path, "b.png", encoded(picture()))]
        job = service.ingestor.start(made(service.library), [*files, upload(tmp_path, "c.png", b"no picture")])
        finish(job)
        assert {(item.upload, item.file) for item in job.failures} == {
            (0, "a.pdf, page 2"), (0, "a.pdf, page 4"), (2, "c.png"),
        }  # fmt: skip
        service.delete_pages(at(service.library), [page.id for page in job.added if page.page == 1])
        assert service.ingestor.recent_jobs(at(service.library)) == [job], "it can still be tried again"
        files[0].path.write_bytes(pdf([["fine one"], ["fine two"], ["fine three"], ["fine four"]]))
        calls = len(scripted.embedder.calls)
        again = service.ingestor.retry(job)
        finish(again)
        embedded = [text for batch in scripted.embedder.calls[calls:] for text in batch]
        assert sorted(embedded) == ["fine four", "fine two"] and again.total == again.done == 2
        assert [item.file for item in again.skipped] == ["c.png"] and again.can_retry and not job.can_retry
        service.ingestor.cancel_job(again)
        assert not again.can_retry
        with pytest.raises(Exception, match="add the files again"):
            service.ingestor.retry(again)


def put_into_uploads(service: Service, name: str, data: bytes) -> Upload:
    folder = (service.settings.data / "uploads" / ("0" * 64)).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return upload(folder, name, data)


def test_files_of_what_was_skipped_are_kept_for_a_while_and_the_others_go(
    scripted: ScriptedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(scripted, tmp_path, retry_s=1000.0, retry_bytes=1024) as service:
        kept = service.settings.data / "uploads-kept"
        good = put_into_uploads(service, "good.png", encoded(picture()))

        def add(size: int) -> IngestJob:
            bad = put_into_uploads(service, f"bad-{size}.png", b"x" * size)
            job = service.ingestor.start(made(service.library), [good, bad])
            finish(job)
            return job

        first = add(600)
        assert [path.name for path in (kept / first.id).iterdir()] == ["000001"] and first.can_retry
        assert good.path.exists(), "a call may name it again"
        second = add(500)
        service.ingestor.forget_old()
        assert second.can_retry and not first.can_retry, "the oldest goes first"
        assert [path.name for path in kept.iterdir()] == [second.id]
        third = service.ingestor.retry(second)
        finish(third)
        assert [path.name for path in kept.iterdir()] == [third.id]
        monkeypatch.setattr("ui.core.ingest.time.time", lambda now=third.keep_until: now + 1)
        service.ingestor.forget_old()
        assert not third.can_retry and not any(kept.iterdir())
        assert service.ingestor.recent_jobs(at(service.library)) == []


def test_files_to_try_again_outlive_a_cancel_of_others_and_go_with_the_collection(
    scripted: ScriptedWorker, tmp_path: Path
) -> None:
    with opened(scripted, tmp_path) as service:
        key = made(service.library)
        job = service.ingestor.start(key, [put_into_uploads(service, "bad.png", b"no picture")])
        finish(job)
        service.ingestor.cancel(key)
        assert job.can_retry and any((tmp_path / "uploads-kept").iterdir())
        service.delete_collection(key)
        assert not job.can_retry and not any((tmp_path / "uploads-kept").iterdir())


def test_a_pause_that_cannot_be_written_down_is_none(scripted: ScriptedWorker, tmp_path: Path) -> None:
    with opened(scripted, tmp_path) as service:
        scripted.embedder.gate.clear()
        job = service.ingestor.start(made(service.library), [booklet(tmp_path, "a", 5)])
        until(lambda: job.state == "running" and job.total == 5)
        service.library.database.connection.execute("PRAGMA busy_timeout = 50")
        with held(service.library.folder / "library.db"), pytest.raises(LibraryError, match="another program holds"):
            service.ingestor.pause(job)
        assert job.state == "running"
        scripted.embedder.gate.set()
        finish(job)


def test_an_upload_that_cannot_be_kept_is_told(
    scripted: ScriptedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(scripted, tmp_path) as service:
        given = put_into_uploads(service, "a.png", encoded(picture()))

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("ui.core.kept_uploads.link_or_copy", full)
        with pytest.raises(Exception, match="the upload could not be kept: No space left"):
            service.ingestor.start(made(service.library), [given])
        assert not any((tmp_path / "uploads-kept").iterdir()) and service.library.jobs.list_all() == []


def test_it_is_copied_where_no_links_can_be_made(
    scripted: ScriptedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(scripted, tmp_path) as service:
        monkeypatch.delattr("os.link")
        finish(service.ingestor.start(made(service.library), [put_into_uploads(service, "a.png", encoded(picture()))]))
        assert service.library.catalogue.find_collection("c").pages == 1
        assert not any((tmp_path / "uploads-kept").iterdir())
