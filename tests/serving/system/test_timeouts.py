from __future__ import annotations

import threading
import time

import pytest

from serving.system.timeouts import (
    LASTING_S,
    DeadlineExceeded,
    GrowingPause,
    ms_since,
    run_in_background,
    run_with_deadline,
    time_phase,
)  # fmt: skip


def test_a_pause_grows_until_a_process_has_lasted() -> None:
    pause = GrowingPause((1.0, 2.0, 5.0))
    assert [pause.next_after(0.0) for _ in range(4)] == [1.0, 2.0, 5.0, 5.0]
    assert pause.next_after(LASTING_S) == 1.0 and pause.next_after(LASTING_S - 1) == 2.0
    pause.reset()
    assert pause.next_after(0.0) == 1.0


def test_a_timeout_of_the_work_is_another_error_than_the_deadline() -> None:
    def late() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own") as raised:
        run_with_deadline(5, late)
    assert not isinstance(raised.value, DeadlineExceeded)


def test_a_phase_is_timed_also_if_it_fails() -> None:
    phases: dict[str, float] = {}
    with pytest.raises(KeyError), time_phase(phases, "load"):
        time.sleep(0.01)
        raise KeyError
    assert 10 <= phases["load"] < 5_000 and ms_since(time.perf_counter() - 1) >= 1_000


def test_work_in_the_background_is_not_waited_for() -> None:
    released, done = threading.Event(), threading.Event()

    def work() -> None:
        released.wait(10)
        done.set()

    run_in_background(work)
    assert not done.is_set()
    released.set()
    assert done.wait(10)


def test_one_that_blocks_is_left_and_one_that_fails_is_told() -> None:
    released = threading.Event()
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        run_with_deadline(0.2, lambda: released.wait(20))
    assert time.monotonic() - began < 10
    released.set()
    assert run_with_deadline(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        run_with_deadline(5, lambda: 1 // 0)
