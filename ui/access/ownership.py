"""Which collections whoever asks has, and what a name means to them.

On this machine, and behind a password, there is one shelf: who comes in sees every collection by its name. On a page
that is open to everybody each browser has a shelf of its own, known by a cookie; what others have is reached by its key
alone, which the address holds (`/?c=KEY`) and nobody can guess.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from contextlib import suppress

from gradio.context import LocalContext
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import BadValueError, NotFoundError
from serving.library.catalogue import is_key
from serving.library.library import Library
from serving.library.records import Collection, CollectionKey

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
                "this page is open to everybody, and finds a collection by its id only: use the one that"
                " /new_collection returns",
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

    def find(self, collection: str) -> Collection:
        """Return the collection of this key or name, which may be one that does not exist yet. Makes nothing.

        Raises CollectionGoneError for a key that is none, NotFoundError for a name of somebody who cannot be told,
        BadValueError for what is no name.
        """
        if is_key(collection):
            return self._library.catalogue.read_collection(collection)
        return self._library.catalogue.find_collection(collection, self.owner)

    def key(self, collection: str) -> CollectionKey:
        """Return the key of what `find` finds, and raise as it does."""
        return self.find(collection).key

    def make(self, collection: str) -> Collection:
        """Return the collection of this key or name; one of this name is made if there is none. Raises as `find`, and
        ReadOnlyError or LibraryError."""
        found = self.find(collection)
        if found.key:
            return found
        with suppress(BadValueError):  # somebody else has just made it
            return self._library.create_collection(found.name, self.owner)
        return self.find(collection)

    def address(self, found: Collection) -> str:
        """Return what stands for a collection in a list and in the page's address: a name where that is enough."""
        if not found.key or (not self.own and self._library.catalogue.find_collection(found.name).key == found.key):
            return found.name
        return found.key

    def mine(self) -> list[Collection]:
        try:
            return self._library.catalogue.list_collections(self.owner)
        except NotFoundError:
            return []

    def latest(self) -> str | None:
        return self._library.catalogue.find_latest_name(self.owner)

    def choices(self, chosen: Collection, always: tuple[str, ...]) -> list[tuple[str, str]]:
        """For a list, as (what is read, what is sent): one's own, the one that is shown, and names that are offered."""
        mine = self.mine()
        listed = {(found.name, self.address(found)) for found in mine}
        names = {found.name for found in mine}
        offered = {(name, name) for name in (*always, *([] if chosen.key else [chosen.name])) if name not in names}
        if chosen.key and chosen.key not in {found.key for found in mine}:
            offered.add((f"{chosen.name} (shared{' with you' if self.own else ''})", chosen.key))
        return sorted(listed | offered)


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
