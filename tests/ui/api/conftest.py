from __future__ import annotations

from collections.abc import Iterator

import pytest
from gradio_client import Client


@pytest.fixture(scope="module")
def client(page_url: str) -> Iterator[Client]:
    client = Client(page_url, verbose=False)
    yield client
    client.close()
