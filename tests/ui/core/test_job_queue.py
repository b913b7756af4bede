"""Whose turn it is: the order is recorded, nothing is timed."""

from __future__ import annotations

import threading

from serving.client import EmbeddingClient
from serving.library.records import CollectionKey
from tests.support.waiting import until
from ui.core.job_queue import JobQueue
from ui.core.jobs import IngestJob
from ui.servers.target import Target

NOWHERE = Target(EmbeddingClient("http://127.0.0.1:9"))


def make_job(name: str, owner: str) -> IngestJob:
    return IngestJob(CollectionKey(name), [], NOWHERE, id=name, owner=owner)


def take(queue: JobQueue, turns: int) -> str:
    """Take turns, each of which ends before the next one."""
    order = ""
    for _ in range(turns):
        job = queue.take()
        assert job is not None
        order += job.id
        queue.release(job)
    return order


def test_owners_take_turns_and_then_the_jobs_of_each() -> None:
    queue = JobQueue(2)
    for name, owner in (("a", "one"), ("b", "one"), ("x", "two")):
        queue.add(make_job(name, owner))
    assert take(queue, 8) == "bxaxbxax", "the one put in last is first among those of its owner"


def test_what_was_just_put_in_goes_first_among_those_of_its_owner() -> None:
    queue = JobQueue(2)
    queue.add(make_job("m", "one"))
    assert take(queue, 3) == "mmm"
    queue.add(small := make_job("s", "one"))
    assert take(queue, 4) == "smsm"
    queue.add(make_job("t", "one"))
    assert take(queue, 3)[0] == "t"
    queue.remove(small)
    assert "s" not in take(queue, 6)


def test_a_new_owner_waits_for_one_turn_of_each() -> None:
    queue = JobQueue(2)
    for name in "abc":
        queue.add(make_job(name, name))
    assert take(queue, 3) == "abc"
    queue.add(make_job("d", "d"))
    assert take(queue, 4) == "abcd"


def test_one_job_has_few_turns_at_the_same_time() -> None:
    queue, slow = JobQueue(2), make_job("s", "one")
    queue.add(slow)
    assert [queue.take(), queue.take()] == [slow, slow]
    queue.add(make_job("o", "one"))
    assert take(queue, 3) == "ooo"
    queue.release(slow)
    assert take(queue, 1) == "s"


def test_a_paused_job_is_passed_over_until_it_goes_on() -> None:
    queue, paused = JobQueue(1), make_job("p", "one")
    queue.add(paused)
    queue.add(make_job("o", "two"))
    paused.state = "paused"
    assert take(queue, 2) == "oo" and [job.id for job in queue.list_shares()] == ["o"]
    paused.state = "running"
    queue.wake()
    assert take(queue, 4).count("p") == 2
    assert list(queue.list_shares().values()) == [0.5, 0.5]


def test_who_waits_for_a_turn_hears_of_a_new_job_and_of_the_end() -> None:
    queue, taken = JobQueue(1), list[IngestJob | None]()
    threads = [threading.Thread(target=lambda: taken.append(queue.take())) for _ in range(2)]
    for thread in threads:
        thread.start()
    job = make_job("a", "one")
    queue.add(job)
    until(lambda: taken == [job])
    queue.close()
    for thread in threads:
        thread.join(10)
    assert taken == [job, None] and queue.take() is None


def test_a_job_that_is_not_there_is_left_alone() -> None:
    queue = JobQueue(1)
    queue.remove(make_job("a", "one"))
    assert queue.list_shares() == {}
