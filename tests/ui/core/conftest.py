from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.settings import Settings
from tests.support.servers import ScriptedWorker
from tests.support.services import open_service
from tests.support.stores import LibraryOpener
from ui.core.service import Service


@pytest.fixture
def service(scripted: ScriptedWorker, settings: Settings, tmp_path: Path, store: LibraryOpener) -> Iterator[Service]:
    """A page's service, in one turn on a library in its folder, in another on a server."""
    with open_service(store.open(tmp_path / "library"), scripted, settings) as service:
        yield service
