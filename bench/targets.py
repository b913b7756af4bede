"""What a cold-start bench asks, and how each is brought to zero: our engine by its route, others by waiting.

Knows nothing of trials and figures.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests

from serving.client import CONNECT_S
from serving.edge import NO_HEADERS, headers_for
from serving.errors import BadValueError
from serving.process import ServerProcess
from serving.server import is_loopback
from serving.settings import Settings
from serving.snapshots import NAMES

ZERO_S = 60.0
"""The engine answers a scaledown after half a minute at the latest; a worker that is being started is waited for."""
STATE_S = 10.0
POLL_S = 0.05
TICK_S = 1.0
EMBEDDERS = {"builtin": "builtin", "hf": "bigemma3", "vllm": "vllm"}
MODES = {"builtin": ("builtin",), "huggingface": ("hf",), "vllm": ("vllm",), "both": ("vllm", "hf")}
WINDOW_S = "3600"
"""Of engines started here: they are scaled down by the plan only."""
PORTS = {"http": 80, "https": 443}

Told = Callable[[str], None]
"""What is going on, in words; a countdown calls it each second."""


class TargetError(Exception):
    """In a sentence: unreachable, not a Dormouse server, or a wrong key."""


class NotDormouse(TargetError):
    """It answers, or accepts a connection, and is no engine of ours: it may still be asked as a plain address."""


class Target(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def key(self) -> str:
        """Of its API; empty where none is asked for."""

    @property
    def headers(self) -> Mapping[str, str]:
        """That go with every request beside the key."""

    def answered(self, start_kind: str) -> None:
        """What its latest answer said of its start; empty if it did not answer."""

    def scale_down(self, told: Told) -> None:
        """Returns when no worker is held, as far as that can be known. Raises TargetError."""

    def close(self) -> None: ...


class LocalEngine:
    """`python -m serving`: attached to by its address, and taken along at `close` if it was started for this bench."""

    headers = NO_HEADERS

    def __init__(
        self, name: str, url: str, key: str, admin_key: str, process: ServerProcess | None = None,
        folder: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:  # fmt: skip
        """Asks for its state. Raises TargetError."""
        self.name = name
        self.url = check_address(url)
        self.key = key
        self._admin = {"X-Admin-Key": admin_key}
        self._process = process
        self._folder = folder
        self._session = requests.Session()
        self._session.trust_env = False
        found = self.status()
        self.backend = str(found.get("backend", ""))
        """How its workers come back: plain, criu, fork, ..."""
        self.refused = {str(name): str(reason) for name, reason in found.get("refused", {}).items()}
        """Backends that it would have preferred, and why they do not work here."""
        self.title = f"the engine of {found.get('embedder', '?')} ({self.backend}) at {self.url}"

    def status(self) -> dict[str, Any]:
        """`GET /engine`; wakes nobody. Raises TargetError."""
        return self._ask("GET", "/engine", STATE_S, "state")

    def answered(self, start_kind: str) -> None: ...

    def scale_down(self, told: Told) -> None:
        told("scaling down")
        self._ask("POST", "/engine/scaledown", ZERO_S, "status")
        ends = time.monotonic() + ZERO_S
        while (state := self.status().get("state")) != "zero":
            if time.monotonic() >= ends:
                raise TargetError(f"{self.url} is {state} and not at zero after {ZERO_S:g} s")
            time.sleep(POLL_S)

    def close(self) -> None:
        self._session.close()
        if self._process is not None:
            self._process.stop()
        if self._folder is not None:
            self._folder.cleanup()

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
        """Sends nothing: that would keep it warm. Raises TargetError for what is no address."""
        self.name = name
        self.url = check_address(url)
        self.key = key
        self.headers = headers
        self.title = self.url
        self._wait_s = scaledown_wait_s

    def answered(self, start_kind: str) -> None: ...

    def scale_down(self, told: Told) -> None:
        count_down(self._wait_s, told, "waiting for it to scale down")

    def close(self) -> None: ...


def count_down(seconds: float, told: Told, what: str) -> None:
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        told(f"{what}, {left:.0f} s left")
        time.sleep(min(TICK_S, left))


def check_address(url: str) -> str:
    """Raises TargetError."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise TargetError(f"{url!r} is not an address: it looks like http://127.0.0.1:8000")
    return url.rstrip("/")


def explain_unreachable(url: str) -> str:
    return f"nothing answers at {url}: is the server running?"


def start_engine(name: str, arguments: Sequence[str]) -> LocalEngine:
    """An engine with a data folder of its own, so that neither snapshot nor key of another run is met.

    Raises ProcessFailed if it does not come up, TargetError if it cannot be asked.
    """
    folder = tempfile.TemporaryDirectory(prefix="dormouse-bench-", ignore_cleanup_errors=True)
    process: ServerProcess | None = None
    try:
        process = ServerProcess("serving", [*arguments, "--data", folder.name])
        url = process.wait()
        settings = Settings(data=Path(folder.name))
        return LocalEngine(name, url, next(iter(settings.keys), ""), find_admin_key(settings, url), process, folder)
    except BaseException:
        if process is not None:
            process.stop()
        folder.cleanup()
        raise


def attach_target(name: str, url: str, key: str, scaledown_wait_s: float) -> Target:
    """An engine of ours if its admin key is here, else a plain address.

    Raises TargetError if nobody accepts a connection, and for a wrong admin key.
    """
    where = urlsplit(check_address(url))
    try:
        socket.create_connection((where.hostname or "", where.port or PORTS[where.scheme]), CONNECT_S).close()
    except OSError:
        raise TargetError(explain_unreachable(url)) from None
    if admin := find_admin_key(Settings(), url):
        with contextlib.suppress(NotDormouse):
            return LocalEngine(name, url, key, admin)
    return PlainUrl(name, url, key, scaledown_wait_s, read_edge_headers(url))


def read_edge_headers(url: str) -> dict[str, str]:
    """That an address at Modal may ask for. Raises TargetError for half of them."""
    try:
        return headers_for(url, os.environ)
    except BadValueError as error:
        raise TargetError(error.message) from None


def find_admin_key(settings: Settings, url: str) -> str:
    """The configured one; for an address of this machine else that of the data folder, which no other host is told.

    Empty if there is none.
    """
    configured = settings.admin_key.get_secret_value()
    if configured or not is_loopback(urlsplit(url).hostname or ""):
        return configured
    try:
        return (settings.data / "admin.key").read_text().strip()
    except OSError:
        return ""


def select_targets(options: argparse.Namespace, stack: ExitStack, say: Told) -> dict[str, list[Target]]:
    """Of each deployment. Raises TargetError, ProcessFailed, and ValueError for an address that belongs to no mode."""
    given = {"vllm": options.vllm_url, "hf": options.hf_url}
    wanted = MODES[options.mode]
    check_modal_options(options)
    if options.url and options.mode == "both":
        raise ValueError("--mode both takes --vllm-url and --hf-url: --url does not say which of them it is")
    if options.url and given.get(wanted[0]):
        raise ValueError(f"--url and --{wanted[0]}-url both name the server of {options.mode}: give one of them")
    if unused := [name for name, url in given.items() if url and name not in wanted]:
        raise ValueError(f"--{unused[0]}-url is not for --mode {options.mode}")
    found: dict[str, list[Target]] = {}
    for deployment in wanted:
        url = options.url or given.get(deployment)
        if options.modal is not None:
            found[deployment] = [open_modal_target(deployment, options.modal, stack)]
        elif url:
            key = os.environ.get("DORMOUSE_WORKER_KEY", "")
            target = attach_target(deployment, url, key, options.scaledown_wait)
            stack.callback(target.close)
            found[deployment] = [target]
        else:
            found[deployment] = start_engines(deployment, options, stack, say)
        for target in found[deployment]:
            say(f"{target.name}: {target.title}")
    return found


def check_modal_options(options: argparse.Namespace) -> None:
    """Raises ValueError for what does not go together with `--modal`."""
    if options.modal is None:
        return
    if options.mode == "builtin":
        raise ValueError("--modal is for --mode huggingface, vllm or both")
    if options.url or options.vllm_url or options.hf_url:
        raise ValueError("--modal finds the address by itself: give no address beside it")
    if options.modal and options.mode == "both":
        raise ValueError("--mode both takes the apps' own names: --modal APP does not say which of them it is")


def open_modal_target(deployment: str, app: str, stack: ExitStack) -> Target:
    """Raises TargetError, ValueError."""
    from bench.modal_app import open_modal_target  # it is a target: it imports this file

    target = open_modal_target(deployment, app)
    stack.callback(target.close)
    return target


def start_engines(
    deployment: str, options: argparse.Namespace, stack: ExitStack, say: Told
) -> list[Target]:  # fmt: skip
    """One for each way of coming back; `auto` that turns out to be one of them already is left out, with a word."""
    found: dict[str, Target] = {}
    given: dict[str, str | None] = {} if deployment == "builtin" else vars(options)
    for way in sorted(options.snapshots, key="auto".__eq__):
        say(f"starting an engine for {deployment}, snapshots by {way}")
        arguments = ["--embedder", EMBEDDERS[deployment], "--snapshot", way, "--scaledown-window", WINDOW_S]
        arguments += [part for name in ("weights", "device") if given.get(name) for part in (f"--{name}", given[name])]
        engine: LocalEngine = start_engine(f"{deployment} {way}", arguments)
        stack.callback(engine.close)
        engine.name = f"{deployment} {engine.backend}"
        if engine.backend in found:
            why = "; ".join(f"{name}: {reason}" for name, reason in engine.refused.items())
            say(f"auto is {engine.backend} here, which is measured already" + (f" ({why})" if why else ""))
            engine.close()
        else:
            found[engine.backend] = engine
    return list(found.values())


def parse_snapshots(text: str) -> tuple[str, ...]:
    """For argparse."""
    found = tuple(name.strip() for name in text.split(","))
    if len(set(found)) != len(found) or not set(found) <= {"auto", *NAMES}:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different ones of auto, {', '.join(NAMES)}")
    return found
