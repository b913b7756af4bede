from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.documents.parser_pool import ParserPool
from tests.support.hostile_pdfs import AMPLE
from tests.support.servers import make_settings


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[ParserPool]:
    """A pool whose deadline is not met by any test."""
    with ParserPool(make_settings(tmp_path, cores=2, parser_timeout_s=600, parser_memory_bytes=AMPLE)) as pool:
        yield pool
