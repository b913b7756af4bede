"""The engine that the page starts for itself, and starts again when it ends unasked.

The workers that start and end behind it are the engine's own business.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time

from serving.client import EmbeddingClient
from serving.http.child_server import ProcessFailed, ServerProcess
from serving.settings import Settings, settings_variables
from serving.system.environment import process_variables
from serving.system.timeouts import GrowingPause

PAUSES_S = (0.5, 2.0, 5.0, 15.0, 60.0)
"""Before the first, second, ... start in a row that did not last."""
log = logging.getLogger(__name__)


class LocalEngine:
    """The engine as a process. `client` asks the one that runs now; a call waits while it is started again.

    Its key is made for this run: another program on this machine, or a web page, cannot use the engine.
    """

    def __init__(
        self,
        settings: Settings,
        snapshot: str = "auto",
        scaledown_window: float | None = None,
        *,
        shows_log: bool = True,
    ) -> None:
        """Return once it answers; the options are as `python -m serving` takes them. Raises ProcessFailed.

        `shows_log`: its log goes to standard error.
        """
        self._settings = settings
        self._shows_log = shows_log
        options = [] if scaledown_window is None else ["--scaledown-window", f"{scaledown_window:g}"]
        if "start_ahead" not in settings.model_fields_set:  # a CPU's first start costs nobody anything
            options.append("--start-ahead")
        self._arguments = ["--embedder", "builtin", "--snapshot", snapshot, *options, "--data", str(settings.data)]
        self._key = secrets.token_urlsafe(24)
        self._stopping = threading.Event()
        self._process = self._start()
        try:
            self.client = EmbeddingClient(self._process.wait(), self._key)
        except BaseException:
            self._process.stop()
            raise
        self._watcher = threading.Thread(target=self._keep_running, name="engine watch", daemon=True)
        self._watcher.start()

    @property
    def admin_key(self) -> str:
        """Return the configured one, else the one that the engine keeps in the data folder. Raises OSError."""
        return self._settings.admin_key.get_secret_value() or (self._settings.data / "admin.key").read_text().strip()

    def stop(self) -> None:
        self._stopping.set()
        self.client.close()
        self._process.stop()
        self._watcher.join(5)

    def _start(self) -> ServerProcess:
        # Not the page's password, nor keys of other servers and clouds.
        environment = {**process_variables(), **settings_variables()}
        keys = {"DORMOUSE_API_KEYS": self._key}
        return ServerProcess("serving", self._arguments, keys, environment, shows_log=self._shows_log)

    def _keep_running(self) -> None:
        pause = GrowingPause(PAUSES_S)
        while not self._stopping.is_set():
            began = time.monotonic()
            self._process.ended.wait()
            if self._stopping.is_set():
                return
            seconds = pause.next_after(time.monotonic() - began)
            log.warning("the engine ended (exit code %s); it is started again in %g s", self._process.stop(), seconds)
            if self._stopping.wait(seconds):
                return
            self._process = self._start()
            try:
                self.client.url = self._process.wait()
            except ProcessFailed as error:
                log.error("%s", error)
