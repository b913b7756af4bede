"""Servers that a cold-start run measures, and how each is scaled down: our engine by its route, others by waiting."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests

from bench.results.record import Say
from serving.client import CONNECT_S
from serving.errors import BadValueError
from serving.http.child_server import ServerProcess
from serving.http.redirects import NO_HEADERS, select_proxy_headers
from serving.http.server import is_loopback
from serving.settings import Settings

ZERO_S = 60.0
"""Until the engine is at zero: it answers a scaledown within half a minute, and finishes a start first."""
START_S = 120.0
STATE_S = 10.0
POLL_S = 0.05
TICK_S = 1.0
PORTS = {"http": 80, "https": 443}


class TargetError(Exception):
    """A failure in a sentence: unreachable, not a Dormouse server, or a wrong key."""


class NotDormouse(TargetError):
    """A server that answers, or accepts a connection, and is no engine of ours: it can be measured as a plain URL."""


class Target(Protocol):
    """A server to measure. `title` is for people; `key` may be empty; `headers` go with every request."""

    name: str
    title: str
    url: str
    key: str
    headers: Mapping[str, str]

    def note_start(self, start_kind: str) -> None:
        """Take note of the start kind in its latest answer; empty if it did not answer."""

    def scale_down(self, say: Say) -> None:
        """Return once no worker is held, as far as that can be known. Raises TargetError."""

    def close(self) -> None:
        """Stop what was started for this run."""


class LocalEngine:
    """`python -m serving`: attached to by its address, and stopped by `close` if it was started for this bench."""

    headers = NO_HEADERS

    def __init__(
        self, name: str, url: str, key: str, admin_key: str, process: ServerProcess | None = None,
        folder: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:  # fmt: skip
        """Attach, and ask for its state. Raises TargetError."""
        self.name = name
        self.url = check_address(url)
        self.key = key
        self.process = process
        self.folder = folder
        """Its data; None, as `process`, if it was not started here."""
        self._admin = {"X-Admin-Key": admin_key}
        self._session = requests.Session()
        self._session.trust_env = False
        status = self.read_status()
        self.backend = str(status.get("backend", ""))
        """Snapshot backend of its workers: plain, criu, fork, ..."""
        self.refused = {str(name): str(reason) for name, reason in status.get("refused", {}).items()}
        """Backends that it would have preferred, with the reason why they do not work here."""
        self.title = f"the engine of {status.get('embedder', '?')} ({self.backend}) at {self.url}"

    def read_status(self) -> dict[str, Any]:
        """Return the answer of `GET /engine`, which wakes no worker. Raises TargetError."""
        return self._ask("GET", "/engine", STATE_S, "state")

    def note_start(self, start_kind: str) -> None:
        """Do nothing: how it is scaled down does not depend on it."""

    def scale_down(self, say: Say) -> None:
        """Return once it is at zero. Raises TargetError."""
        say("scaling down")
        self._ask("POST", "/engine/scaledown", ZERO_S, "status")
        ends = time.monotonic() + ZERO_S
        while (state := self.read_status().get("state")) != "zero":
            if time.monotonic() >= ends:
                raise TargetError(f"{self.url} is {state} and not at zero after {ZERO_S:g} s")
            time.sleep(POLL_S)

    def close(self) -> None:
        """Stop the engine, and remove its data, if it was started here."""
        self._session.close()
        if self.process is not None:
            self.process.stop()
        if self.folder is not None:
            self.folder.cleanup()

    def _ask(self, method: str, path: str, timeout: float, wanted: str) -> dict[str, Any]:
        try:
            answer = self._session.request(
                method, self.url + path, headers=self._admin, timeout=timeout, allow_redirects=False
            )
        except requests.ReadTimeout:
            raise NotDormouse(f"{self.url} did not answer {path} within {timeout:g} s") from None
        except (requests.RequestException, ValueError):
            raise TargetError(explain_unreachable(self.url)) from None
        if answer.status_code == 401:
            raise TargetError(f"{self.url} refused the admin key: set DORMOUSE_ADMIN_KEY to its own, or DORMOUSE_DATA"
                              " to the data folder it runs in")  # fmt: skip
        try:
            found = answer.json() if answer.ok else None
        except ValueError:
            found = None
        if not isinstance(found, dict) or wanted not in found:
            raise NotDormouse(f"{self.url} is not a Dormouse server: {path} answered {answer.status_code}")
        return found


class PlainUrl:
    """Any server with `/embed`. It is left alone until it has had the time to scale down by itself."""

    def __init__(
        self, name: str, url: str, key: str, scaledown_wait_s: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> None:
        """Send nothing: that would keep it warm. Raises TargetError for what is no address."""
        self.name = name
        self.url = check_address(url)
        self.key = key
        self.headers = headers
        self.title = self.url
        self._wait_s = scaledown_wait_s

    def note_start(self, start_kind: str) -> None:
        """Do nothing: how it is scaled down does not depend on it."""

    def scale_down(self, say: Say) -> None:
        """Return after the time it takes to scale down."""
        count_down(self._wait_s, say, "waiting for it to scale down")

    def close(self) -> None:
        """Do nothing: it was not started here."""


def count_down(seconds: float, say: Say, what: str) -> None:
    """Wait, and say each second how much is left."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        say(f"{what}, {left:.0f} s left")
        time.sleep(min(TICK_S, left))


def check_address(url: str) -> str:
    """Return the address without a slash at its end. Raises TargetError for what is none."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise TargetError(f"{url!r} is not an address: it looks like http://127.0.0.1:8000")
    return url.rstrip("/")


def explain_unreachable(url: str) -> str:
    """Return in a sentence that nothing answers."""
    return f"nothing answers at {url}: is the server running?"


def start_engine(
    name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None, timeout_s: float = START_S
) -> LocalEngine:
    """Start an engine with a data folder of its own, so that it meets neither snapshot nor key of another run.

    Raises ProcessFailed if it does not come up, TargetError if it cannot be asked.
    """
    folder = tempfile.TemporaryDirectory(prefix="dormouse-bench-", ignore_cleanup_errors=True)
    process: ServerProcess | None = None
    try:
        process = ServerProcess("serving", [*arguments, "--data", folder.name], environment)
        url = process.wait(timeout_s)
        settings = Settings(data=Path(folder.name))
        key = next(iter(settings.keys), "")
        return LocalEngine(name, url, key, find_admin_key(settings, url), process, folder)
    except BaseException:
        if process is not None:
            process.stop()
        folder.cleanup()
        raise


def attach_target(name: str, url: str, key: str, scaledown_wait_s: float) -> Target:
    """Return an engine of ours if its admin key is here, else a plain URL. Raises TargetError."""
    where = urlsplit(check_address(url))
    try:
        socket.create_connection((where.hostname or "", where.port or PORTS[where.scheme]), CONNECT_S).close()
    except OSError:
        raise TargetError(explain_unreachable(url)) from None
    if admin := find_admin_key(Settings(), url):
        with contextlib.suppress(NotDormouse):
            return LocalEngine(name, url, key, admin)
    try:
        headers = select_proxy_headers(url, os.environ)
    except BadValueError as error:
        raise TargetError(error.message) from None
    return PlainUrl(name, url, key, scaledown_wait_s, headers)


def find_admin_key(settings: Settings, url: str) -> str:
    """Return the configured admin key, for an address of this machine else that of the data folder.

    Another host is never sent the folder's key. Empty if there is none.
    """
    configured = settings.admin_key.get_secret_value()
    if configured or not is_loopback(urlsplit(url).hostname or ""):
        return configured
    try:
        return (settings.data / "admin.key").read_text().strip()
    except OSError:
        return ""
