"""What strangers' files do to the processes that read them, and to nobody else."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest

from serving.documents.files import open_file
from serving.documents.parser_pool import Parsed, ParserPool
from serving.errors import NotReadyError, ServingError, UnreadableError
from serving.settings import MiB, Settings
from tests.support.files import pdf
from tests.support.hostile_pdfs import AMPLE, INFLATED, NESTED, SLOW, hostile_pdf
from tests.support.readers import find_busy_reader, list_outcomes, list_readers, write_pdf
from tests.support.servers import make_settings
from tests.support.waiting import until

WORDS = "Some words on an ordinary page"


@pytest.fixture
def one_thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


@pytest.mark.parametrize("kind", SLOW)
def test_a_page_that_does_not_end_is_a_row_and_the_others_come(kind: str, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, parser_timeout_s=3, parser_memory_bytes=AMPLE)
    path = write_pdf(tmp_path, hostile_pdf(WORDS, kind, WORDS))
    assert path.stat().st_size < 120_000
    with ParserPool(settings) as pool:
        assert list_outcomes(open_file(path, settings, pool.run)) == [
            "drawn", "page 2 cannot be drawn: it took longer than 3 s", "drawn"
        ]  # fmt: skip


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not bound a process's memory")
def test_a_page_that_takes_all_memory_is_a_row_and_the_others_come(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, parser_memory_bytes=256 * MiB)
    path = write_pdf(tmp_path, hostile_pdf(WORDS, INFLATED, WORDS))
    assert path.stat().st_size < 20_000
    with ParserPool(settings) as pool:
        told = "page 2 cannot be drawn: its reader crashed, or needed more than 256 MiB of memory"
        assert list_outcomes(open_file(path, settings, pool.run)) == ["drawn", told, "drawn"]


def test_after_some_such_pages_the_others_are_not_tried(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, parser_timeout_s=1, max_failed_pages=2)
    path = write_pdf(tmp_path, hostile_pdf(NESTED, NESTED, WORDS))
    with ParserPool(settings) as pool:
        assert list_outcomes(open_file(path, settings, pool.run))[2] == (
            "page 3 was not tried: 2 others of the file could not be read"
        )


def test_another_file_is_drawn_meanwhile_and_a_cancel_ends_the_slow_one(
    patient: ParserPool, one_thread: ThreadPoolExecutor, tmp_path: Path, settings: Settings
) -> None:
    cancelled = threading.Event()
    slow = open_file(write_pdf(tmp_path, hostile_pdf(NESTED)), settings, partial(patient.run, cancelled=cancelled))
    page = one_thread.submit(slow.read, 0)
    reader = find_busy_reader()
    other = open_file(write_pdf(tmp_path, pdf([[WORDS]]), "other.pdf"), settings, patient.run).read(0)
    assert other.lines is not None and other.lines[0].text == WORDS and not page.done()
    cancelled.set()
    assert isinstance(page.exception(30), NotReadyError)
    until(lambda: not reader.is_running(), 10)


def test_a_killed_reader_costs_its_page_and_is_replaced(
    patient: ParserPool, one_thread: ThreadPoolExecutor, tmp_path: Path, settings: Settings
) -> None:
    file = open_file(write_pdf(tmp_path, hostile_pdf(NESTED, WORDS)), settings, patient.run)
    page = one_thread.submit(file.read, 0)
    killed = find_busy_reader()
    killed.kill()
    error = page.exception(30)
    assert isinstance(error, UnreadableError) and error.message.startswith("page 1 cannot be drawn: its reader crashed")
    assert file.read(1).image is not None
    (fresh,) = list_readers()
    assert fresh.pid != killed.pid
    fresh.kill()
    until(lambda: fresh.status() == psutil.STATUS_ZOMBIE, 10)
    assert file.read(1).image is not None, "one that was killed while it waited costs no page"


def test_closing_ends_what_is_read_and_leaves_no_process(
    patient: ParserPool, one_thread: ThreadPoolExecutor, tmp_path: Path, settings: Settings
) -> None:
    file = open_file(write_pdf(tmp_path, hostile_pdf(NESTED)), settings, patient.run)
    page = one_thread.submit(file.read, 0)
    find_busy_reader()
    patient.close()
    assert isinstance(page.exception(30), NotReadyError)
    assert not list_readers()
    with pytest.raises(NotReadyError):
        file.read(0)


NONSENSE: dict[str, Parsed] = {
    "no JSON": (bytearray(b"{"), bytearray()),
    "no object": (bytearray(b"[]"), bytearray()),
    "no pixels": (bytearray(b'{"width": 9, "height": 9, "lines": null}'), bytearray()),
    "no size": (bytearray(b'{"width": -1, "height": -1, "lines": null}'), bytearray(3)),
    "no lines": (bytearray(b'{"width": 1, "height": 1, "lines": [["a", [1]]]}'), bytearray(3)),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_a_reader_that_a_file_took_over_is_not_believed(kind: str, tmp_path: Path, settings: Settings) -> None:
    path = write_pdf(tmp_path, pdf([[WORDS]]))

    def parse(task: str, _: object) -> Parsed:
        return (bytearray(b'{"count": 1}'), bytearray()) if task.endswith("count_pages") else NONSENSE[kind]

    with pytest.raises(ServingError, match="page 1 cannot be drawn: its reader sent an invalid answer"):
        open_file(path, settings, parse).read(0)
    with pytest.raises(ServingError, match="cannot be read: its reader sent an invalid answer"):
        open_file(path, settings, lambda *_: NONSENSE[kind])


def test_a_program_that_is_not_there_is_told(
    patient: ParserPool, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pdf(tmp_path, pdf([[WORDS]]))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(NotReadyError, match="no process to read files could be started: No such file"):
        open_file(path, settings, patient.run)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(NotReadyError, match="no process to read files could be started"):
        open_file(path, settings, patient.run)
