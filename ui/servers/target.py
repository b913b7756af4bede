"""The servers that this page may ask for vectors. Which of them is used belongs to each page view, not to this process.

Asking a server what it is wakes no worker; only a question or a page does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from urllib.parse import urlsplit

from serving.client import EmbeddingClient, ModelInfo
from serving.errors import BadValueError, NotReadyError, ServingError
from serving.http.server import is_loopback
from serving.library.catalogue import FingerprintError
from serving.library.library import Library
from serving.library.records import CollectionKey
from ui.servers.state_feed import Board, Watch

ANSWER_S = 5.0
"""For a server to say what it is: it does so from memory, and somebody looks at the page meanwhile."""
NAME = re.compile(r"[^\s=&/][^=&/]{0,39}")
NAMED = re.compile(r"([^=]*)=((?:https?://|modal:).*)", re.DOTALL)


class Target:
    """One server. `name` is what addresses and API calls use; `watch` tells its state."""

    def __init__(self, client: EmbeddingClient, name: str = "", watch: Board | None = None) -> None:
        """Without a name it is called by its host and port, and shown by its title."""
        self.client = client
        self.named = bool(name)
        self.name = name or host(client.url)
        self.watch: Board = watch or Watch(None)
        self._info: ModelInfo | None = None

    @property
    def title(self) -> str:
        """What a person reads: the name that was given, else what the server last called itself."""
        return self.name if self.named or self._info is None else self._info.title

    @property
    def local(self) -> bool:
        """True if what is sent to it does not leave this machine."""
        try:
            return is_loopback(urlsplit(self.client.url).hostname or "")
        except ValueError:
            return False

    @property
    def known(self) -> ModelInfo | None:
        """What it last said of itself."""
        return self._info

    def info(self) -> ModelInfo:
        """What it says of itself now: it may have been started again with another model. Raises ServingError."""
        self._info = self.client.fetch_info(ANSWER_S)
        return self._info

    def check(self, library: Library, collection: CollectionKey) -> None:
        """Raises FingerprintError where its vectors cannot join the collection: known before a worker is woken.

        Says nothing where the server does not answer now. Raises ServingError for one that is none of ours.
        """
        if library.catalogue.read_collection(collection).fingerprint is None:
            return
        if self._info is not None:
            with suppress(FingerprintError):
                library.catalogue.check_fingerprint(collection, self._info.fingerprint)
                return
        with suppress(NotReadyError):
            library.catalogue.check_fingerprint(collection, self.info().fingerprint)


class Targets:
    """At least one; the first is taken where none is named."""

    def __init__(self, targets: Sequence[Target]) -> None:
        """Raises BadValueError for two of one name."""
        self._targets = list(targets)
        self._by_name = {target.name: target for target in targets}
        if len(self._by_name) < len(self._targets):
            raise BadValueError("two servers have the same name: give them names, as in --worker NAME=URL")

    def __iter__(self) -> Iterator[Target]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def first(self) -> Target:
        return self._targets[0]

    def of(self, name: object) -> Target:
        """Raises BadValueError that tells the names there are."""
        if not name:
            return self.first
        found = self._by_name.get(name) if isinstance(name, str) else None
        if found is None:
            names = ", ".join(self._by_name)
            raise BadValueError(f"there is no server with that name: {names}", param="target")
        return found

    def or_first(self, name: object) -> Target:
        """The one in an address, which may be an old one."""
        try:
            return self.of(name)
        except BadValueError:
            return self.first

    def choices(self) -> list[tuple[str, str]]:
        """(what is shown, name) of each; two of one title are told apart by their names."""
        titles = [target.title for target in self]
        return [
            (title if titles.count(title) == 1 else f"{title} ({target.name})", target.name)
            for title, target in zip(titles, self, strict=True)
        ]

    def introduce(self) -> Iterator[list[tuple[str, str]]]:
        """The choices as they are now, and again as each server without a title says its own.

        Who does not answer is asked again another time.
        """
        yield self.choices()
        unknown = [target for target in self if not target.named and target.known is None]
        if unknown:
            with ThreadPoolExecutor(len(unknown)) as pool:
                for _ in as_completed([pool.submit(met, target) for target in unknown]):
                    yield self.choices()

    def close(self) -> None:
        """Ends the waiting of every call, and the streams of their states."""
        for target in self:
            target.watch.close()
            target.client.close()


def met(target: Target) -> None:
    with suppress(ServingError):
        target.info()


def host(url: str) -> str:
    """Host, port and path, without what may be secret in an address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def named(text: str) -> tuple[str, str]:
    """`NAME=URL` or `URL` as (name or "", URL); a URL may also be `modal:APP`. Raises BadValueError."""
    found = NAMED.fullmatch(text)
    name, url = (found[1].strip(), found[2]) if found else ("", text)
    if found and not (NAME.fullmatch(name) and name.isprintable()):
        raise BadValueError(f"{name!r} is no name of a server: 1 to 40 printable characters without = & /")
    return name, url
