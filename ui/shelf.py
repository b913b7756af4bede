"""Which collections whoever asks has, and what a name means to them.

On this machine, and behind a password, there is one shelf: who comes in sees every collection by its name. On a page
that is open to everybody each browser has a shelf of its own, known by a cookie; what others have is reached by its key
alone, which the address holds (`/?c=KEY`) and nobody can guess.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from gradio.context import LocalContext
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.catalogue import KEY
from serving.errors import NotFoundError
from serving.library import Library
from serving.records import Collection

COOKIE = "dormouse"
TOKEN = re.compile(r"[0-9a-f]{32}")
YEAR_S = 365 * 24 * 3600


class Shelf:
    def __init__(self, library: Library) -> None:
        self._library = library
        self.own = False
        """Each browser has its own."""

    @property
    def owner(self) -> str:
        """Of whoever caused the event that runs now. Raises NotFoundError for one that nobody can be told by."""
        if not self.own:
            return ""
        request = LocalContext.request.get(None)
        token = request.cookies.get(COOKIE, "") if request is not None else ""
        if not TOKEN.fullmatch(token):
            raise NotFoundError(
                "this page is open to everybody, and names mean nothing here: give the collection's id, as"
                " /new_collection answers it",
                param="collection",
            )
        return hashlib.sha256(token.encode()).hexdigest()[:32]

    @property
    def maker(self) -> str:
        """The owner of what is made now. Who has no shelf gets one for it: its key is all that leads there."""
        try:
            return self.owner
        except NotFoundError:
            return secrets.token_hex(16)

    def ref(self, collection: str) -> str:
        """What the library is asked for: the same for a key and a name of one collection.

        On a shelf of one's own a name that is new makes a collection. Raises NotFoundError for a key that is none,
        BadValueError for what is no name.
        """
        found = self._library.collection(collection, "" if is_key(collection) else self.owner)
        if not self.own:
            by_name = self._library.collection(found.name)
            return found.key if found.key != by_name.key else found.name
        if found.key:
            return found.key
        return self._library.create(found.name, self.owner).key

    def mine(self) -> list[Collection]:
        try:
            return self._library.collections(self.owner)
        except NotFoundError:
            return []

    def latest(self) -> str | None:
        return self._library.latest(self.owner)

    def choices(self, chosen: str, always: tuple[str, ...]) -> list[tuple[str, str]]:
        """For a list, as (what is read, what is sent): one's own, the one that is shown, and names that are offered."""
        listed = {found.key: found.name for found in self.mine()}
        if not self.own:
            names = {*always, *listed.values()}
            others = [] if not is_key(chosen) else [(f"{self._library.collection(chosen).name} (shared)", chosen)]
            return [(name, name) for name in sorted(names | ({chosen} if not is_key(chosen) else set()))] + others
        offered = [(name, name) for name in always if name not in listed.values()]
        if chosen not in listed:
            offered.append((f"{self._library.collection(chosen).name} (shared with you)", chosen))
        return sorted([*((name, key) for key, name in listed.items()), *offered])


def is_key(collection: object) -> bool:
    return isinstance(collection, str) and KEY.fullmatch(collection) is not None


class Visitors:
    """ASGI: gives each new browser the cookie by which its shelf is known. Scripts cannot read it."""

    def __init__(self, app: ASGIApp, shelf: Shelf) -> None:
        self._app = app
        self._shelf = shelf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/"
        if not page or not self._shelf.own or known(scope):
            await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                secure = "; Secure" if scope.get("scheme") == "https" else ""
                cookie = f"{COOKIE}={secrets.token_hex(16)}; Path=/; HttpOnly; SameSite=Lax; Max-Age={YEAR_S}{secure}"
                headers = MutableHeaders(scope=message)
                headers.append("Set-Cookie", cookie)
                headers["Cache-Control"] = "no-store"
            await send(message)

        await self._app(scope, receive, marked)


def known(scope: Scope) -> bool:
    return TOKEN.fullmatch(Request(scope).cookies.get(COOKIE, "")) is not None
