"""The server that reads the text of pictures: one of the page's own servers, or an engine that it starts for that."""

from __future__ import annotations

import threading
from contextlib import suppress

from serving.client import EmbeddingClient
from serving.errors import NotReadyError, ServingError
from serving.http.child_server import ProcessFailed
from serving.settings import Settings
from ui.servers.engine_process import LocalEngine
from ui.servers.target import Targets

FOLDER = "reader"
"""Of such an engine, in the data folder."""


class TextServer:
    """Finds the server when it is first needed. An engine of its own sleeps while there is nothing to read."""

    def __init__(self, targets: Targets, settings: Settings) -> None:
        self._targets = targets
        self._settings = settings.model_copy(update={"data": settings.data / FOLDER, "start_ahead": False})
        self._engine: LocalEngine | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def find_client(self) -> EmbeddingClient:
        """Raises NotReadyError where an engine does not start."""
        for target in self._targets:
            with suppress(ServingError):  # that one is away, and would not read either
                if (target.known_info or target.fetch_info()).reads_text:
                    return target.client
        with self._lock:
            if self._stopped:
                raise NotReadyError("the page is stopping", retry_after=5)
            if self._engine is None:
                try:
                    self._engine = LocalEngine(self._settings)
                except (ProcessFailed, OSError) as error:
                    raise NotReadyError(f"the engine that reads pictures does not start: {error}") from error
            return self._engine.client

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._engine is not None:
                self._engine.stop()
                self._engine = None
