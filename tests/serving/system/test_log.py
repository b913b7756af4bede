from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

from serving.system import log
from serving.system.log import StderrWriter
from tests.support.engines import is_right
from tests.support.scripted_engine import NAME, script


@pytest.mark.soak
def test_a_log_that_nobody_reads_stops_nobody(tmp_path: Path) -> None:
    script(tmp_path, flood=3_000)
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "serving", "--embedder", NAME, "--snapshot", "plain", "--port", "0"]
    with subprocess.Popen([*command, "--data", str(tmp_path)], stdout=subprocess.PIPE, stderr=writing, text=True) as it:
        assert it.stdout is not None
        url = it.stdout.readline().split(" is ready at ")[1].strip()
        for _ in range(3):
            assert is_right(requests.post(url + "/embed", json={"texts": ["total due"]}, timeout=20))
        os.close(reading)
        assert is_right(requests.post(url + "/embed", json={"texts": ["total due"]}, timeout=20))
        it.terminate()
        assert it.wait(15) == 0
    os.close(writing)


def test_texts_reach_standard_error_in_their_order(capfd: pytest.CaptureFixture[str]) -> None:
    writer = StderrWriter()
    for number in range(100):
        writer.write(f"{number}\n")
    writer.close()
    assert capfd.readouterr().err.split() == [str(number) for number in range(100)]


def test_the_oldest_texts_are_dropped_and_no_writer_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAX_WAITING_TEXTS", 3)
    blocked, entered, written = threading.Event(), threading.Event(), []

    class Slow:
        def write(self, text: str) -> None:
            entered.set()
            blocked.wait(10)
            written.append(text)

    monkeypatch.setattr(sys, "stderr", Slow())
    writer = StderrWriter()
    writer.write("first")
    assert entered.wait(10)
    for number in range(10):
        writer.write(str(number))
    blocked.set()
    writer.close()
    assert written == ["first", "8", "9"], "the end takes a place as well"


@pytest.mark.parametrize("stream", [None, "closed"])
def test_without_standard_error_nothing_breaks(monkeypatch: pytest.MonkeyPatch, stream: str | None) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", None if stream is None else closed)
    writer = StderrWriter()
    writer.write("lost")
    writer.close()
    assert not writer.is_alive()


def test_a_worker_s_lines_are_passed_on_unchanged() -> None:
    formatter = log.LineFormatter(log.FORMAT)
    ours, its = (logging.makeLogRecord({"name": name, "msg": "a line"}) for name in ("serving", log.WORKER_LOGGER))
    assert formatter.format(its) == "a line" and formatter.format(ours).endswith("serving: a line")
