"""Jobs of several machines on one database: each is worked on by one, and goes on when that one dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from serving.client import EmbeddingClient
from serving.library.database import LibraryError
from serving.library.library import Library
from tests.support.files import encoded, pdf, picture
from tests.support.libraries import at, made
from tests.support.postgres import PostgresServer
from tests.support.servers import ScriptedWorker, make_settings
from tests.support.uploads import upload
from tests.support.waiting import until
from ui.core.job_sharing import JobSharing
from ui.core.jobs import IngestJob
from ui.core.service import Service
from ui.servers.target import Target, Targets

PAGES = 12
WANTED = [("a.pdf", n) for n in range(1, PAGES + 1) if n != 2]
OpenMachine = Callable[[str], Service]


@pytest.fixture
def open_machine(scripted: ScriptedWorker, tmp_path: Path, postgres: PostgresServer) -> Iterator[OpenMachine]:
    """Opens a page's service as a machine of that name would, all on one database."""
    address = postgres.address(postgres.create_schema())
    with ExitStack() as stack:

        def open_one(name: str) -> Service:
            service = make_service(scripted, tmp_path / name / "data", address)
            stack.callback(service.close)
            service.library.follow_others()
            service.ingestor.continue_jobs()
            return service

        yield open_one
        scripted.embedder.gate.set()


def make_service(scripted: ScriptedWorker, data: Path, address: str) -> Service:
    targets = Targets([Target(EmbeddingClient(scripted.url, deadline_s=20), "scripted")])
    return Service(targets, Library(data, address=address), make_settings(data))


def begin(service: Service, folder: Path, pages: int = PAGES) -> IngestJob:
    words = [["unreadable"] if n == 2 else [f"Words of page {n}"] for n in range(1, pages + 1)]
    return service.ingestor.start(made(service.library), [upload(folder, "a.pdf", pdf(words))])


def find(service: Service) -> IngestJob:
    """Return the one job that a machine knows, once it does."""
    until(lambda: bool(service.ingestor.recent_jobs(at(service.library))), 10)
    (job,) = service.ingestor.recent_jobs(at(service.library))
    return job


def begin_shown(one: Service, other: Service, scripted: ScriptedWorker, folder: Path) -> tuple[IngestJob, IngestJob]:
    """Begin a job at one machine that waits for the embedder, and return it as that one and the other know it."""
    scripted.embedder.gate.clear()
    job = begin(one, folder)
    return job, find(other)


def die(service: Service) -> None:
    """As a machine that loses its power, as far as the others can tell: it does nothing more, and its leases end."""
    service.ingestor._sharing._closing.set()
    service.ingestor._sharing._thread.join()
    service.ingestor.stop()
    service.parsers.close()
    service.ingestor._runner.close()
    with service.library.database.transaction() as db:
        holder = service.library.jobs.leases._holder
        db.execute("UPDATE job_leases SET ends = '-infinity' WHERE holder = ?", [holder])


def list_pages(library: Library) -> list[tuple[str, int]]:
    return library.database.fetch_all("SELECT file, page FROM pages ORDER BY file, page")


def list_rest(library: Library) -> list[tuple[str]]:
    """Return what is left of jobs that have ended with nothing to be tried again."""
    return library.database.fetch_all("SELECT job FROM job_leases UNION ALL SELECT job FROM job_parts")


def test_a_job_is_seen_everywhere_as_it_goes_on(
    open_machine: OpenMachine, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    one, two = open_machine("one"), open_machine("two")
    job, seen = begin_shown(one, two, scripted, tmp_path)
    assert seen.id == job.id and not seen.finished.is_set() and [upload.name for upload in seen.uploads] == ["a.pdf"]
    scripted.embedder.gate.set()
    assert job.finished.wait(30) and seen.finished.wait(10)
    assert find(two) is seen and (seen.state, len(seen.added), seen.done, seen.total) == ("done", 11, 12, 12)
    assert [item.file for item in seen.skipped] == ["a.pdf, page 2"] and seen.can_retry
    again = two.ingestor.retry(seen)
    assert again.finished.wait(30) and again.state == "done" and again.only == {(0, "a.pdf, page 2")}
    two.ingestor.cancel_job(again)
    until(lambda: list_rest(one.library) == [], 10)
    assert list_pages(two.library) == WANTED and sum(map(len, scripted.embedder.calls)) >= 12


def test_what_is_chosen_on_one_page_is_done_by_the_machine_that_works(
    open_machine: OpenMachine, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    one, two = open_machine("one"), open_machine("two")
    scripted.embedder.seconds = 0.2
    job = begin(one, tmp_path, 90)
    seen = find(two)
    two.ingestor.pause(seen)
    until(lambda: job.state == "paused", 10)
    two.ingestor.resume(seen)
    until(lambda: job.state == "running", 10)
    one.ingestor.pause(job)
    until(lambda: seen.state == "paused", 10)
    two.ingestor.cancel_job(seen)
    assert job.finished.wait(10) and job.state == "cancelled"
    assert seen.finished.wait(10) and seen.state == "cancelled" and list_rest(one.library) == []


def test_jobs_of_a_machine_that_died_go_on_at_the_others_each_at_one(
    open_machine: OpenMachine, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    first = open_machine("first")
    scripted.embedder.gate.clear()
    uploads = [upload(tmp_path, f"{n}.png", encoded(picture((40 + n, 30)))) for n in range(12)]
    jobs = [first.ingestor.start(made(first.library), [one]) for one in uploads]
    dying = threading.Thread(target=die, args=[first])
    dying.start()
    until(lambda: first.ingestor._runner._stopping)
    scripted.embedder.gate.set()
    dying.join()
    added = len(list_pages(first.library))
    for one in uploads:
        one.path.unlink()
    others = [open_machine("two"), open_machine("three")]
    for other in others:
        until(lambda other=other: all(job.finished.is_set() for job in other.ingestor._jobs), 30)
        assert sorted(job.id for job in other.ingestor._jobs) == sorted(job.id for job in jobs)
        assert {job.state for job in other.ingestor._jobs} == {"done"}
    assert added < 12 and list_pages(first.library) == sorted((f"{n}.png", 1) for n in range(12))
    assert list_rest(first.library) == []
    assert sum(map(len, scripted.embedder.calls)) <= 12 + 3, "only what was with the worker is embedded again"


def test_a_job_that_has_ended_is_never_shown_as_one_that_goes_on(
    open_machine: OpenMachine, scripted: ScriptedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is read again, as after any change of it by another machine, while a page looks at it."""
    one, two = open_machine("one"), open_machine("two")
    job, seen = begin_shown(one, two, scripted, tmp_path)
    scripted.embedder.gate.set()
    assert job.finished.wait(30) and seen.finished.wait(10)
    row = two.library.jobs.read(job.id)
    assert row is not None
    states: list[object] = []

    def note(changed: IngestJob, name: str, value: object) -> None:
        object.__setattr__(changed, name, value)
        if changed is seen and changed.finished.is_set():
            states.append(changed.state)

    monkeypatch.setattr(IngestJob, "__setattr__", note)
    two.ingestor.show(row)
    assert set(states) == {"done"} and seen.finished.is_set()


def test_a_machine_that_comes_too_late_leaves_its_job_to_who_has_it(
    open_machine: OpenMachine, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    """As one that slept: it was taken for dead, and wakes up with the job in hand."""
    one, two = open_machine("one"), open_machine("two")
    scripted.embedder.seconds = 0.1
    job = begin(one, tmp_path)
    until(lambda: len(job.added) >= 2)
    with two.library.database.transaction() as db:
        db.execute("UPDATE job_leases SET holder = ?", [two.library.jobs.leases._holder])
    assert job.finished.wait(30) and (job.state, len(job.added)) == ("done", 11)
    assert find(two).finished.wait(10) and find(two).continued and not job.continued
    assert list_pages(one.library) == WANTED


def test_a_machine_that_could_not_write_its_end_down_leaves_the_job_to_who_has_it(
    open_machine: OpenMachine, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    one, two = open_machine("one"), open_machine("two")
    job, seen = begin_shown(two, one, scripted, tmp_path)
    seen.state, seen.ended = "failed", time.time() - 3600
    seen.finished.set()
    until(lambda: bool(scripted.embedder.calls))
    two.library.jobs.set_state(job.id, "paused")
    until(lambda: seen.state == "paused", 10)
    one.ingestor.forget_old()
    assert not seen.finished.is_set() and two.library.jobs.read(job.id) is not None
    two.library.jobs.set_state(job.id, "running")
    scripted.embedder.gate.set()
    assert job.finished.wait(30) and seen.finished.wait(10) and list_pages(one.library) == WANTED


def test_a_database_that_is_gone_at_first_is_asked_again(
    open_machine: OpenMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, turns = open_machine("one"), threading.Event()
    assert one.library.jobs.leases is not None

    def fail(_: JobSharing) -> None:
        if threading.current_thread() is threading.main_thread():
            raise LibraryError("the server is gone")
        turns.set()

    monkeypatch.setattr(JobSharing, "take_turn", fail)
    sharing = JobSharing(one.library, one.library.jobs.leases, one.ingestor._runner, one.ingestor)
    with pytest.raises(LibraryError, match="gone"):
        sharing.begin()
    assert turns.wait(10)
    sharing.close()


def test_a_database_that_is_gone_for_a_while_ends_no_job(
    scripted: ScriptedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.library.postgres_database.WAIT_S", 1.0)
    server = PostgresServer()
    service = make_service(scripted, tmp_path / "data", server.address())
    scripted.embedder.seconds = 0.1
    job = begin(service, tmp_path, 30)
    until(lambda: len(job.added) >= 3)
    server.kill()
    assert not job.finished.wait(3)
    server.start()
    assert job.finished.wait(60) and (job.state, job.error) == ("done", "")
    assert len(list_pages(service.library)) == 29 and len(job.added) == 29
    service.close()
    server.close()


def test_two_machines_that_add_one_file_keep_one(
    open_machine: OpenMachine, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    one, two = open_machine("one"), open_machine("two")
    key, file = made(one.library), encoded(picture())
    scripted.embedder.gate.clear()
    jobs = [machine.ingestor.start(key, [upload(tmp_path, "a.png", file)]) for machine in (one, two)]
    gates = [machine.ingestor._runner._gates.find(machine.targets.first) for machine in (one, two)]
    until(lambda: all(gate.in_flight for gate in gates), 30)
    scripted.embedder.gate.set()
    assert all(job.finished.wait(30) and job.state == "done" for job in jobs)
    assert list_pages(one.library) == [("a.png", 1)] and jobs[0].added == jobs[1].added


def test_a_collection_that_is_deleted_elsewhere_ends_its_jobs(
    open_machine: OpenMachine, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    one, two = open_machine("one"), open_machine("two")
    job, seen = begin_shown(one, two, scripted, tmp_path)
    two.delete_collection(at(two.library))
    scripted.embedder.gate.set()
    for each in (job, seen):
        assert each.finished.wait(30)
        assert (each.state, each.error, each.added) == ("failed", "the collection was deleted", [])
    assert one.library.catalogue.list_collections() == [] and list_rest(one.library) == []
