"""The page in a container that its platform saves, brings back and ends: built once, opened in each life, with a door.

```
build   Gradio, the page, the servers' names     once; all of it is in the snapshot, and no page of anybody's
open    the library from its volume              in each container; again with the next request if it did not work
close   jobs end, what is with a worker is kept  once in each container
```

Knows nothing of the platform: the backup is given, and the rest stands in the environment.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bench.keys import PASSWORD_CHARS, keys  # before the library: see `bench/__init__.py`
from serving.backup import Backup
from serving.disk import copy_file
from serving.errors import ServingError
from serving.library import Library
from serving.settings import Settings
from ui.app import create_app, elsewhere, wind_down
from ui.modal_workers import ModalTarget
from ui.runs import PATTERN
from ui.service import Service

USER, PASSWORD, PUBLIC = "DORMOUSE_PAGE_USER", "DORMOUSE_PAGE_PASSWORD", "DORMOUSE_PAGE_PUBLIC"
DEFAULT_USER = "dormouse"
WRONG_S = 0.5
"""Before a wrong password is told so."""
AGAIN_S = 5.0
"""Between two tries to open the library."""
SAFE = ("GET", "HEAD", "OPTIONS")
PLAIN = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>Dormouse</title>
<body style="font:16px/1.5 system-ui;max-width:42rem;margin:4rem auto;padding:0 1rem"><h1>Dormouse</h1><p>{text}</p>"""
log = logging.getLogger(__name__)


class Hosted:
    def __init__(self, data: Path, backup: Backup, workers: Sequence[tuple[str, str]]) -> None:
        """Opens nothing, asks nobody. `data`: a folder that goes with this container. Raises ServingError."""
        self._runs = (backup.folder / "runs", data / "runs")
        os.environ["GRADIO_TEMP_DIR"] = str((data / "uploads").resolve())
        self._limits = Settings(data=data)
        self.library = Library(data, backup, later=True)
        targets = elsewhere(workers, self._limits, backup.folder)
        self.service = Service(targets, self.library, self._limits, engines=False)
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
        access = keys(self._limits.data, os.environ)  # a secret may have been changed since
        for target in self.service.targets:
            if isinstance(target, ModalTarget):
                target.use(access)
        self.door.names = tuple(name.lower() for name in names)
        self.ready()

    def ready(self) -> str:
        """Empty, or why the page cannot be used now."""
        with self._opening:
            if not self._opened and time.monotonic() - self._tried >= AGAIN_S:
                try:
                    self.library.open()
                    copied(*self._runs)
                    self._opened, self._failure = True, ""
                except ServingError as error:
                    log.error("%s", error.message)
                    self._failure = error.message
                self._tried = time.monotonic()
            return self._failure

    def close(self) -> None:
        """At its end: no further page is begun, and what was measured is put on the volume."""
        wind_down(self._page, self.service)
        if self._opened:
            copied(*reversed(self._runs))


def copied(source: Path, target: Path) -> None:
    """Results of runs, which are no more than nice to have: whatever fails leaves them where they are."""
    for file in sorted(source.glob(f"*/{PATTERN}")):
        with suppress(OSError):
            (target / file.parent.name).mkdir(parents=True, exist_ok=True)
            copy_file(file, target / file.parent.name / file.name)


class Door:
    """ASGI, in front of everything: who may come in, and whether there is anything to see. In this order:

    0. another host than the page's: 421
    1. no password is set, and it was not said that everybody may come: 403 with what to do. Whoever has the address
       could read and delete pages, and start containers that somebody pays for
    2. wrong user or password: 401. HTTP's own, because browsers send it with pictures, streams and uploads too, which
       Gradio's login does not cover
    3. a request that another site's page sent: 403. A browser would add the password to it
    4. the library is not open: 503 with the reason
    """

    def __init__(self, page: ASGIApp, ready: Callable[[], str]) -> None:
        self._page = page
        self._ready = ready
        self.names: tuple[str, ...] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := await self._refusal(scope)) is not None:
            await refusal(scope, receive, send)
        elif scope["type"] in ("http", "lifespan"):
            await self._page(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self.names and not any(fits(headers.get("host", "").lower(), name) for name in self.names):
            return told(421, "This page is not asked under this name: DORMOUSE_PAGE_HOSTS adds it, at the deployment.")
        if problem := unguarded():
            return told(403, problem)
        if not known(headers.get("authorization", "")):
            if "authorization" in headers:
                await asyncio.sleep(WRONG_S)
            challenge = {"WWW-Authenticate": 'Basic realm="Dormouse", charset="UTF-8"'}
            return told(401, "This page asks for a user and a password.", challenge)
        if scope["method"] not in SAFE and foreign(headers):
            return told(403, "This came from a page of another site.")
        if why := await asyncio.to_thread(self._ready):
            return told(503, f"The page is up, but its collections are not: {why}.", {"Retry-After": f"{AGAIN_S:.0f}"})
        return None


def fits(host: str, name: str) -> bool:
    return host.endswith(name[1:]) if name.startswith("*.") else host == name


def unguarded() -> str:
    """Why nobody may see the page as it is set; empty if somebody may."""
    password = os.environ.get(PASSWORD, "")
    if len(password) >= PASSWORD_CHARS or (not password and public()):
        return ""
    if password:
        return f"The password of this page is too short: {PASSWORD} has at least {PASSWORD_CHARS} characters."
    return (
        "This page has no password, and everybody who has its address could see it: so nobody may. Put"
        f" {PASSWORD} into its secret, and {USER} if that shall be another than {DEFAULT_USER}. Or {PUBLIC}=1, if"
        " everybody may see, add and delete pages, and start the servers."
    )


def public() -> bool:
    return os.environ.get(PUBLIC, "").strip().lower() in ("1", "true", "yes")


def known(authorization: str) -> bool:
    """Compared in constant time."""
    password = os.environ.get(PASSWORD, "")
    if not password:
        return public()
    scheme, _, token = authorization.partition(" ")
    try:
        given = base64.b64decode(token.strip(), validate=True) if scheme.lower() == "basic" else b""
    except ValueError:
        given = b""
    wanted = f"{os.environ.get(USER) or DEFAULT_USER}:{password}".encode()
    return hmac.compare_digest(given, wanted)


def foreign(headers: Headers) -> bool:
    """Sent by a page of another site, as its browser tells."""
    if headers.get("sec-fetch-site", "") in ("cross-site", "same-site"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def told(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    more = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return HTMLResponse(PLAIN.replace("{text}", escape(text)), status, more)
