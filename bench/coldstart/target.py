"""Servers that a cold-start run measures, and how each is scaled down: our engine by its route, others by waiting."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
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
"""Seconds for the engine to reach zero: it answers a scaledown within half a minute, and finishes a start first."""
START_S = 120.0
STATE_S = 10.0
POLL_S = 0.05
TICK_S = 1.0
PORTS = {"http": 80, "https": 443}
UNREACHABLE = "nothing answers at {}: is the server running?"


class TargetError(Exception):
    """A failure in a sentence: unreachable, not a Dormouse server, or a wrong key."""


class NotDormouse(TargetError):
    """A server that answers, or accepts a connection, and is no engine of ours: it can be measured as a plain URL."""


class Target(ABC):
    """A server to measure. `title` is for people; `key` may be empty; `headers` go with every request."""

    name: str
    title: str
    url: str
    key: str
    headers: Mapping[str, str] = NO_HEADERS

    def note_start(self, start_kind: str) -> None:  # noqa: B027 - for those that do not depend on it
        """Take note of the start kind in its latest answer; empty if it did not answer."""

    @abstractmethod
    def scale_down(self, say: Say) -> None:
        """Return once no worker is held, as far as that can be known. Raises TargetError."""

    def close(self) -> None:  # noqa: B027 - for those that were not started here
        """Stop what was started for this run."""


class LocalEngine(Target):
    """`python -m serving`: attached to by its address, and stopped by `close` if it was started for this bench."""

    def __init__(self, name: str, url: str, key: str, admin_key: str) -> None:
        """Attach, and ask for its state. Raises TargetError."""
        self.name = name
        self.url = check_address(url)
        self.key = key
        self.process: ServerProcess | None = None
        self.folder: Path | None = None
        """Its data; None, as `process`, if it was not started here."""
        self.resources = ExitStack()
        """Closed with this engine."""
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

    def scale_down(self, say: Say | None = None) -> None:
        """Return once it is at zero. Raises TargetError."""
        if say is not None:
            say("scaling down")
        self._ask("POST", "/engine/scaledown", ZERO_S, "status")
        ends = time.monotonic() + ZERO_S
        while (state := self.read_status().get("state")) != "zero":
            if time.monotonic() >= ends:
                raise TargetError(f"{self.url} is {state} and not at zero after {ZERO_S:g} s")
            time.sleep(POLL_S)

    def time_embed(self, body: Mapping[str, Any], timeout_s: float = START_S) -> tuple[float, requests.Response]:
        """Send a body without a key; return the seconds to the whole answer, and the answer. Raises OSError.

        The connection is kept for the next: the first of an engine counts its set-up, of about a millisecond.
        """
        began = time.perf_counter()
        answer = self._session.post(f"{self.url}/embed", json=body, timeout=timeout_s)
        return time.perf_counter() - began, answer

    def close(self) -> None:
        """Stop the engine, and remove its data, if it was started here."""
        self._session.close()
        self.resources.close()

    def _ask(self, method: str, path: str, timeout: float, wanted: str) -> dict[str, Any]:
        try:
            answer = self._session.request(
                method, self.url + path, headers=self._admin, timeout=timeout, allow_redirects=False
            )
        except requests.ReadTimeout:
            raise NotDormouse(f"{self.url} did not answer {path} within {timeout:g} s") from None
        except (requests.RequestException, ValueError):
            raise TargetError(UNREACHABLE.format(self.url)) from None
        if answer.status_code == 401:
            advice = "set DORMOUSE_ADMIN_KEY to its own, or DORMOUSE_DATA to the data folder it runs in"
            raise TargetError(f"{self.url} refused the admin key: {advice}")
        content: Any = None
        with contextlib.suppress(ValueError):
            content = answer.json() if answer.ok else None
        if not isinstance(content, dict) or wanted not in content:
            raise NotDormouse(f"{self.url} is not a Dormouse server: {path} answered {answer.status_code}")
        return content


class PlainUrl(Target):
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

    def scale_down(self, say: Say) -> None:
        """Return after the time it takes to scale down."""
        count_down(self._wait_s, say, "waiting for it to scale down")


def count_down(seconds: float, say: Say, what: str) -> None:
    """Wait, and say each second how much is left."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        say(f"{what}, {left:.0f} s left")
        time.sleep(min(TICK_S, left))


def check_address(url: str) -> str:
    """Return the address without a slash at its end. Raises TargetError for what is none."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0:
            return url.rstrip("/")
    raise TargetError(f"{url!r} is not an address: it looks like http://127.0.0.1:8000")


def start_engine(
    name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None, timeout_s: float = START_S
) -> LocalEngine:
    """Start an engine with data of its own: no snapshot or key of another run. Raises ProcessFailed, TargetError."""
    with ExitStack() as stack:
        scratch = tempfile.TemporaryDirectory(prefix="dormouse-bench-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(scratch))
        process = stack.enter_context(ServerProcess("serving", [*arguments, "--data", str(folder)], environment))
        url = process.wait(timeout_s)
        settings = Settings(data=folder)
        key = next(iter(settings.keys), "")
        engine = LocalEngine(name, url, key, find_admin_key(settings, url))
        engine.process, engine.folder, engine.resources = process, folder, stack.pop_all()
        return engine


def attach_target(name: str, url: str, key: str, scaledown_wait_s: float) -> Target:
    """Return an engine of ours if its admin key is here, else a plain URL. Raises TargetError."""
    where = urlsplit(check_address(url))
    try:
        socket.create_connection((where.hostname or "", where.port or PORTS[where.scheme]), CONNECT_S).close()
    except OSError:
        raise TargetError(UNREACHABLE.format(url)) from None
    if admin := find_admin_key(Settings(), url):
        with contextlib.suppress(NotDormouse):
            return LocalEngine(name, url, key, admin)
    try:
        headers = select_proxy_headers(url, os.environ)
    except BadValueError as error:
        raise TargetError(error.message) from None
    return PlainUrl(name, url, key, scaledown_wait_s, headers)


def find_admin_key(settings: Settings, url: str) -> str:
    """Return the configured admin key; else, for an address of this machine only, the data folder's; else ""."""
    configured = settings.admin_key.get_secret_value()
    if configured or not is_loopback(urlsplit(url).hostname or ""):
        return configured
    try:
        return (settings.data / "admin.key").read_text().strip()
    except OSError:
        return ""
