"""The page in a container that its platform saves, brings back and ends: built once, opened in each life, with a door.

```
build   Gradio, the page, the servers' names     once; all of it is in the snapshot, and no page of anybody's
open    the library from its volume              in each container; again with the next request if it did not work
close   jobs end, what is with a worker is kept  once in each container
```

Knows nothing of the platform: the backup is given, and the rest stands in the environment.
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
from ui.access.password import Door, public
from ui.core.bench_runs import PATTERN
from ui.core.service import Service
from ui.server import create_app, stop_streams
from ui.servers.configured import configure_targets
from ui.servers.modal_target import ModalTarget

RETRY_S = 5.0
"""Between two tries to open the library."""
log = logging.getLogger(__name__)


class HostedPage:
    def __init__(self, data: Path, backup: Backup, workers: Sequence[tuple[str, str]]) -> None:
        """Opens nothing, asks nobody. `data`: a folder that goes with this container. Raises ServingError."""
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
        self.door = Door(self._page, self.ready)

    def open(self, names: Sequence[str] = ()) -> None:
        """`names`: hosts under which it may be asked, `*.` in front for all below one; none given: any.

        Why the library did not open is told to whoever asks, and it is tried again then. Raises ValueError for half of
        a proxy token.
        """
        random.seed()  # what was saved would draw the same numbers in each life
        access = load_keys(self._settings.data, os.environ)  # a secret may have been changed since
        for target in self.service.targets:
            if isinstance(target, ModalTarget):
                target.use(access)
        self.service.shelf.own = public()
        self.door.names = tuple(name.lower() for name in names)
        self.ready()

    def ready(self) -> str:
        """Empty, or why the page cannot be used now."""
        with self._opening:
            if not self._opened and time.monotonic() - self._tried >= RETRY_S:
                try:
                    self.library.open()
                    copy_runs(*self._runs)
                    self._opened, self._failure = True, ""
                except ServingError as error:
                    log.error("%s", error.message)
                    self._failure = error.message
                self._tried = time.monotonic()
            return self._failure

    def close(self) -> None:
        """At its end: no further page is begun, and what was measured is put on the volume."""
        stop_streams(self._page, self.service)
        if self._opened:
            copy_runs(*reversed(self._runs))


def copy_runs(source: Path, target: Path) -> None:
    """Results of runs, which are no more than nice to have: whatever fails leaves them where they are."""
    for file in sorted(source.glob(f"*/{PATTERN}")):
        with suppress(OSError):
            (target / file.parent.name).mkdir(parents=True, exist_ok=True)
            copy_file(file, target / file.parent.name / file.name)
