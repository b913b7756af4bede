"""Access to a page that others can reach: HTTP's own user and password, in front of everything else."""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bench.templating import create_environment
from serving.cloud.credentials import PASSWORD_CHARS

USER, PASSWORD, PUBLIC = "DORMOUSE_PAGE_USER", "DORMOUSE_PAGE_PASSWORD", "DORMOUSE_PAGE_PUBLIC"
DEFAULT_USER = "dormouse"
TEMPLATES = create_environment("ui.access")
WRONG_S = 0.5
"""Before a wrong password is answered."""


class PasswordGate:
    """ASGI, in front of everything: refuses a request, or hands it on. It refuses in this order.

    0. another host than the page's: 421
    1. no password is set, and the page was not opened to everybody: 403 with what to do. Whoever has the address could
       read and delete pages, and start containers that somebody pays for
    2. wrong user or password: 401. HTTP's own, because browsers send it with pictures, streams and uploads too, which
       Gradio's login does not cover
    3. the library is not open: 503 with the reason
    """

    def __init__(self, page: ASGIApp, explain_not_ready: Callable[[], str]) -> None:
        self._page = page
        self._explain_not_ready = explain_not_ready
        self.allowed_hosts: tuple[str, ...] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := await self._refuse(scope)) is not None:
            await refusal(scope, receive, send)
        elif scope["type"] in ("http", "lifespan"):
            await self._page(scope, receive, send)

    async def _refuse(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if self.allowed_hosts and not any(host_matches(host, allowed) for allowed in self.allowed_hosts):
            text = "This page does not answer under this host name. To allow it, set DORMOUSE_PAGE_HOSTS and redeploy."
            return render_refusal(421, text)
        if problem := explain_closed():
            return render_refusal(403, problem)
        if not is_authorized(headers.get("authorization", "")):
            if "authorization" in headers:
                await asyncio.sleep(WRONG_S)
            challenge = {"WWW-Authenticate": 'Basic realm="Dormouse", charset="UTF-8"'}
            return render_refusal(401, "This page requires a user name and a password.", challenge)
        if why := await asyncio.to_thread(self._explain_not_ready):
            text = f"The page is running, but its collections are not available: {why}."
            return render_refusal(503, text, {"Retry-After": "5"})
        return None


def host_matches(host: str, allowed: str) -> bool:
    """Whether a host is allowed by its name, or by `*.` and a name above it."""
    return host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed


def explain_closed() -> str:
    """Return why nobody may see the page as it is set; empty if somebody may."""
    password = os.environ.get(PASSWORD, "")
    if len(password) >= PASSWORD_CHARS or is_open_to_all():
        return ""
    if password:
        return f"The password of this page is too short: {PASSWORD} has at least {PASSWORD_CHARS} characters."
    return (
        "This page has no password and would be open to everybody who has its address, so it is closed. Set"
        f" {PASSWORD} in its secret, and {USER} for a user name other than {DEFAULT_USER}. Or set {PUBLIC}=1 to let"
        " everybody see, add and delete pages, and start the servers."
    )


def is_open_to_all() -> bool:
    return not os.environ.get(PASSWORD) and os.environ.get(PUBLIC, "").strip().lower() in ("1", "true", "yes")


def is_authorized(authorization: str) -> bool:
    """Whether the header has the page's user and password, compared in constant time."""
    password = os.environ.get(PASSWORD, "")
    if not password:
        return is_open_to_all()
    scheme, _, token = authorization.partition(" ")
    try:
        given = base64.b64decode(token.strip(), validate=True) if scheme.lower() == "basic" else b""
    except ValueError:
        given = b""
    wanted = f"{os.environ.get(USER) or DEFAULT_USER}:{password}".encode()
    return hmac.compare_digest(given, wanted)


def render_refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    safe = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return HTMLResponse(TEMPLATES.get_template("refusal.html").render(text=text), status, safe)
