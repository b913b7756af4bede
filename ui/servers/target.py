"""The servers that this page may ask for vectors. Which of them is used is kept by each page view, not by this process.

Asking a server for its model wakes no worker; only a question or a page does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from urllib.parse import urlsplit

from serving.client import EmbeddingClient, ModelInfo
from serving.errors import BadValueError, NotReadyError
from serving.http.server import is_loopback
from serving.library.catalogue import FingerprintError
from serving.library.library import Library
from serving.library.records import CollectionKey
from ui.servers.state import EngineState
from ui.servers.state_feed import EngineStateFeed, StateFeed

ANSWER_S = 5.0
"""A server reports its model in this time: it does so from memory, and somebody looks at the page meanwhile."""
BATCHES = 2
NAME = re.compile(r"[^\s=&/][^=&/]{0,39}")
NAME_AND_URL = re.compile(r"([^=]*)=((?:https?://|modal:).*)", re.DOTALL)


class Target:
    """One server. `name` is what addresses and API calls use; `feed` has its state."""

    def __init__(self, client: EmbeddingClient, name: str = "", feed: StateFeed | None = None) -> None:
        """Without a name it is called by its host and port, and shown by its title."""
        self.client = client
        self.has_name = bool(name)
        self.name = name or address_of(client.url)
        self.feed: StateFeed = feed or EngineStateFeed(None)
        self._info: ModelInfo | None = None

    @property
    def title(self) -> str:
        """Return what a person reads: the name that was given, else the title of its model as last reported."""
        return self.name if self.has_name or self._info is None else self._info.title

    @property
    def is_local(self) -> bool:
        """Whether pages and questions that are sent to it stay on this machine."""
        try:
            return is_loopback(urlsplit(self.client.url).hostname or "")
        except ValueError:
            return False

    @property
    def may_answer_soon(self) -> bool:
        """Whether it answers without a start, as far as its state is known."""
        state = self.feed.state
        return not isinstance(state, EngineState) or state.state == "serving"

    @property
    def known_info(self) -> ModelInfo | None:
        """Its model as last reported."""
        return self._info

    def fetch_info(self) -> ModelInfo:
        """Return its model as it is now: it may have been started again with another one. Raises ServingError."""
        self._info = self.client.fetch_info(ANSWER_S)
        return self._info

    def fetch_places(self) -> int | None:
        """Return how many pages it takes at once, as it is now; None where it says nothing of that.

        For each of several workers a batch that it works on, and one that waits: the next worker wakes for that one.
        """
        state = self.feed.fetch_state()
        return None if state is None or len(state.workers) < 2 else BATCHES * state.batch * len(state.workers)

    def check_fingerprint(self, library: Library, collection: CollectionKey) -> None:
        """Raises FingerprintError where its vectors cannot join the collection, before a worker is woken.

        Returns where the server does not answer now. Raises ServingError for an answer that is not a server's of ours.
        """
        catalogue = library.catalogue
        if catalogue.read_collection(collection).fingerprint is None:
            return
        if (known := self.known_info) is not None:
            with suppress(FingerprintError):
                catalogue.check_fingerprint(collection, known.fingerprint)
                return
        with suppress(NotReadyError):
            catalogue.check_fingerprint(collection, self._fetch_info_again().fingerprint)

    def _fetch_info_again(self) -> ModelInfo:
        """Return its model once the known one has turned out to be another."""
        return self.fetch_info()


class Targets:
    """At least one server; the first is taken where none is named."""

    def __init__(self, targets: Sequence[Target]) -> None:
        """Raises BadValueError for two of one name."""
        self._by_name = {target.name: target for target in targets}
        if len(self._by_name) < len(targets):
            raise BadValueError("two servers have the same name: give them names, as in --worker NAME=URL")

    def __iter__(self) -> Iterator[Target]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def first(self) -> Target:
        return next(iter(self))

    def get(self, name: object) -> Target:
        """Raises BadValueError that lists the names there are."""
        if not name:
            return self.first
        found = self._by_name.get(name) if isinstance(name, str) else None
        if found is None:
            names = ", ".join(self._by_name)
            raise BadValueError(f"there is no server with that name: {names}", param="target")
        return found

    def get_or_first(self, name: object) -> Target:
        """Return the server that an address names, which may be an old address."""
        try:
            return self.get(name)
        except BadValueError:
            return self.first

    def list_choices(self) -> list[tuple[str, str]]:
        """Return (what is shown, name) of each; two of one title are told apart by their names."""
        titles = [target.title for target in self]
        return [
            (title if titles.count(title) == 1 else f"{title} ({target.name})", target.name)
            for title, target in zip(titles, self, strict=True)
        ]

    def fetch_titles(self) -> Iterator[list[tuple[str, str]]]:
        """Yield the choices as they are now, and again as each server without a title reports its own.

        A server that does not answer is asked again another time.
        """
        yield self.list_choices()
        unknown = [target for target in self if not target.has_name and target.known_info is None]
        if unknown:
            with ThreadPoolExecutor(len(unknown)) as pool:
                for _ in as_completed([pool.submit(target.fetch_info) for target in unknown]):
                    yield self.list_choices()

    def close(self) -> None:
        """End the waiting of every call, and the streams of their states."""
        for target in self:
            target.feed.close()
            target.client.close()


def address_of(url: str) -> str:
    """Return host, port and path, without what may be secret in an address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def split_name_and_url(text: str) -> tuple[str, str]:
    """Return `NAME=URL` or `URL` as (name or "", URL); a URL may also be `modal:APP`. Raises BadValueError."""
    found = NAME_AND_URL.fullmatch(text)
    name, url = (found[1].strip(), found[2]) if found else ("", text)
    if found and not (NAME.fullmatch(name) and name.isprintable()):
        raise BadValueError(f"{name!r} is no name of a server: 1 to 40 printable characters without = & /")
    return name, url
