"""The state of a server on Modal, from counts that are given here; the client that reads real ones is not asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from serving.cloud.modal_account import AccountError
from tests.support.waiting import until
from ui.servers import modal_feed
from ui.servers.modal_feed import ContainerCounts, ModalStateFeed, PendingRequests, predict_start
from ui.servers.state import EngineState, StartRecord, UnknownState


class Counts:
    """Counts as Modal would give them, and how often they were read."""

    def __init__(self, found: ContainerCounts | Exception) -> None:
        self.found = found
        self.read = 0

    def __call__(self) -> ContainerCounts:
        self.read += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@contextmanager
def started(counts: Counts, *starts: StartRecord) -> Iterator[ModalStateFeed]:
    feed = ModalStateFeed(counts, lambda: starts)
    feed.start()
    try:
        yield feed
    finally:
        feed.close()
        feed._thread.join(5)


def known(feed: ModalStateFeed) -> EngineState:
    until(lambda: isinstance(feed.state, EngineState))
    found = feed.state
    assert isinstance(found, EngineState)
    return found


def row(kind: str, milliseconds: float) -> StartRecord:
    return StartRecord(at=1.0, backend="modal", kind=kind, outcome="ok", ready_ms=1.0, first_answer_ms=milliseconds)


def test_what_is_expected_is_the_median_of_such_starts() -> None:
    assert predict_start([]).expected_ms is None
    assert predict_start([row("created", 90_000)]).kind == "restored"
    rows = [row("created", 90_000), row("restored", 2_000), row("restored", 9_000), row("restored", 3_000)]
    assert (predict_start(rows).kind, predict_start(rows).expected_ms) == ("restored", 3_000)
    assert predict_start([*rows, row("plain", 50_000)]).kind == "plain"


def test_failed_question_is_no_start() -> None:
    watch = ModalStateFeed(lambda: ContainerCounts(0, 0, 0), list)
    with pytest.raises(ValueError, match="broken"), watch.track_request():
        raise ValueError("broken")
    assert watch._pending is None and not isinstance(watch._state, EngineState)


def test_phases_of_a_wait_follow_the_counts() -> None:
    pending = PendingRequests(10.0, 10.0)
    for at, counts in ((11.0, (1, 0, 0)), (13.0, (1, 1, 0)), (16.0, (0, 1, 1)), (20.0, (0, 1, 1))):
        pending.apply_counts(ContainerCounts(*counts), at)
    assert (pending.phase, pending.starts) == ("answer", True)
    assert pending.phases == {"queue": 3000.0, "container": 3000.0}
    warm = PendingRequests(10.0, 10.0)
    warm.apply_counts(ContainerCounts(0, 1, 1), 10.5)
    assert not warm.starts, "a container that was ready takes a question at once"


def test_counts_are_read_when_somebody_looks_and_not_again_so_soon() -> None:
    counts = Counts(ContainerCounts(2, 0, 0))
    with started(counts, row("created", 90_000)) as feed:
        time.sleep(0.1)
        assert counts.read == 0
        found = known(feed)
        assert (found.state, found.waiting, found.next.kind) == ("zero", 2, "restored")
        assert found.last_start == row("created", 90_000)
        assert isinstance(feed.state, EngineState) and counts.read == 1


def test_a_question_that_waits_is_a_start_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modal_feed, "PENDING_S", 0.01)
    counts = Counts(ContainerCounts(1, 0, 0))
    with started(counts, row("restored", 2_000)) as feed:
        with feed.track_request(), feed.track_request():
            until(lambda: known(feed).start is not None)
            found = known(feed)
            assert (found.state, found.in_flight) == ("restoring", 2)
            assert found.start is not None and found.start.expected_ms == 2_000
        found = known(feed)
        assert (found.start, found.in_flight, found.state) == (None, 0, "serving")


@pytest.mark.parametrize("fault", [AccountError("no token"), RuntimeError("odd")])
def test_a_fault_of_the_counts_is_the_reason(fault: Exception) -> None:
    with started(Counts(fault)) as feed:
        until(lambda: str(fault) in str(feed.state))
        assert isinstance(feed.state, UnknownState)
