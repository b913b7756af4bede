"""The page in a container that its platform snapshots, restores and stops, behind a password.

```
build   Gradio, the page, the servers' names     once; all of it is in the snapshot, and nobody's pages
open    the library from its volume or store     in each container; again with the next request if it failed
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

from pydantic import SecretStr

from serving.cloud.credentials import STORE, load_keys  # before the library: see `bench/__init__.py`
from serving.errors import BadValueError, ServingError
from serving.library.backup import Backup
from serving.library.library import Library
from serving.library.stores import read_index_choice
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

    def __init__(self, data: Path, backup: Backup | None, workers: Sequence[tuple[str, str]]) -> None:
        """Build the page, open and ask nothing. `data`: a folder that ends with this container. Raises ServingError.

        Without a `backup`, the collections are in the store of each container's environment.
        """
        kept = data if backup is None else backup.folder
        self._runs = (kept / "runs", data / "runs")
        os.environ["GRADIO_TEMP_DIR"] = str((data / "uploads").resolve())
        check_place(Settings(), backup)
        self._settings = Settings(data=data, store=SecretStr(""))  # these are in the snapshot: the address is not
        address = "" if backup is not None else read_store_address
        memory, index = self._settings.vector_bytes, read_index_choice(self._settings)
        self.library = Library(data, backup, address=address, open_now=False, vector_bytes=memory, index=index)
        targets = configure_targets(workers, self._settings, kept)
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
                    self.library.follow_others()
                    self.library.begin_indexing()
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
        """Begin no further page, and copy what was measured to the volume, if there is one."""
        stop_streams(self._page, self.service)
        if self._opened:
            copy_runs(*reversed(self._runs))


def check_place(settings: Settings, backup: Backup | None) -> None:
    """Raise BadValueError where collections would be elsewhere than the secret says."""
    if backup is not None and settings.store.get_secret_value():
        raise BadValueError(
            f"the secret has {STORE}, and this page was deployed for its volume: run `dormouse deploy` again, or"
            " `DORMOUSE_PAGE_USE_STORE=1 modal deploy ui/app.py`"
        )
    if backup is None and settings.pictures:
        raise BadValueError("DORMOUSE_PICTURES is a folder that all machines see: pages on Modal have none in common")


def read_store_address() -> str:
    return Settings().store.get_secret_value()


def copy_runs(source: Path, target: Path) -> None:
    """Copy results of runs. They are only nice to have: one that cannot be copied is left out."""
    if source == target:
        return
    for file in sorted(source.glob(f"*/{PATTERN}")):
        with suppress(OSError):
            (target / file.parent.name).mkdir(parents=True, exist_ok=True)
            copy_file(file, target / file.parent.name / file.name)
