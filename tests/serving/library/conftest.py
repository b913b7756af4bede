from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from serving.library.library import Library
from tests.support.exported_pages import page
from tests.support.libraries import made
from tests.support.stores import LibraryOpener

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer


@pytest.fixture
def library(store: LibraryOpener, tmp_path: Path) -> Library:
    return store.open(tmp_path)


@pytest.fixture
def house(store: LibraryOpener, tmp_path: Path) -> Library:
    """A library with a collection `house` of six pages, every other one with lines."""
    library = store.open(tmp_path / "library")
    for number in range(6):
        library.add_page(made(library, "house"), page(number, number % 2 == 0), fingerprint="f1", model="m")
    return library


@pytest.fixture
def own() -> Iterator[PostgresServer]:
    """A server that a test may kill."""
    from tests.support.postgres import PostgresServer  # not every venv of the tests has its client

    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def small_disk(own: PostgresServer) -> Iterator[Path]:
    """A file system of 32 MB for the tables of `own`, called `small` there."""
    folder = own.folder / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m,mode=777", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk needs root, and a system that lets it mount one")
    try:
        (folder / "tables").mkdir()
        from tests.support.postgres import change_owner

        change_owner(folder / "tables")
        own.run(f"CREATE TABLESPACE small LOCATION '{folder / 'tables'}'")
        yield folder
    finally:
        own.kill()
        subprocess.run(["umount", "-l", str(folder)], check=True)
