"""The page in a container that its platform snapshots, restores and stops, behind a password.

```
build   Gradio, the page, the servers' names     once; all of it is in the snapshot, and nobody's pages
open    the library from its volume              in each container; again with the next request if it failed
close   no page begins, one in flight is kept    once in each container
```

It does not know the platform: the backup is given, and the environment has the rest.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from serving.cloud.credentials import load_keys  # before the library: see `bench/__init__.py`
from serving.errors import ServingError
from serving.library.backup import Backup
from serving.library.library import Library
from serving.settings import Settings
from serving.system.files import copy_file
from ui.access.password import PasswordGate, is_open_to_all
from ui.core.bench_runs import PATTERN
from ui.core.job_runner import log_library_errors
from ui.core.service import Service
from ui.server import create_app, stop_streams
from ui.servers.configured import configure_targets
from ui.servers.modal_target import ModalTarget

RETRY_S = 5.0
"""Pause between two tries to open the library."""
log = logging.getLogger(__name__)


class HostedPage:
    """The page, its library and its password."""

    def __init__(self, data: Path, backup: Backup, workers: Sequence[tuple[str, str]]) -> None:
        """Build the page, open and ask nothing. `data`: a folder that ends with this container. Raises ServingError."""
        self._runs = (backup.folder / "runs", data / "runs")
        os.environ["GRADIO_TEMP_DIR"] = str((data / "uploads").resolve())
        self._settings = Settings(data=data)
        self.library = Library(data, backup, open_now=False, vector_bytes=self._settings.vector_bytes)
        targets = configure_targets(workers, self._settings, backup.folder)
        self.service = Service(targets, self.library, self._settings, engines=False)
        self._page = create_app(self.service, loopback=False)
        self._opened = False
        self._tried = float("-inf")
        self._failure = ""
        self._opening = threading.Lock()
        self.gate = PasswordGate(self._page, self.why_not_ready)

    def open(self, names: Sequence[str] = ()) -> None:
        """Read keys and open the library. `names`: hosts to answer to, `*.` in front for all below one; any, if none.

        If the library does not open, each request is told why, and opens it again. Raises ValueError for half of a
        proxy token.
        """
        random.seed()  # a snapshot would draw the same numbers after each restore
        access = load_keys(self._settings.data, os.environ)  # a secret may have been changed since
        for target in self.service.targets:
            if isinstance(target, ModalTarget):
                target.use_keys(access)
        self.service.ownership.per_browser = is_open_to_all()
        self.gate.allowed_hosts = tuple(name.lower() for name in names)
        self.why_not_ready()

    def why_not_ready(self) -> str:
        """Open the library if it is not open, and return why the page cannot be used; empty if it can."""
        with self._opening:
            if not self._opened and time.monotonic() - self._tried >= RETRY_S:
                try:
                    self.library.open()
                    copy_runs(*self._runs)
                    self._opened, self._failure = True, ""
                    with log_library_errors():
                        self.service.ingestor.continue_jobs()
                except ServingError as error:
                    log.error("%s", error.message)
                    self._failure = error.message
                self._tried = time.monotonic()
            return self._failure

    def close(self) -> None:
        """Begin no further page, and copy what was measured to the volume."""
        stop_streams(self._page, self.service)
        if self._opened:
            copy_runs(*reversed(self._runs))


def copy_runs(source: Path, target: Path) -> None:
    """Copy results of runs. They are only nice to have: one that cannot be copied is left out."""
    for file in sorted(source.glob(f"*/{PATTERN}")):
        with suppress(OSError):
            (target / file.parent.name).mkdir(parents=True, exist_ok=True)
            copy_file(file, target / file.parent.name / file.name)
