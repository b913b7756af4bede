"""A page's service without a page, on a worker with the scripted embedder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serving.client import EmbeddingClient
from serving.library.library import Library
from serving.settings import Settings
from tests.support.servers import ScriptedWorker
from ui.core.service import Service
from ui.servers.target import Target, Targets


@contextmanager
def open_service(library: Library, scripted: ScriptedWorker, settings: Settings) -> Iterator[Service]:
    targets = Targets([Target(EmbeddingClient(scripted.url, deadline_s=20), "scripted")])
    service = Service(targets, library, settings)
    yield service
    scripted.embedder.gate.set()
    service.close()
