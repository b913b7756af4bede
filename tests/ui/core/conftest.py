from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.client import EmbeddingClient
from serving.library.library import Library
from serving.settings import Settings
from tests.support.servers import ScriptedWorker
from ui.core.service import Service
from ui.servers.target import Target, Targets


@pytest.fixture
def service(scripted: ScriptedWorker, settings: Settings, tmp_path: Path) -> Iterator[Service]:
    targets = Targets([Target(EmbeddingClient(scripted.url, deadline_s=20), "scripted")])
    service = Service(targets, Library(tmp_path / "library"), settings)
    yield service
    scripted.embedder.gate.set()
    service.close()
