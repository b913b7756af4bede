from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.ray.cluster import Deployed


@pytest.fixture(scope="session")
def deployed() -> Iterator[Deployed]:
    """A cluster of two nodes, to which a module deploys."""
    from tests.ray.cluster import ENVIRONMENT, Deployed

    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    found = Deployed()
    try:
        yield found
    finally:
        found.close()
        os.environ.clear()
        os.environ.update(before)
