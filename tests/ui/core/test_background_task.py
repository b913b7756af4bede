"""Work in the background: its progress, its result, and how it is stopped."""

from __future__ import annotations

import threading

import pytest

from serving.errors import BadValueError
from serving.library.exporting import Progress
from ui.core.background_task import BackgroundTask, StoppedError


def test_each_change_is_seen_until_the_end() -> None:
    gate = threading.Semaphore(0)

    def work(step: Progress) -> str:
        for done in (1, 2):
            assert gate.acquire(timeout=30)
            step(done, 2)
        return "whole"

    seen = []
    task = BackgroundTask(work)
    for at in task.follow_progress():
        seen.append(at)
        gate.release()
    assert seen == [(0, 0), (1, 2), (2, 2)] and task.result() == "whole"


def test_what_it_raises_comes_out_and_a_stop_ends_it() -> None:
    def bad(step: Progress) -> None:
        step(1, 9)
        raise BadValueError("no")

    task = BackgroundTask(bad)
    assert list(task.follow_progress())[-1] == (1, 9)
    with pytest.raises(BadValueError, match="no"):
        task.result()

    def endless(step: Progress) -> None:
        done = 0
        while True:
            step(done := done + 1, 10**9)

    stopped = BackgroundTask(endless)
    next(iter(stopped.follow_progress()))
    stopped.stop()
    assert list(stopped.follow_progress())
    with pytest.raises(StoppedError, match="stopped"):
        stopped.result()
