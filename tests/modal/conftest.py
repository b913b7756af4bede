"""A cloud for each test, and one that several tests share because a deployment takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.modal.cloud import Cloud


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as running:
        yield running
