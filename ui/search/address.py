"""What the address of the page names of a search, and the searches that the browser's Back returns to.

An entry of the browser's history is written, and read again, by ui/static/address.js.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass

import gradio as gr
import orjson

from ui.search.question import LastSearch

QUERY_CHARS = 2000
"""Gradio sends the address along with every call, and a server takes only so long a one."""
SEARCHES_KEPT = 1024
"""Of all page views together: a question's vector takes 10 kB at most."""
NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Entry:
    """An entry of the browser's history: a place, what was asked there, and which page was opened."""

    collection: str = ""
    top_k: str = ""
    """Left out, as the server: the address stays as it is."""
    server: str = ""
    query: str = ""
    like: str = ""
    page: str = ""
    """The page that somebody opened; "" where the first one is shown."""
    search: str = ""
    """The id of the search, if it succeeded."""
    image: bool = False
    """Whether it was asked with an image, which the address does not hold."""
    returned: bool = False
    """Whether the browser asked for it, which has come back to it."""
    is_new: bool = True
    """Whether the browser goes on to it; else it takes the place of the current entry."""

    def to_json(self) -> str:
        """Return the entry as the browser is told. Two are never equal: the browser hears only of what changes."""
        told = {**asdict(self), "query": self.query[:QUERY_CHARS], "number": next(NUMBERS)}
        return orjson.dumps(told).decode().replace("<", "\\u003c")


def parse_entry(event: gr.EventData) -> Entry:
    """Return the entry that a browser asks for."""
    names = ("collection", "top_k", "server", "query", "like", "page", "search")
    words = {name: str(getattr(event, name, "")) for name in names}
    return Entry(**words, image=False, returned=True, is_new=False)


class SearchHistory:
    """The latest searches, by ids that nobody can guess: they are ranked again without asking a model. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._searches: OrderedDict[str, LastSearch] = OrderedDict()

    def keep(self, search: LastSearch) -> None:
        with self._lock:
            self._searches[search.id] = search
            self._searches.move_to_end(search.id)
            if len(self._searches) > SEARCHES_KEPT:
                self._searches.popitem(last=False)

    def find(self, search: str) -> LastSearch | None:
        with self._lock:
            return self._searches.get(search)
