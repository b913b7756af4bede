"""Container-seconds of a job, from prepared answers and counts."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from serving.client import Answer
from serving.cloud.modal_account import AccountError
from ui.servers import container_usage
from ui.servers.container_usage import UsageMeter, sum_counts

ANSWER = Answer(np.ones((1, 2), np.float32), [], "m", "f", 1.0, 0, "one", "restored", 1, {})


def test_counts_are_an_upper_bound() -> None:
    counts = [(0.0, 0), (2.0, 3), (4.0, 3), (7.0, 1)]
    assert sum_counts(counts, 60.0) == 2 * 3 + 2 * 3 + 3 * 3 + 1 * 60
    assert sum_counts(counts[:1], 60.0) is None and sum_counts([], 60.0) is None


def test_answers_are_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    meter = UsageMeter(lambda: 1, 60.0)
    for second, boot in ((100.0, "one"), (101.0, "two"), (104.0, "one"), (109.0, "two"), (110.0, "three")):
        now[0] = second
        meter.note_answer(replace(ANSWER, boot_id=boot))
    usage = meter.read()
    assert (usage.containers, usage.least_s, usage.most_s) == (3, 4.0 + 8.0, None)


def test_counts_that_cannot_be_read_are_stood_for_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_usage, "COUNT_S", 0.01)
    answers = [2, None, None, 2]

    def read() -> int:
        found = answers.pop(0) if answers else 2
        if found is None:
            raise AccountError("later")
        return found

    meter = UsageMeter(read, 0.0)
    began = time.monotonic()
    meter.start()
    while answers:
        time.sleep(0.01)
    meter.stop()
    most = meter.read().most_s
    assert most is not None and 0 < most <= 2 * (time.monotonic() - began)

    def refuse() -> int:
        raise AccountError("never")

    meter = UsageMeter(refuse, 60.0)
    meter.start()
    meter.stop()
    assert meter.read().most_s is None
