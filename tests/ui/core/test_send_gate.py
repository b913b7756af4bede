"""How many pages are with a server: the gate alone, by a clock of its own, and in front of a real worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from serving.client import EmbeddingClient
from serving.library.library import Library
from tests.support.files import pdf
from tests.support.libraries import made
from tests.support.servers import ScriptedWorker, make_settings
from tests.support.uploads import upload
from tests.support.waiting import until
from ui.core.send_gate import QUICK_S, SLOW, WINDOW, SendGate
from ui.core.service import Service
from ui.servers.target import Target, Targets


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> SendGate:
    found = SendGate(3, 2, clock)
    found.resize(64)
    return found


def send(gate: SendGate, clock: Clock, seconds: float, boot: str = "one", times: int = 1) -> None:
    for _ in range(times):
        with gate.hold() as passage:
            clock.now += seconds
            passage.boot_id = boot


def refuse(gate: SendGate, clock: Clock) -> None:
    with gate.hold():
        clock.now += 0.1
        with gate.step_aside():
            clock.now += 1


def test_each_round_of_refusals_halves_and_good_answers_raise_by_one(gate: SendGate, clock: Clock) -> None:
    send(gate, clock, 0.1, times=3)
    assert gate.limit == 64, "it begins with as many as the server takes"
    refuse(gate, clock)
    assert gate.limit == 32
    for _ in range(10):
        refuse(gate, clock)
    assert gate.limit == 1, "and never stops"
    send(gate, clock, 0.1, times=3)
    assert gate.limit == 3
    send(gate, clock, 0.1, times=5000)
    assert gate.limit == 64, "never more than it takes"


def test_what_was_sent_before_it_was_lowered_does_not_lower_it_again(gate: SendGate, clock: Clock) -> None:
    held = [gate.hold() for _ in range(10)]
    refused: list[int] = []

    def work(number: int) -> None:
        with held[number]:
            began.wait()
            with gate.step_aside():
                refused.append(gate.limit)
                done.wait(10)

    began, done = threading.Barrier(10), threading.Event()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    until(lambda: len(refused) == 10)
    clock.now += 1
    assert gate.limit == 32 and gate.in_flight == 0, "who was refused gives its place away"
    done.set()
    for thread in threads:
        thread.join()


def test_answers_that_become_slow_lower_it_to_a_quarter_at_most(gate: SendGate, clock: Clock) -> None:
    send(gate, clock, 0.5, times=WINDOW + 1)
    send(gate, clock, QUICK_S * 0.9)
    assert gate.limit == 64, "several times as long, and still quick"
    send(gate, clock, 2.1 * SLOW)
    assert gate.limit == 48
    for _ in range(9):
        send(gate, clock, 2.1 * SLOW)
    assert gate.limit == 16


def test_who_waited_for_a_container_is_not_slow(gate: SendGate, clock: Clock) -> None:
    send(gate, clock, 0.5, times=WINDOW + 1)
    send(gate, clock, 90.0, boot="another")
    assert gate.limit == 64


def test_a_server_that_says_nothing_of_itself_is_not_judged(clock: Clock) -> None:
    gate = SendGate(3, 2, clock)
    send(gate, clock, 0.1, times=WINDOW + 1)
    send(gate, clock, 1000.0)
    refuse(gate, clock)
    assert gate.limit == 3
    assert [gate.claim() for _ in range(6)] == [True] * 5 + [False], "and two that are drawn meanwhile"
    gate.free()
    assert gate.claim()


def test_its_limit_follows_the_servers(gate: SendGate, clock: Clock) -> None:
    refuse(gate, clock)
    gate.resize(64)
    assert gate.limit == 32, "the same again is no news"
    gate.resize(256)
    assert gate.limit == 256
    gate.resize(8)
    assert gate.limit == 8


class Spacious(Target):
    """A server that says how many pages it takes."""

    places = 12

    def fetch_places(self) -> int | None:
        return self.places


@contextmanager
def opened(url: str, folder: Path, **limits: object) -> Iterator[Service]:
    targets = Targets([Spacious(EmbeddingClient(url, deadline_s=20), "spacious")])
    with closing(Service(targets, Library(folder / "library"), make_settings(folder, cores=2, **limits))) as service:
        yield service


@pytest.mark.parametrize(("limits", "most"), [({}, 12), ({"max_sending": 5}, 5)])
def test_as_many_pages_are_with_a_server_as_it_takes(
    scripted: ScriptedWorker, tmp_path: Path, limits: dict[str, int], most: int
) -> None:
    with opened(scripted.url, tmp_path, **limits) as service:
        scripted.embedder.gate.clear()
        book = upload(tmp_path, "book.pdf", pdf([[f"page {n}"] for n in range(30)]))
        job = service.ingestor.start(made(service.library), [book])
        gate = service.ingestor._runner._gates.find(service.targets.first)
        until(lambda: gate.in_flight == most)
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("ingest-")]
        assert not job.added and len(threads) <= service.settings.max_jobs + most + 2
        scripted.embedder.gate.set()
        assert job.finished.wait(60) and job.state == "done" and len(job.added) == 30


def test_a_small_server_beside_a_spacious_one_gets_its_own(scripted: ScriptedWorker, tmp_path: Path) -> None:
    """Pages that wait for one server leave the threads of another alone."""
    few = Target(EmbeddingClient(scripted.url, deadline_s=20), "few")
    many = Spacious(EmbeddingClient(scripted.url, deadline_s=20), "many")
    targets = Targets([few, many])
    with closing(Service(targets, Library(tmp_path / "library"), make_settings(tmp_path, cores=2))) as service:
        scripted.embedder.gate.clear()
        books = {
            one: upload(tmp_path, f"{one.name}.pdf", pdf([[f"{one.name} {n}"] for n in range(30)])) for one in targets
        }
        jobs = [
            service.ingestor.start(made(service.library, one.name), [book], target=one) for one, book in books.items()
        ]
        gates = service.ingestor._runner._gates
        until(lambda: (gates.find(few).in_flight, gates.find(many).in_flight) == (3, 12))
        scripted.embedder.gate.set()
        assert all(job.finished.wait(60) and len(job.added) == 30 for job in jobs)
