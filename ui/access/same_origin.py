"""Protection from web pages of other sites: they may link to this page, and nothing else.

A browser sends requests to any address that a page names, this machine's own included, and adds its user's password and
cookies. Uploads are forms, which it sends without asking first.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

REFUSAL = (
    "This came from a page of another site. If a proxy stands between the browser and this page, let it pass on Host,"
    " or name it in X-Forwarded-Host."
)


class SameOrigin:
    """ASGI: answers 403 to requests from a page of another site, unless it is a link that somebody follows.

    Programs that are no browsers, such as curl and gradio_client, name no origin and are let through.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_foreign(headers := Headers(scope=scope)):
            is_link = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
            if not is_link:
                await JSONResponse({"error": REFUSAL}, 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_foreign(headers: Headers) -> bool:
    """Whether a page of another origin sent it, by its browser's headers.

    Browsers leave Sec-Fetch-Site out where a page came by plain HTTP from another machine; Origin they send with
    everything but a GET. X-Forwarded-Host cannot be set by a page elsewhere: its browser would ask first, with OPTIONS.
    """
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    if (origin := headers.get("origin")) is None:
        return False
    hosts = [headers.get("host", ""), *headers.get("x-forwarded-host", "").split(",")]
    return origin.partition("://")[2].lower() not in [host.strip().lower() for host in hosts if host.strip()]
