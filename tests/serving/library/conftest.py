from __future__ import annotations

from pathlib import Path

import pytest

from serving.library.library import Library
from tests.support.exported_pages import page
from tests.support.libraries import made


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


@pytest.fixture
def house(tmp_path: Path) -> Library:
    """A library with a collection `house` of six pages, every other one with lines."""
    library = Library(tmp_path / "library")
    for number in range(6):
        library.add_page(made(library, "house"), page(number, number % 2 == 0), fingerprint="f1", model="m")
    return library
