"""Which collections a caller has, and which collection a name means to them.

On this machine, and behind a password, every caller sees every collection by its name. On a page that is open to
everybody each browser has collections of its own, known by a cookie; a collection of others is reached only by its key,
which the address holds (`/?c=KEY`) and nobody can guess.
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


class CollectionOwnership:
    """The owner of each call, and the collections that are theirs."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self.per_browser = False
        """Whether each browser has collections of its own."""

    @property
    def current_owner(self) -> str:
        """The owner that caused the current event. Raises NotFoundError for a caller without a cookie."""
        if not self.per_browser:
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
    def owner_for_new(self) -> str:
        """The owner of a collection that is made now. Without a cookie it is a new one: only the key leads there."""
        try:
            return self.current_owner
        except NotFoundError:
            return secrets.token_hex(16)

    def find(self, collection: str) -> Collection:
        """Return the collection of this key or name, which may be one that does not exist yet. Creates nothing.

        Raises CollectionGoneError for a key of none, NotFoundError for a name from a caller without a cookie,
        BadValueError for an invalid name.
        """
        if is_key(collection):
            return self._library.catalogue.read_collection(collection)
        return self._library.catalogue.find_collection(collection, self.current_owner)

    def find_key(self, collection: str) -> CollectionKey:
        """Return the key of the collection that `find` returns, and raise as it does."""
        return self.find(collection).key

    def find_or_create(self, collection: str) -> Collection:
        """Return the collection of a key or name, made if new. Raises as `find`, ReadOnlyError, LibraryError."""
        found = self.find(collection)
        if found.key:
            return found
        with suppress(BadValueError):  # somebody else has just created it
            return self._library.create_collection(found.name, self.current_owner)
        return self.find(collection)

    def address_of(self, found: Collection) -> str:
        """Return a collection's value in a list and in the page's address: its name if that is enough, else its key."""
        catalogue = self._library.catalogue
        if not found.key or (not self.per_browser and catalogue.find_collection(found.name).key == found.key):
            return found.name
        return found.key

    def list_own(self) -> list[Collection]:
        try:
            return self._library.catalogue.list_collections(self.current_owner)
        except NotFoundError:
            return []

    def find_latest_name(self) -> str | None:
        return self._library.catalogue.find_latest_name(self.current_owner)

    def list_choices(self, chosen: Collection, always: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return (text, value) for a list: the caller's collections, the chosen one, and the names in `always`."""
        own = self.list_own()
        names = {found.name for found in own}
        choices = {(found.name, self.address_of(found)) for found in own}
        choices |= {(name, name) for name in (*always, *([] if chosen.key else [chosen.name])) if name not in names}
        if chosen.key and chosen.key not in {found.key for found in own}:
            choices.add((f"{chosen.name} (shared{' with you' if self.per_browser else ''})", chosen.key))
        return sorted(choices)


class BrowserCookies:
    """ASGI: gives each new browser the cookie by which its collections are known. Scripts cannot read it."""

    def __init__(self, app: ASGIApp, ownership: CollectionOwnership) -> None:
        self._app = app
        self._ownership = ownership

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/"
        known = page and TOKEN.fullmatch(Request(scope).cookies.get(COOKIE, ""))
        if not page or known or not self._ownership.per_browser:
            await self._app(scope, receive, send)
            return

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                secure = "; Secure" if scope.get("scheme") == "https" else ""
                cookie = f"{COOKIE}={secrets.token_hex(16)}; Path=/; HttpOnly; SameSite=Lax; Max-Age={YEAR_S}{secure}"
                headers = MutableHeaders(scope=message)
                headers.append("Set-Cookie", cookie)
                headers["Cache-Control"] = "no-store"
            await send(message)

        await self._app(scope, receive, send_with_cookie)
