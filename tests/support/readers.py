"""Reading PDFs in tests, and the processes that do it."""

from __future__ import annotations

from pathlib import Path

import psutil

from serving.documents.files import open_file
from serving.documents.page import Page, PageFile
from serving.documents.parser_pool import Parse
from serving.settings import Settings
from tests.support.waiting import until


def write_pdf(folder: Path, data: bytes, name: str = "file.pdf") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def list_outcomes(file: PageFile) -> list[str]:
    """For each page "drawn", or why not."""
    return ["drawn" if isinstance(page, Page) else page.message for page in file]


def list_readers() -> list[psutil.Process]:
    """The processes of this one's pools."""
    found = []
    for process in psutil.Process().children():
        if process.status() != psutil.STATUS_ZOMBIE and "serving.documents.parser_process" in process.cmdline():
            found.append(process)
    return found


def find_busy_reader() -> psutil.Process:
    """The one process, once it has computed for a second."""
    until(lambda: list_readers() and list_readers()[0].cpu_times().user > 1, 60)
    (process,) = list_readers()
    return process


def read_pages(folder: Path, data: bytes, settings: Settings, parse: Parse) -> list[Page]:
    pages = list(open_file(write_pdf(folder, data), settings, parse))
    assert all(isinstance(page, Page) for page in pages), pages
    return [page for page in pages if isinstance(page, Page)]
