from __future__ import annotations

import threading

import pytest

from serving.errors import BadValueError
from serving.library.exporting import Progress
from ui.core.background_task import StoppedError, Task


def test_each_change_is_seen_until_the_end() -> None:
    gate = threading.Semaphore(0)

    def work(step: Progress) -> str:
        for done in (1, 2):
            assert gate.acquire(timeout=30)
            step(done, 2)
        return "whole"

    seen = []
    task = Task(work)
    for at in task.watch():
        seen.append(at)
        gate.release()
    assert seen == [(0, 0), (1, 2), (2, 2)] and task.result() == "whole"


def test_what_it_raises_comes_out_and_a_stop_ends_it() -> None:
    def bad(step: Progress) -> None:
        step(1, 9)
        raise BadValueError("no")

    task = Task(bad)
    assert list(task.watch())[-1] == (1, 9)
    with pytest.raises(BadValueError, match="no"):
        task.result()

    def endless(step: Progress) -> None:
        done = 0
        while True:
            step(done := done + 1, 10**9)

    stopped = Task(endless)
    next(iter(stopped.watch()))
    stopped.stop()
    assert list(stopped.watch())
    with pytest.raises(StoppedError, match="stopped"):
        stopped.result()
